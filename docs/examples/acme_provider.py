"""An example of a provider: Acme, a platform with five calls. See "Writing a provider" in docs/providers.md.

Its package declares, so that `name = "acme"` in the section `[provider]` finds it:

    [project.entry-points."proxypool.providers"]
    acme = "acme_provider:create"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface
from typing import Any, Protocol

from msgspec import Struct

from proxypool.core.config import section
from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec
from proxypool.providers.contract import (
    Addresses,
    Held,
    Intent,
    Offer,
    PoolView,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unavailable,
)


class AcmeError(Exception):
    """What Acme's library raises."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class AcmeClient(Protocol):
    """Acme's library, as far as we need it. Things have a name, which we choose, and are what they are by it."""

    def ensure_card(self, name: str, network: str, machine: str) -> tuple[str, str]:
        """MAC address, and address with prefix length."""

    def ensure_address(self, name: str, machines: list[str]) -> str:
        """A floating address that these machines may have."""

    def delete(self, name: str) -> None:
        """Also of what is not there."""

    def names(self) -> list[str]:
        """Of all that there is."""

    def free_slots(self, machine: str) -> int:
        """How many cards it can still get."""


class AcmeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[provider.acme]`."""

    url: str


def create(table: Mapping[str, Any], view: Callable[[], PoolView]) -> Acme:  # noqa: ARG001 - we need no look at the pool
    """The entry point. It checks the table and speaks to nobody."""
    config = section(table, AcmeConfig, "provider.acme")
    return Acme(lambda: connect(config.url))


def connect(url: str) -> AcmeClient:
    """Acme's library would be imported and used here."""
    raise Unavailable(f"no Acme at {url}")


class Acme:
    """Remembers nothing: what belongs to whom is in the names."""

    name = "acme"

    def __init__(self, client: Callable[[], AcmeClient]) -> None:
        self._client = client

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:  # noqa: ARG002
        """Acme counts for us."""
        return {node.id: Offer(self._ask(lambda acme, node=node: acme.free_slots(node.id))) for node in nodes}

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:  # noqa: ARG002
        """`ensure_address` is idempotent by name; so are we."""
        machines = [node.id for node in nodes]
        return Addresses(IPv4Address(self._ask(lambda acme: acme.ensure_address(_name(intent), machines))))

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:  # noqa: ARG002
        """The network's name is a label of the subnet."""
        network = intent.subnet.labels["acme-network"]
        mac, address = self._ask(lambda acme: acme.ensure_card(_name(intent, node.id), network, node.id))
        return MemberSpec(node=node.id, eni=mac, address=IPv4Interface(address))

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:  # noqa: ARG002
        """What is not there is released."""
        self._ask(lambda acme: acme.delete(_name(intent, node)))

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:  # noqa: ARG002
        """What is not there is released."""
        self._ask(lambda acme: acme.delete(_name(intent)))

    def held(self, pool: str, subnets: Iterable[SubnetSpec], deadline_s: float) -> tuple[Held, ...]:  # noqa: ARG002
        """Names tell all."""
        ours = [
            name.split("/") for name in self._ask(lambda acme: acme.names()) if name.startswith(f"proxypool/{pool}/")
        ]
        return tuple(Held(subnet, pair, "".join(node)) for _, _, subnet, pair, *node in ours)

    def _ask(self, call: Callable[[AcmeClient], Any]) -> Any:
        """Acme's errors are sorted here, and nowhere else."""
        try:
            return call(self._client())
        except AcmeError as error:
            raise _sorted(error) from error
        except OSError as error:
            raise Unavailable(f"Acme does not answer: {error}") from error


def _sorted(error: AcmeError) -> ProviderError:
    if error.code == "slow-down":
        return Throttled("Acme wants fewer calls", retry_after_s=5.0)
    if error.code == "full":
        return QuotaExceeded("Acme has no more of them")
    return Unavailable(f"Acme: {error.code}")


def _name(intent: Intent, *node: str) -> str:
    return "/".join(("proxypool", intent.pool, intent.subnet.id, intent.pair, *node))
