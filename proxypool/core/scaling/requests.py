"""What an operator asks for of a subnet's size and of its spares, checked and applied to what there is. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

from proxypool.core.errors import InvalidInput
from proxypool.core.model import MemberSpec, PairSpec, Snapshot, SubnetSpec
from proxypool.core.scaling.documents import Action, Spares
from proxypool.core.scaling.model import MAX_PAIRS, ScalingMode, ScalingSpec
from proxypool.core.validation import require_name

_Count = Annotated[int, Meta(ge=1, le=MAX_PAIRS)]


class ScalingRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A size as asked for; None: as it is, or the default. Whether it is paused is no part of a request."""

    min_pairs: _Count | None = None
    max_pairs: _Count | None = None
    mode: ScalingMode | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == ScalingRequest()

    def applied(self, subnet: str, current: ScalingSpec | None) -> ScalingSpec:
        """The subnet's scaling with this.

        A `max_pairs` that nobody gave follows a `min_pairs` above it.

        Raises:
            InvalidInput: a number out of range, or the smallest number is above the largest.
        """
        base = current or ScalingSpec()
        low = base.min_pairs if self.min_pairs is None else self.min_pairs
        high = base.max_pairs if self.max_pairs is None else self.max_pairs
        for what, count in (("min", low), ("max", high)):
            if not 1 <= count <= MAX_PAIRS:
                raise InvalidInput(f"{what} pairs {count} of subnet {subnet} is out of range: choose 1 to {MAX_PAIRS}")
        if current is None and self.max_pairs is None:
            high = max(high, low)
        if low > high:
            raise InvalidInput(
                f"subnet {subnet} cannot have at least {low} pairs and at most {high}: "
                f"{'raise the maximum' if self.max_pairs is None else 'lower the minimum'} as well"
            )
        return replace(base, min_pairs=low, max_pairs=high, mode=self.mode or base.mode)


class SparesRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Spares as asked for, all of a subnet's."""

    members: tuple[MemberSpec, ...] = ()
    havips: tuple[IPv4Address, ...] = ()
    egress_addresses: tuple[IPv4Address, ...] = ()


Card: TypeAlias = tuple[str, str]
"""Node, and ENI in lower case."""


def card_of(node: str, eni: str) -> Card:
    """How a card is known."""
    return node, eni.lower()


class Taken(Struct, frozen=True):
    """Who uses cards and floating addresses: a pair's name, or what an action does."""

    cards: Mapping[Card, str]
    addresses: Mapping[IPv4Address, str]


def taken(subnet: str, snapshot: Snapshot, actions: Iterable[Action]) -> Taken:
    """What the pairs of a subnet, and its actions under way, use."""
    cards: dict[Card, str] = {}
    addresses: dict[IPv4Address, str] = {}
    users: list[tuple[str, PairSpec | Action]] = [
        (f"{action.kind.value} of {subnet}/{action.pair}", action) for action in actions
    ]
    users += [(f"{subnet}/{pair.id}", pair) for pair in snapshot.pairs.get(subnet, {}).values()]
    for name, user in users:
        cards |= {card_of(member.node, member.eni): name for member in user.members}
        addresses |= {address: name for address in (user.havip, user.egress_address) if address is not None}
    return Taken(cards, addresses)


def with_spares(old: Spares, more: SparesRequest) -> Spares:
    """The spares and these; what is there already is there once."""
    given = {card_of(member.node, member.eni): member for member in more.members}
    members = [given.pop(card_of(member.node, member.eni), member) for member in old.members]
    return replace(
        old,
        members=(*members, *given.values()),
        havips=tuple(dict.fromkeys((*old.havips, *more.havips))),
        egress_addresses=tuple(dict.fromkeys((*old.egress_addresses, *more.egress_addresses))),
    )


def validate_spares(subnet: SubnetSpec, new: Spares, snapshot: Snapshot, others: Mapping[str, Spares]) -> None:
    """Check a subnet's spares; `others`: those of all subnets.

    Raises:
        InvalidInput: an address that cannot be, twice the same, or one that something else has.
    """
    _require_unique(subnet, new)
    for member in new.members:
        _require_card_fits(member, subnet)
    onlink = {member.address.network for member in new.members}
    for egress in new.egress_addresses:
        if onlink and not any(egress in network for network in onlink):
            raise InvalidInput(f"egress address {egress} is outside the networks of the spare cards, {_joined(onlink)}")
    for havip in new.havips:
        _require_free_havip(havip, subnet.id, snapshot, others)
    _require_own_cards(new, subnet.id, snapshot)


def _joined(items: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, items)))


def _require_unique(subnet: SubnetSpec, new: Spares) -> None:
    for what, items in (
        ("card", [f"{member.eni.lower()} of node {member.node}" for member in new.members]),
        ("address", [*(str(member.address.ip) for member in new.members), *map(str, new.egress_addresses)]),
        ("HaVip", [*map(str, new.havips)]),
    ):
        twice = next((item for at, item in enumerate(items) if item in items[:at]), None)
        if twice is not None:
            raise InvalidInput(f"{what} {twice} stands twice among the spares of subnet {subnet.id}: give it once")


def _require_card_fits(member: MemberSpec, subnet: SubnetSpec) -> None:
    require_name("node", member.node)
    onlink = member.address.network
    ends = () if onlink.prefixlen > 30 else (onlink.network_address, onlink.broadcast_address)  # noqa: PLR2004 - RFC 3021
    if member.address.ip in ends:
        raise InvalidInput(f"address {member.address} of node {member.node} is not a host address")
    if member.gateway is not None and member.gateway not in onlink:
        raise InvalidInput(f"gateway {member.gateway} of node {member.node} is outside {onlink}")
    if member.gateway is None and not all(cidr.subnet_of(onlink) for cidr in subnet.cidrs):
        raise InvalidInput(
            f"CIDRs of subnet {subnet.id} are not on the card's own network {onlink}: give the spare of node "
            f"{member.node} a gateway=ADDRESS"
        )


def _require_free_havip(havip: IPv4Address, subnet: str, snapshot: Snapshot, others: Mapping[str, Spares]) -> None:
    for what, where in _users_of(havip, subnet, snapshot, others):
        raise InvalidInput(f"HaVip {havip} is {what} {where}: choose a free address of the function network")


def _users_of(
    havip: IPv4Address, subnet: str, snapshot: Snapshot, others: Mapping[str, Spares]
) -> Iterator[tuple[str, object]]:
    if snapshot.spec is not None and havip in snapshot.spec.tunnel_range:
        yield "in the range of the hosts' tunnel addresses,", snapshot.spec.tunnel_range
    for node in snapshot.nodes.values():
        if node.underlay == havip:
            yield "the underlay address of node", node.id
    for host in snapshot.hosts.values():
        if host.underlay == havip:
            yield "the underlay address of host", host.id
    for pair in snapshot.all_pairs():
        if pair.subnet != subnet and pair.havip == havip:
            yield "in use by pair", f"{pair.subnet}/{pair.id}"
    for name, spares in others.items():
        if name != subnet and havip in spares.havips:
            yield "a spare of subnet", name


def _require_own_cards(new: Spares, subnet: str, snapshot: Snapshot) -> None:
    """A card belongs to one subnet; where the subnet's own pair has it, it has it as the spare says."""
    cards = {card_of(member.node, member.eni): member for member in new.members}
    for pair in snapshot.all_pairs():
        for member in pair.members:
            spare = cards.get(card_of(member.node, member.eni))
            if spare is None:
                continue
            name = f"ENI {member.eni} of node {member.node}"
            if pair.subnet != subnet:
                raise InvalidInput(f"{name} is in use by pair {pair.subnet}/{pair.id}: give another one")
            if spare != member:
                raise InvalidInput(
                    f"pair {pair.subnet}/{pair.id} has {name} with address {member.address}, not as this spare says: "
                    "remove the pair first, or give the spare as the pair has it"
                )


def parse_card(text: str) -> Card:
    """`node-a,eni=eth1`; more of the form of a member may follow.

    Raises:
        InvalidInput: no node first, or no ENI.
    """
    node, *rest = text.split(",")
    values = dict(item.partition("=")[::2] for item in rest)
    if not node or not values.get("eni"):
        raise InvalidInput(f"card {text!r} is not understood; the form is NODE,eni=NAME_OR_MAC")
    return card_of(node, values["eni"])


def without_spares(
    old: Spares, cards: Collection[Card], addresses: Collection[IPv4Address], users: Taken, subnet: str
) -> Spares:
    """The spares without these cards and floating addresses.

    Raises:
        InvalidInput: one of them is no spare, or something uses it.
    """
    there = {card_of(member.node, member.eni) for member in old.members}
    for card in cards:
        _require_removable(f"card {card[1]} of node {card[0]}", users.cards.get(card), subnet, is_there=card in there)
    for address in addresses:
        is_there = address in (*old.havips, *old.egress_addresses)
        _require_removable(f"address {address}", users.addresses.get(address), subnet, is_there=is_there)
    return replace(
        old,
        members=tuple(member for member in old.members if card_of(member.node, member.eni) not in cards),
        havips=tuple(address for address in old.havips if address not in addresses),
        egress_addresses=tuple(address for address in old.egress_addresses if address not in addresses),
    )


def _require_removable(name: str, user: str | None, subnet: str, *, is_there: bool) -> None:
    if not is_there:
        raise InvalidInput(f"{name} is no spare of subnet {subnet}: see `proxypool subnet spare list {subnet}`")
    if user is not None:
        raise InvalidInput(f"{name} is in use by {user}: remove that pair first, or wait until the controller is done")
