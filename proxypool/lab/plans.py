"""What a lab's customers have: subnets with their pairs of nodes, and instances that reach them. Pure.

`topology` makes these plans; whoever looks at a pool in a lab reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from proxypool.lab.errors import LabError


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """A node's place in the pair of a customer subnet."""

    node: str
    eni: str
    address: str
    """Of the ENI, with prefix length."""


@dataclass(frozen=True, slots=True)
class PairPlan:
    """Two nodes that serve a customer's subnet behind one HaVip."""

    id: str
    havip: str
    members: tuple[MemberPlan, MemberPlan]
    egress_address: str | None = None
    """The source that servers see; None: that of the master's ENI."""


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    """A customer's subnet: its own bridge, one server, and pairs of nodes with an ENI each."""

    number: int
    id: str
    tenant: str
    cidr: str
    key: int
    database: str
    database_ip: str
    pairs: tuple[PairPlan, ...]

    @property
    def bridge(self) -> str:
        """Its bridge in the fabric."""
        return f"customer{self.number}"

    @property
    def havip(self) -> str:
        """Of its first pair."""
        return self.pairs[0].havip

    @property
    def members(self) -> tuple[MemberPlan, MemberPlan]:
        """Of its first pair."""
        return self.pairs[0].members

    @property
    def all_members(self) -> tuple[MemberPlan, ...]:
        """Of all its pairs."""
        return tuple(member for pair in self.pairs for member in pair.members)

    def through(self, pair: str) -> Self:
        """The same subnet with this pair only, for whatever looks at a subnet's first pair. `LabError` if none."""
        found = tuple(plan for plan in self.pairs if plan.id == pair)
        if not found:
            raise LabError(f"subnet {self.id} has no pair {pair!r}; it has {', '.join(plan.id for plan in self.pairs)}")
        return replace(self, pairs=found)

    def pair_with(self, source: str) -> str:
        """The pair whose egress address, or ENI, has this address: the source that servers see. `LabError` if none."""
        for pair in self.pairs:
            if source == pair.egress_address or any(
                member.address.partition("/")[0] == source for member in pair.members
            ):
                return pair.id
        raise LabError(f"no pair of subnet {self.id} has the address {source}")


@dataclass(frozen=True, slots=True)
class Instance:
    """One function instance: a machine behind a host."""

    name: str
    host: int
    number: int
    """Among all of the lab, from 1."""
    address: str
