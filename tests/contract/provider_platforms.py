"""What the providers of the contract suite stand on: each a platform with two subnets and three nodes, told to fail."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Protocol

import msgspec

from proxypool.core.config import ProviderConfig
from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec
from proxypool.core.scaling.documents import Action, ActionKind, Spares, Step
from proxypool.core.scaling.retry import ErrorKind
from proxypool.providers import registry
from proxypool.providers.contract import Addresses, PoolView, Provider
from tests.fakes.baidu import ACCESS_KEY, SECRET_KEY, FakeBaidu, Fault

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
POOL = "test"
CIDR = (IPv4Network("172.16.101.0/24"),)
SUBNETS = (
    SubnetSpec(
        id="s1",
        cidrs=CIDR,
        key=1,
        tenant="one",
        labels={"baidu-vpc": "vpc-c1", "baidu-subnet": "sbn-c1", "acme-network": "c1"},
    ),
    SubnetSpec(
        id="s2",
        cidrs=CIDR,
        key=2,
        tenant="two",
        labels={"baidu-vpc": "vpc-c2", "baidu-subnet": "sbn-c2", "acme-network": "c2"},
    ),
)
NODES = tuple(
    NodeSpec(id=f"node-{letter}", underlay=IPv4Address(f"192.168.0.{number}"), labels={"baidu-instance": f"i-{letter}"})
    for number, letter in enumerate("abc", start=11)
)


class Platform(Protocol):
    """One of them."""

    breaks: tuple[ErrorKind, ...]
    """What it can be told to fail with."""

    def provider(self) -> Provider:
        """A provider as another controller would make it: nothing is remembered in the process."""

    def note(self, subnet: str, pair: str, cards: Iterable[MemberSpec], addresses: Addresses | None) -> None:
        """What the controller writes into the action's document; nothing of it: the action has ended."""

    def break_(self, kind: ErrorKind) -> None:
        """From now on calls fail with this."""

    def mend(self) -> None:
        """No more."""


def cards_of(subnet: str) -> tuple[MemberSpec, ...]:
    """Two cards on each node; both customers have the same addresses."""
    return tuple(
        MemberSpec(
            node=node.id,
            eni=f"{subnet}-{node.id}-{number}",
            address=IPv4Interface(f"172.16.101.{20 + 10 * index + number}/24"),
            gateway=IPv4Address("172.16.101.1"),
        )
        for index, node in enumerate(NODES)
        for number in (1, 2)
    )


HAVIPS = tuple(IPv4Address(f"192.168.4.{number}") for number in range(100, 108))


# -- spare --------------------------------------------------------------------------------------------------------------


class SparePlatform:
    """Documents in memory. Both subnets list the same HaVips, as one function network has."""

    breaks: tuple[ErrorKind, ...] = (ErrorKind.QUOTA,)

    def __init__(self) -> None:
        self._spares = {subnet.id: Spares(members=cards_of(subnet.id), havips=HAVIPS) for subnet in SUBNETS}
        self._actions: dict[str, Action] = {}
        self._is_empty = False

    def provider(self) -> Provider:
        return registry.create(ProviderConfig(name="spare"), self._view)

    def _view(self) -> PoolView:
        return PoolView(spares={} if self._is_empty else self._spares, actions=tuple(self._actions.values()))

    def note(self, subnet: str, pair: str, cards: Iterable[MemberSpec], addresses: Addresses | None) -> None:
        key = f"{subnet}/{pair}"
        self._actions.pop(key, None)
        if cards or addresses:
            self._actions[key] = Action(
                id=key,
                kind=ActionKind.ADD,
                subnet=subnet,
                pair=pair,
                step=Step.ACQUIRE,
                reason="load",
                began=0.0,
                step_since=0.0,
                members=tuple(cards),
                havip=addresses.havip if addresses else None,
                provider="spare",
            )

    def break_(self, kind: ErrorKind) -> None:
        assert kind is ErrorKind.QUOTA
        self._is_empty = True

    def mend(self) -> None:
        self._is_empty = False


# -- command ------------------------------------------------------------------------------------------------------------


class CommandPlatform:
    """The example of the documentation, behind a few lines of shell that break it."""

    breaks = tuple(ErrorKind)

    def __init__(self, directory: Path) -> None:
        self._trouble = directory / "trouble"
        inventory = directory / "inventory.json"
        stock = {
            "havips": [str(havip) for havip in HAVIPS],
            "cards": {
                subnet.id: [msgspec.to_builtins(card, enc_hook=str) for card in cards_of(subnet.id)]
                for subnet in SUBNETS
            },
        }
        inventory.write_text(json.dumps(stock))
        example = directory / "command_provider.py"
        shutil.copy(EXAMPLES / "command_provider.py", example)
        wrapper = directory / "provider"
        trouble = shlex.quote(str(self._trouble))
        wrapper.write_text(
            f"#!/bin/sh\nif [ -e {trouble} ]; then cat {trouble}; exit 1; fi\n"
            f"exec {shlex.quote(sys.executable)} {shlex.quote(str(example))}\n"
        )
        wrapper.chmod(0o755)
        self._table = {"program": [str(wrapper)], "environment": {"INVENTORY": str(inventory)}}

    def provider(self) -> Provider:
        return registry.create(ProviderConfig(name="command", tables={"command": self._table}), PoolView)

    def note(self, subnet: str, pair: str, cards: Iterable[MemberSpec], addresses: Addresses | None) -> None:
        """The program has its own file."""

    def break_(self, kind: ErrorKind) -> None:
        error = {"kind": kind.value, "message": "as the test wants it", "retry_after_s": 7}
        self._trouble.write_text(json.dumps({"version": 1, "error": error}))

    def mend(self) -> None:
        self._trouble.unlink()


# -- baidu --------------------------------------------------------------------------------------------------------------


class BaiduPlatform:
    """The fake of the API."""

    breaks = tuple(ErrorKind)
    _faults: Mapping[ErrorKind, Fault] = {
        ErrorKind.THROTTLED: Fault("*", "error", 429, "RequestRateLimit"),
        ErrorKind.UNAVAILABLE: Fault("*", "error", 503, "ServiceUnavailable"),
        ErrorKind.QUOTA: Fault("*", "error", 403, "EniQuotaExceeded"),
        ErrorKind.AUTH: Fault("*", "error", 403, "AccessDenied"),
        ErrorKind.REFUSED: Fault("*", "error", 400, "InappropriateJSON"),
    }

    def __init__(self, directory: Path, api: FakeBaidu) -> None:
        self.api = api
        self.credentials = directory / "credentials.toml"
        self.credentials.write_text(f'access_key_id = "{ACCESS_KEY}"\nsecret_access_key = "{SECRET_KEY}"\n')
        self.credentials.chmod(0o600)

    def provider(self, **more: Any) -> Provider:
        table = {
            "endpoint": self.api.url,
            "havip_vpc": "vpc-function",
            "havip_subnet": "sbn-function",
            "egress": True,
            "credentials_file": str(self.credentials),
            "poll_interval_s": 0.01,
            "request_timeout_s": 1.0,
            **more,
        }
        return registry.create(ProviderConfig(name="baidu", tables={"baidu": table}), PoolView)

    def note(self, subnet: str, pair: str, cards: Iterable[MemberSpec], addresses: Addresses | None) -> None:
        """The cloud has its own."""

    def break_(self, kind: ErrorKind) -> None:
        self.api.faults.append(replace(self._faults[kind], times=-1))

    def mend(self) -> None:
        self.api.faults.clear()


@contextmanager
def baidu_platform(directory: Path) -> Iterator[BaiduPlatform]:
    """The fake API, running."""
    api = FakeBaidu()
    api.start()
    try:
        yield BaiduPlatform(directory, api)
    finally:
        api.stop()


# -- the example of the documentation -------------------------------------------------------------------------------------


def acme_example() -> Any:
    """docs/examples/acme_provider.py as a module."""
    spec = importlib.util.spec_from_file_location("acme_provider", EXAMPLES / "acme_provider.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class AcmePlatform:
    """Acme, in memory."""

    breaks: tuple[ErrorKind, ...] = (ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE, ErrorKind.QUOTA)
    example: Any = field(default_factory=acme_example)
    things: dict[str, tuple[str, str]] = field(default_factory=dict)
    trouble: str = ""

    def provider(self) -> Provider:
        provider: Provider = self.example.Acme(lambda: self)
        return provider

    def note(self, subnet: str, pair: str, cards: Iterable[MemberSpec], addresses: Addresses | None) -> None:
        """Acme has its own."""

    def break_(self, kind: ErrorKind) -> None:
        codes = {ErrorKind.THROTTLED: "slow-down", ErrorKind.QUOTA: "full", ErrorKind.UNAVAILABLE: "maintenance"}
        self.trouble = codes[kind]

    def mend(self) -> None:
        self.trouble = ""

    def ensure_card(self, name: str, network: str, machine: str) -> tuple[str, str]:
        self._complain()
        assert network in {"c1", "c2"}
        number = len(self.things) + 1
        return self.things.setdefault(name, (f"02:00:00:00:00:{number:02x}", f"172.16.101.{20 + number}/24"))

    def ensure_address(self, name: str, machines: list[str]) -> str:
        self._complain()
        assert machines
        return self.things.setdefault(name, ("", str(HAVIPS[0] + len(self.things))))[1]

    def delete(self, name: str) -> None:
        self._complain()
        self.things.pop(name, None)

    def names(self) -> list[str]:
        self._complain()
        return list(self.things)

    def free_slots(self, machine: str) -> int:
        self._complain()
        return 2 - sum(name.endswith(f"/{machine}") for name in self.things)

    def _complain(self) -> None:
        if self.trouble:
            raise self.example.AcmeError(self.trouble)
