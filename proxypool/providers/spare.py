"""The provider `spare`: cards and addresses that are already in the pool and wait to be used.

An operator lists them in the subnet's document `spares`; what a pair or an action names is taken. So nothing is kept
here but what was answered and is in no document yet: two pairs that ask at the same time never get the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import msgspec

from proxypool.core.config import section
from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec
from proxypool.core.scaling.documents import Spares
from proxypool.providers.contract import Addresses, Held, Intent, Offer, PoolView, QuotaExceeded

NAME = "spare"
Key = tuple[str, str]
"""Subnet and pair."""


class SpareConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[provider.spare]` has no keys."""


def create(table: Mapping[str, Any], view: Callable[[], PoolView]) -> Spare:
    """See `contract.Factory`."""
    section(table, SpareConfig, f"provider.{NAME}")
    return Spare(view)


@dataclass(slots=True)
class _Given:
    """What was answered for a pair."""

    havip: IPv4Address | None = None
    egress_address: IPv4Address | None = None
    members: dict[str, MemberSpec] = field(default_factory=dict)
    """By node."""
    was_seen: bool = False
    """Its action was seen, so that its absence means that it has ended."""


class Spare:
    """See the module's text. Answers at once, so deadlines do not matter."""

    name = NAME

    def __init__(self, view: Callable[[], PoolView]) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._given: dict[Key, _Given] = {}

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:  # noqa: ARG002 - the contract's
        """Node -> how many of the subnet's spare cards there are free."""
        with self._lock:
            stock = self._stock()
            free = [member.node for member in stock.free_members(subnet.id)]
        return {
            node.id: Offer(free.count(node.id))
            if node.id in free
            else Offer(0, f"no spare card of subnet {subnet.id} is free on node {node.id}")
            for node in nodes
        }

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:  # noqa: ARG002
        """What the pair or its action has, else the first that are free.

        Raises:
            QuotaExceeded: none is free.
        """
        key = (intent.subnet.id, intent.pair)
        with self._lock:
            stock = self._stock()
            has = stock.has[key] if key in stock.has else _Given()
            spares = stock.spares(intent.subnet.id)
            havip = has.havip or next(iter(stock.free_havips(intent.subnet.id)), None)
            if havip is None:
                raise QuotaExceeded(f"no spare HaVip of subnet {intent.subnet.id} is free")
            egress = has.egress_address
            # A pair that has a HaVip and no egress address was made before there were any; it stays as it is.
            if egress is None and has.havip is None and spares.egress_addresses:
                egress = next(iter(stock.free_egress_addresses(intent.subnet.id)), None)
                if egress is None:
                    raise QuotaExceeded(f"no spare egress address of subnet {intent.subnet.id} is free")
            given = self._given.setdefault(key, _Given())
            given.havip, given.egress_address = havip, egress
        return Addresses(havip, egress)

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:  # noqa: ARG002
        """What the pair or its action has on this node, else the first card that is free there.

        Raises:
            QuotaExceeded: none is free.
        """
        key = (intent.subnet.id, intent.pair)
        with self._lock:
            stock = self._stock()
            has = stock.has[key].members.get(node.id) if key in stock.has else None
            free = (member for member in stock.free_members(intent.subnet.id) if member.node == node.id)
            member = has or next(free, None)
            if member is None:
                raise QuotaExceeded(f"no spare card of subnet {intent.subnet.id} is free on node {node.id}")
            self._given.setdefault(key, _Given()).members[node.id] = member
        return member

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:  # noqa: ARG002
        """It is free as soon as no document names it."""
        with self._lock:
            given = self._given.get((intent.subnet.id, intent.pair))
            if given is not None:
                given.members.pop(node, None)

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:  # noqa: ARG002
        """They are free as soon as no document names them."""
        with self._lock:
            given = self._given.get((intent.subnet.id, intent.pair))
            if given is not None:
                given.havip = given.egress_address = None

    def held(self, pool: str, subnets: Iterable[SubnetSpec], deadline_s: float) -> tuple[Held, ...]:  # noqa: ARG002
        """What pairs and actions of this provider name, and what was answered and is in no document yet."""
        with self._lock:
            stock = self._stock()
            keys = {key for key, provider in stock.providers.items() if provider == NAME} | set(self._given)
            return tuple(held for key in sorted(keys) for held in _held(key, stock.has.get(key, _Given())))

    def _stock(self) -> _Stock:
        """The pool as it is now; forgets what documents tell by now."""
        view = self._view()
        under_way = {(action.subnet, action.pair) for action in view.actions}
        for key, given in list(self._given.items()):
            if given.was_seen and key not in under_way:
                del self._given[key]
            given.was_seen = given.was_seen or key in under_way
        return _Stock(view, self._given)


class _Stock:
    """What there is, and who has it, at one moment."""

    def __init__(self, view: PoolView, given: Mapping[Key, _Given]) -> None:
        self._view = view
        self.has: dict[Key, _Given] = {}
        self.providers: dict[Key, str] = {}
        for pairs in view.pairs.values():
            for pair in pairs.values():
                key = (pair.subnet, pair.id)
                self.providers[key] = pair.provider
                self._note(key, pair.havip, pair.egress_address, pair.members)
        for action in view.actions:
            key = (action.subnet, action.pair)
            if action.provider:
                self.providers[key] = action.provider
            self._note(key, action.havip, action.egress_address, action.members)
        for key, one in given.items():
            self._note(key, one.havip, one.egress_address, one.members.values())

    def _note(
        self,
        key: Key,
        havip: IPv4Address | None,
        egress_address: IPv4Address | None,
        members: Iterable[MemberSpec],
    ) -> None:
        """What is noted first, by a pair's document, stands."""
        has = self.has.setdefault(key, _Given())
        has.havip = has.havip or havip
        has.egress_address = has.egress_address or egress_address
        for member in members:
            has.members.setdefault(member.node, member)

    def spares(self, subnet: str) -> Spares:
        return self._view.spares.get(subnet, Spares())

    def free_havips(self, subnet: str) -> Iterator[IPv4Address]:
        """All subnets share the function network, so whoever has one has it."""
        taken = {has.havip for has in self.has.values()}
        return (havip for havip in self.spares(subnet).havips if havip not in taken)

    def free_egress_addresses(self, subnet: str) -> Iterator[IPv4Address]:
        """Each customer's network has addresses of its own."""
        taken = {has.egress_address for (other, _), has in self.has.items() if other == subnet}
        return (address for address in self.spares(subnet).egress_addresses if address not in taken)

    def free_members(self, subnet: str) -> Iterator[MemberSpec]:
        """A card is one whatever it is called: also the address tells it, within a subnet."""
        cards = {_card(member) for has in self.has.values() for member in has.members.values()}
        addresses = {
            member.address.ip
            for (other, _), has in self.has.items()
            if other == subnet
            for member in has.members.values()
        }
        return (
            member
            for member in self.spares(subnet).members
            if _card(member) not in cards and member.address.ip not in addresses
        )


def _card(member: MemberSpec) -> tuple[str, str]:
    return member.node, member.eni.lower()


def _held(key: Key, has: _Given) -> Iterator[Held]:
    subnet, pair = key
    for node, member in sorted(has.members.items()):
        yield Held(subnet, pair, node, member.eni)
    if has.havip is not None:
        yield Held(subnet, pair, handle=str(has.havip))
