"""What stands in for a provider that cannot be made: it refuses everything, and says why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec
from proxypool.providers.contract import Addresses, Held, Intent, Offer, Refused


class MissingProvider:
    """See the module's text. Every method raises `Refused`."""

    def __init__(self, name: str, why: str) -> None:
        """`name`: of the one that is missing, `why`: for people."""
        self.name, self._why = name, why

    def _refusal(self) -> Refused:
        return Refused(f"the provider {self.name} is not there: {self._why}")

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:  # noqa: ARG002 - the contract's
        """See `Provider`."""
        raise self._refusal()

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:  # noqa: ARG002
        """See `Provider`."""
        raise self._refusal()

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:  # noqa: ARG002
        """See `Provider`."""
        raise self._refusal()

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:  # noqa: ARG002
        """See `Provider`."""
        raise self._refusal()

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:  # noqa: ARG002
        """See `Provider`."""
        raise self._refusal()

    def held(self, pool: str, subnets: Iterable[SubnetSpec], deadline_s: float) -> tuple[Held, ...]:  # noqa: ARG002
        """See `Provider`."""
        raise self._refusal()
