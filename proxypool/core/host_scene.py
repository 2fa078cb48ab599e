"""What a function host must look like. Pure.

The way of a packet: `host_firewall` marks it, the rules here lead from the mark to the table of its path, and the table
to the HaVip of a pair. See "Steering" in the design.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, collapse_addresses

from proxypool.core.addressing import tunnel_device_of
from proxypool.core.host_firewall import ATTACHED_SET, DEAD_REALM, LOOPBACK, HostRules, host_tables
from proxypool.core.model import PoolSpec, Snapshot, SubnetSpec
from proxypool.core.scene import (
    GUARD_TABLE,
    PATH_TABLES,
    WORST_METRIC,
    Address,
    AnyObject,
    MarkedSet,
    PolicyRule,
    Route,
    RouteKind,
    RuleAction,
    Scene,
    Sysctl,
)
from proxypool.core.steering import INDEX_BITS, WHOLE_MARK, Book, Group, Leg, Legs, MarkLayout
from proxypool.core.tunnels import reach, tunnel_of

ENTRY, OTHERS, INSTANCES, BLOCKS, NO_BLOCK = 7700, 7701, 7702, 7710, 7711
FIRST_BLOCK, END, OWN_ROUTES, GUARD = 7720, 7890, 7891, 7892
"""Priorities of our rules, in the order of evaluation. See `_policy_rules`."""
BLOCK_BITS = 8
"""Paths of one block of rules: sixteen groups."""
MAIN_TABLE = 254


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a function host knows of itself."""

    name: str
    underlay: IPv4Address
    underlay_mtu: int
    tunnel_address: IPv4Address
    instance_cidrs: tuple[IPv4Network, ...]
    marks: MarkLayout
    open_cidrs: tuple[IPv4Network, ...] = ()
    masquerades: bool = False

    @property
    def turn(self) -> int:
        """Where this host's distributions begin their round; not where the other hosts do."""
        return int.from_bytes(hashlib.blake2s(self.name.encode(), digest_size=4).digest(), "big")


@dataclass(frozen=True, slots=True)
class Steering:
    """The numbers in use, and what they lead to."""

    book: Book
    subnets: Mapping[str, SubnetSpec]
    """The subnets of all groups and paths, as far as the pool has them."""
    havips: Mapping[str, Collection[IPv4Address]]
    """Of all pairs of these subnets: each is reachable, chosen or not."""
    dead: Container[IPv4Address]
    """HaVips that nobody holds, or no pair has: what is on the way to them is refused."""


def steering_of(book: Book, groups: Iterable[Group], snapshot: Snapshot, dead: Container[IPv4Address]) -> Steering:
    """The subnets of these groups and of all paths, with all their pairs."""
    names = {name for group in groups for name in group}
    names |= {leg.subnet for legs in book.paths.values() for leg in legs}
    subnets = {name: snapshot.subnets[name] for name in names if name in snapshot.subnets}
    havips = {name: frozenset(pair.havip for pair in snapshot.pairs.get(name, {}).values()) for name in subnets}
    return Steering(book, subnets, havips, dead)


def host_scene(facts: HostFacts, spec: PoolSpec, steering: Steering, customers: Iterable[IPv4Network]) -> Scene:
    """Sets, tables, tunnels, routes and rules of one host. `customers`: every CIDR of the pool."""
    objects: list[AnyObject] = [MarkedSet(ATTACHED_SET), *host_tables(_rules_of(facts, steering.book))]
    for name in sorted(steering.subnets):
        objects += _tunnel(facts, spec, steering, steering.subnets[name])
    for number, legs in sorted(steering.book.paths.items()):
        objects += _path(number, _subnets_of(steering.book, number, legs), legs, steering)
    objects += _policy_rules(facts, sorted(steering.book.paths))
    objects += _guard(facts, customers)
    return Scene.of(None, objects)


def _rules_of(facts: HostFacts, book: Book) -> HostRules:
    return HostRules(
        facts.instance_cidrs,
        facts.tunnel_address,
        facts.marks,
        book.distributions,
        facts.open_cidrs,
        facts.turn,
        facts.masquerades,
    )


def _tunnel(facts: HostFacts, spec: PoolSpec, steering: Steering, subnet: SubnetSpec) -> Iterable[AnyObject]:
    """One device for all pairs of a subnet. Its marks are valid for the reverse path filter: see `host_firewall`."""
    tunnel = tunnel_of(spec, subnet, local=facts.underlay, own=facts.tunnel_address, underlay_mtu=facts.underlay_mtu)
    yield tunnel
    yield Address(tunnel.device, IPv4Interface(facts.tunnel_address))
    yield Sysctl(f"ipv4/conf/{tunnel.device}/forwarding", "1")
    yield Sysctl(f"ipv4/conf/{tunnel.device}/src_valid_mark", "1")
    reached = set(steering.havips.get(subnet.id, ()))
    reached |= {leg.havip for legs in steering.book.paths.values() for leg in legs if leg.subnet == subnet.id}
    for havip in sorted(reached):
        yield from reach(spec, tunnel.device, havip, havip)


def _subnets_of(book: Book, number: int, legs: Legs) -> Group:
    """All subnets of a path, with and without a leg."""
    group = next((group for group, known in book.groups.items() if known == number >> INDEX_BITS), ())
    return tuple(sorted({*group, *(leg.subnet for leg in legs)}))


def _path(number: int, subnets: Group, legs: Legs, steering: Steering) -> Iterable[Route]:
    """A path's table. Below each route stands one that refuses: a tunnel that is missing leads nowhere else."""
    table = PATH_TABLES + number
    by_subnet = {leg.subnet: leg for leg in legs}
    for name in subnets:
        subnet = steering.subnets.get(name)
        for cidr in subnet.cidrs if subnet is not None else ():
            yield _nowhere(cidr, table, WORST_METRIC)
            leg = by_subnet.get(name)
            if leg is not None:
                yield Route(
                    cidr,
                    device=tunnel_device_of(name),
                    gateway=leg.havip,
                    is_onlink=True,
                    table=table,
                    realm=DEAD_REALM if leg.havip in steering.dead else 0,
                )


def _nowhere(cidr: IPv4Network, table: int, metric: int = 0) -> Route:
    """A route that refuses. It leads to the loopback device, so that the packet comes to the filter table, which
    answers TCP with a RST. The ICMP error of an `unreachable` route would neither end a connection that is established
    (RFC 1122, 4.2.3.9) nor come for each packet (`icmp_ratelimit`).

    With the filter table flushed a packet goes round until its time to live is over; it never leaves.
    """
    return Route(cidr, device=LOOPBACK, table=table, metric=metric, realm=DEAD_REALM)


def _policy_rules(facts: HostFacts, paths: Iterable[int]) -> Iterable[PolicyRule]:
    """From a mark to a table in two steps, because rules are looked at one after the other, by every packet.

    What is not from an instance goes straight to the end. A mark's upper bits choose a block, and the block holds its
    paths. What has no mark, and whatever an instance sends to a customer that no path takes, comes to the guard: behind
    the host's own routes but the default one.
    """
    yield PolicyRule(INSTANCES, RuleAction.NOP)
    yield PolicyRule(END, RuleAction.NOP)
    for cidr in sorted(facts.instance_cidrs):
        yield PolicyRule(ENTRY, RuleAction.GOTO, INSTANCES, source=cidr)
        yield PolicyRule(OWN_ROUTES, target=MAIN_TABLE, source=cidr, suppress_prefix_length=0)
        yield PolicyRule(GUARD, target=GUARD_TABLE, source=cidr)
    yield PolicyRule(OTHERS, RuleAction.GOTO, END)
    yield PolicyRule(NO_BLOCK, RuleAction.GOTO, END)
    numbers = list(paths)
    block_mask = (WHOLE_MARK >> BLOCK_BITS) << BLOCK_BITS
    for block in sorted({number >> BLOCK_BITS for number in numbers}):
        priority = FIRST_BLOCK + 2 * block
        mark = facts.marks.of_path(block << BLOCK_BITS)
        yield PolicyRule(BLOCKS, RuleAction.GOTO, priority, mark=mark, mask=block_mask << facts.marks.shift)
        yield PolicyRule(priority + 1, RuleAction.GOTO, END)
        for number in numbers:
            if number >> BLOCK_BITS == block:
                mark = facts.marks.of_path(number)
                yield PolicyRule(priority, target=PATH_TABLES + number, mark=mark, mask=facts.marks.mask)


def _guard(facts: HostFacts, customers: Iterable[IPv4Network]) -> Iterable[Route]:
    """Every customer's CIDR leads nowhere, whoever asks; but for open CIDRs, which are nobody's."""
    opened = tuple(collapse_addresses(facts.open_cidrs))
    closed = [cidr for cidr in customers if not any(cidr.subnet_of(one) for one in opened)]
    for cidr in collapse_addresses(closed):
        yield _nowhere(cidr, GUARD_TABLE)
        yield Route(cidr, RouteKind.UNREACHABLE, table=GUARD_TABLE, metric=WORST_METRIC)
    for one in opened:
        if any(one.subnet_of(cidr) for cidr in closed):
            yield Route(one, RouteKind.THROW, table=GUARD_TABLE)


def path_legs(scene: Scene, subnets: Iterable[str]) -> dict[int, Legs]:
    """Paths that the routing tables of an observed scene tell of, for `steering.adopt`. Subnets are known by device."""
    by_device = {tunnel_device_of(name): name for name in subnets}
    found: dict[int, set[Leg]] = {}
    for item in scene.objects.values():
        if not isinstance(item, Route) or not PATH_TABLES < item.table <= PATH_TABLES + WHOLE_MARK:
            continue
        subnet = by_device.get(item.device or "")
        if subnet is not None and item.gateway is not None:
            found.setdefault(item.table - PATH_TABLES, set()).add(Leg(subnet, item.gateway))
    return {number: tuple(sorted(legs)) for number, legs in found.items()}
