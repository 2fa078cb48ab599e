"""The provider `spare`: cards and addresses that are already in the pool and wait to be used.

An operator lists them in the subnet's document `spares`; what a pair or an action names is taken. So nothing is kept
here but what was answered and is in no document yet: two pairs that ask at the same time never get the same.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, TypeVar

import msgspec

from proxypool.core.config import section
from proxypool.core.model import MemberSpec, NodeSpec, PairSpec, SubnetSpec
from proxypool.core.scaling.documents import Spares
from proxypool.providers.contract import Addresses, Held, Intent, Offer, PoolView, QuotaExceeded

NAME = "spare"
T = TypeVar("T")
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
        self._taken = _Taken()
        self._given: dict[Key, _Given] = {}

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:  # noqa: ARG002 - the contract's
        """Node -> how many of the subnet's spare cards there are free."""
        with self._lock:
            stock = self._stock()
            free = Counter(member.node for member in stock.free_members(subnet.id))
        return {
            node.id: Offer(free[node.id])
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
            has = stock.has(key)
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
            has = stock.has(key).members.get(node.id)
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
            return tuple(held for key in sorted(stock.held()) for held in _held(key, stock.has(key)))

    def _stock(self) -> _Stock:
        """The pool as it is now; forgets what documents tell by now."""
        view = self._view()
        under_way = {(action.subnet, action.pair) for action in view.actions}
        for key, given in list(self._given.items()):
            if given.was_seen and key not in under_way:
                del self._given[key]
            given.was_seen = given.was_seen or key in under_way
        self._taken.follow(view.pairs)
        return _Stock(view, self._taken, self._given)


class _Taken:
    """What the pairs of the pool have, by their documents. Follows one view after the other: a subnet whose pairs are
    the same object as before is not looked at again, so that a card costs the same in a large pool as in a small one.
    """

    def __init__(self) -> None:
        self._pairs: dict[str, Mapping[str, PairSpec]] = {}
        self.havips: Counter[IPv4Address] = Counter()
        """All subnets share the function network, so whoever has one has it."""
        self.cards: Counter[tuple[str, str]] = Counter()

    def follow(self, pairs: Mapping[str, Mapping[str, PairSpec]]) -> None:
        """These are there now."""
        for name in self._pairs.keys() - pairs.keys():
            self._add(self._pairs.pop(name), -1)
        for name, now in pairs.items():
            before = self._pairs.get(name)
            if before is not now:
                self._add(before or {}, -1)
                self._add(now, 1)
                self._pairs[name] = now

    def _add(self, pairs: Mapping[str, PairSpec], times: int) -> None:
        for pair in pairs.values():
            _count(self.havips, pair.havip, times)
            for member in pair.members:
                _count(self.cards, _card(member), times)


def _count(counter: Counter[T], what: T, times: int) -> None:
    counter[what] += times
    if not counter[what]:
        del counter[what]


class _Stock:
    """What there is, and who has it, at one moment."""

    def __init__(self, view: PoolView, taken: _Taken, given: Mapping[Key, _Given]) -> None:
        self._view, self._taken, self._given = view, taken, given
        self._coming: dict[Key, _Given] = {}
        """Of pairs that an action is about, or that something was answered for: what they have and are to have."""
        self._providers: dict[Key, str] = {}
        for action in view.actions:
            key = (action.subnet, action.pair)
            if action.provider:
                self._providers[key] = action.provider
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
        if key not in self._coming:
            self._coming[key] = self._by_document(key)
        has = self._coming[key]
        has.havip = has.havip or havip
        has.egress_address = has.egress_address or egress_address
        for member in members:
            has.members.setdefault(member.node, member)

    def _by_document(self, key: Key) -> _Given:
        subnet, name = key
        pair = self._view.pairs.get(subnet, {}).get(name)
        if pair is None:
            return _Given()
        return _Given(pair.havip, pair.egress_address, {member.node: member for member in pair.members})

    def has(self, key: Key) -> _Given:
        """What a pair has, or is to have."""
        return self._coming.get(key) or self._by_document(key)

    def held(self) -> set[Key]:
        """Pairs that have something of this provider."""
        every = (pair for pairs in self._view.pairs.values() for pair in pairs.values())
        providers = {(pair.subnet, pair.id): pair.provider for pair in every} | self._providers
        return {key for key, provider in providers.items() if provider == NAME} | set(self._given)

    def spares(self, subnet: str) -> Spares:
        """What an operator has listed."""
        return self._view.spares.get(subnet, Spares())

    def _of_subnet(self, subnet: str) -> list[_Given]:
        keys = dict.fromkeys((subnet, name) for name in self._view.pairs.get(subnet, {}))
        keys |= dict.fromkeys(key for key in self._coming if key[0] == subnet)
        return [self.has(key) for key in keys]

    def free_havips(self, subnet: str) -> Iterator[IPv4Address]:
        """Those that no pair of any subnet has."""
        coming = {has.havip for has in self._coming.values()}
        return (
            havip for havip in self.spares(subnet).havips if havip not in self._taken.havips and havip not in coming
        )

    def free_egress_addresses(self, subnet: str) -> Iterator[IPv4Address]:
        """Each customer's network has addresses of its own."""
        taken = {has.egress_address for has in self._of_subnet(subnet)}
        return (address for address in self.spares(subnet).egress_addresses if address not in taken)

    def free_members(self, subnet: str) -> Iterator[MemberSpec]:
        """A card is one whatever it is called: also the address tells it, within a subnet."""
        coming = {_card(member) for has in self._coming.values() for member in has.members.values()}
        addresses = {member.address.ip for has in self._of_subnet(subnet) for member in has.members.values()}
        return (
            member
            for member in self.spares(subnet).members
            if _card(member) not in self._taken.cards
            and _card(member) not in coming
            and member.address.ip not in addresses
        )


def _card(member: MemberSpec) -> tuple[str, str]:
    return member.node, member.eni.lower()


def _held(key: Key, has: _Given) -> Iterator[Held]:
    subnet, pair = key
    for node, member in sorted(has.members.items()):
        yield Held(subnet, pair, node, member.eni)
    if has.havip is not None:
        yield Held(subnet, pair, handle=str(has.havip))
