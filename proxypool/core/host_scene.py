"""What a function host must look like. Pure.

The way of a packet: `host_firewall` marks it, the rules here lead from the mark to the table of its path, and the table
to the HaVip of a pair. See "Steering" in the design.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, collapse_addresses

from proxypool.core.addressing import tunnel_device_of
from proxypool.core.composite import Composite, Part
from proxypool.core.host_firewall import (
    ATTACHED_SET,
    DEAD_REALM,
    HAVIPS_SET,
    LOOPBACK,
    PLATFORM_SET,
    HostRules,
    host_tables,
)
from proxypool.core.model import NodeSpec, PairSpec, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.scene import (
    GUARD_TABLE,
    PATH_TABLES,
    WORST_METRIC,
    Address,
    AddressSet,
    AnyObject,
    MarkedSet,
    PolicyRule,
    Route,
    RouteKind,
    RuleAction,
    Scene,
    Sysctl,
)
from proxypool.core.steering import INDEX_BITS, WHOLE_MARK, Book, Group, Leg, Legs, MarkLayout, Weights
from proxypool.core.tunnels import reach, tunnel_of

ENTRY, OTHERS, INSTANCES, BLOCKS, NO_BLOCK = 7700, 7701, 7702, 7710, 7711
FIRST_BLOCK, END, OWN_ROUTES, GUARD = 7720, 7890, 7891, 7892
"""Priorities of our rules, in the order of evaluation. See `_rules`."""
BLOCK_BITS = 8
"""Paths of one block of rules: sixteen groups."""
MAIN_TABLE = 254
REMEMBERED = 2048
"""Subnets whose objects are kept for the next scene."""


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
    coordinators: tuple[IPv4Address, ...] = ()
    """The ZooKeeper servers."""
    new_connections_per_s: int = 0
    """Of an instance; 0: as many as it likes."""

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


def host_scene(facts: HostFacts, spec: PoolSpec, steering: Steering, guard: Part, platform: Part) -> Scene:
    """Sets, tables, tunnels, routes and rules of one host; `guard` is that of `guard_of`, `platform` of `platform_of`.

    In parts that are remembered, so that a subnet more costs as little as one, whatever else there is.
    """
    book = steering.book
    reached = {name: set(steering.havips.get(name, ())) for name in steering.subnets}
    for legs in book.paths.values():
        for leg in legs:
            if leg.subnet in reached:
                reached[leg.subnet].add(leg.havip)
    blocks = tuple(sorted({number >> BLOCK_BITS for number in book.paths}))
    parts = {
        "tables": _tables(facts, spec, tuple(book.distributions.items())),
        "guard": guard,
        "platform": platform,
        "rules": _rules(facts.instance_cidrs, facts.marks, blocks),
    }
    for name, subnet in steering.subnets.items():
        parts[f"tunnel {name}"] = _tunnel(facts, spec, subnet, tuple(sorted(reached[name])))
    groups = book.group_names()
    for number, legs in book.paths.items():
        by_subnet = {leg.subnet: leg.havip for leg in legs}
        # All subnets of the path, with and without a leg.
        names = sorted({*groups.get(number >> INDEX_BITS, ()), *by_subnet} & steering.subnets.keys())
        ways = tuple(
            _Way(steering.subnets[name], by_subnet.get(name), is_dead=by_subnet.get(name) in steering.dead)
            for name in names
        )
        parts[f"path {number}"] = _path(number, facts.marks, ways)
    return Scene(None, Composite(parts))


def _part(objects: Iterable[AnyObject]) -> Part:
    return {item.key: item for item in objects}


@lru_cache(maxsize=1)
def _tables(facts: HostFacts, spec: PoolSpec, distributions: tuple[tuple[Weights, int], ...]) -> Part:
    rules = HostRules(
        facts.instance_cidrs,
        facts.tunnel_address,
        facts.marks,
        dict(distributions),
        facts.open_cidrs,
        facts.turn,
        facts.masquerades,
        spec.tunnel,
        spec.vxlan_port,
        facts.new_connections_per_s,
    )
    return _part((MarkedSet(ATTACHED_SET), *host_tables(rules)))


@lru_cache(maxsize=REMEMBERED)
def _tunnel(facts: HostFacts, spec: PoolSpec, subnet: SubnetSpec, reached: tuple[IPv4Address, ...]) -> Part:
    """One device for all pairs of a subnet. Its marks are valid for the reverse path filter: see `host_firewall`."""
    tunnel = tunnel_of(spec, subnet, local=facts.underlay, own=facts.tunnel_address, underlay_mtu=facts.underlay_mtu)
    return _part(
        (
            tunnel,
            Address(tunnel.device, IPv4Interface(facts.tunnel_address)),
            Sysctl(f"ipv4/conf/{tunnel.device}/forwarding", "1"),
            Sysctl(f"ipv4/conf/{tunnel.device}/src_valid_mark", "1"),
            *(item for havip in reached for item in reach(spec, tunnel.device, havip, havip)),
        )
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """How a path reaches one of its subnets; without a HaVip it does not."""

    subnet: SubnetSpec
    havip: IPv4Address | None
    is_dead: bool


@lru_cache(maxsize=REMEMBERED)
def _path(number: int, marks: MarkLayout, ways: tuple[_Way, ...]) -> Part:
    """A path's table, and the rule that leads to it."""
    block = FIRST_BLOCK + 2 * (number >> BLOCK_BITS)
    rule = PolicyRule(block, target=PATH_TABLES + number, mark=marks.of_path(number), mask=marks.mask)
    return _part((rule, *(route for way in ways for route in _way(PATH_TABLES + number, way))))


def _way(table: int, way: _Way) -> Iterable[Route]:
    """Below each route stands one that refuses: a tunnel that is missing leads nowhere else."""
    for cidr in way.subnet.cidrs:
        yield _nowhere(cidr, table, WORST_METRIC)
        if way.havip is not None:
            yield Route(
                cidr,
                device=tunnel_device_of(way.subnet.id),
                gateway=way.havip,
                is_onlink=True,
                table=table,
                realm=DEAD_REALM if way.is_dead else 0,
            )


def _nowhere(cidr: IPv4Network, table: int, metric: int = 0) -> Route:
    """A route that refuses. It leads to the loopback device, so that the packet comes to the filter table, which
    answers TCP with a RST. The ICMP error of an `unreachable` route would neither end a connection that is established
    (RFC 1122, 4.2.3.9) nor come for each packet (`icmp_ratelimit`).

    With the filter table flushed a packet goes round until its time to live is over; it never leaves.
    """
    return Route(cidr, device=LOOPBACK, table=table, metric=metric, realm=DEAD_REALM)


@lru_cache(maxsize=1)
def _rules(instance_cidrs: tuple[IPv4Network, ...], marks: MarkLayout, blocks: tuple[int, ...]) -> Part:
    """From a mark to a table in two steps, because rules are looked at one after the other, by every packet.

    What is not from an instance goes straight to the end. A mark's upper bits choose a block, and the block holds its
    paths. What has no mark, and whatever an instance sends to a customer that no path takes, comes to the guard: behind
    the host's own routes but the default one.
    """
    found = [
        PolicyRule(INSTANCES, RuleAction.NOP),
        PolicyRule(END, RuleAction.NOP),
        PolicyRule(OTHERS, RuleAction.GOTO, END),
        PolicyRule(NO_BLOCK, RuleAction.GOTO, END),
    ]
    for cidr in sorted(instance_cidrs):
        found += [
            PolicyRule(ENTRY, RuleAction.GOTO, INSTANCES, source=cidr),
            PolicyRule(OWN_ROUTES, target=MAIN_TABLE, source=cidr, suppress_prefix_length=0),
            PolicyRule(GUARD, target=GUARD_TABLE, source=cidr),
        ]
    block_mask = (WHOLE_MARK >> BLOCK_BITS) << BLOCK_BITS
    for block in blocks:
        priority = FIRST_BLOCK + 2 * block
        mark = marks.of_path(block << BLOCK_BITS)
        found += [
            PolicyRule(BLOCKS, RuleAction.GOTO, priority, mark=mark, mask=block_mask << marks.shift),
            PolicyRule(priority + 1, RuleAction.GOTO, END),
        ]
    return _part(found)


def guard_of(open_cidrs: Iterable[IPv4Network], customers: Iterable[IPv4Network]) -> Part:
    """Every customer's CIDR leads nowhere, whoever asks; but for open CIDRs, which are nobody's. To be kept by whoever
    calls: a pool can have ten thousand customers.
    """
    opened = tuple(collapse_addresses(open_cidrs))
    closed = [cidr for cidr in customers if not any(cidr.subnet_of(one) for one in opened)]
    found: list[AnyObject] = []
    for cidr in collapse_addresses(closed):
        found.append(_nowhere(cidr, GUARD_TABLE))
        found.append(Route(cidr, RouteKind.UNREACHABLE, table=GUARD_TABLE, metric=WORST_METRIC))
    found += [
        Route(one, RouteKind.THROW, table=GUARD_TABLE) for one in opened if any(one.subnet_of(cidr) for cidr in closed)
    ]
    return _part(found)


def havips_of(pairs: Mapping[str, Mapping[str, PairSpec]]) -> frozenset[IPv4Address]:
    """Of all pairs of the pool."""
    return frozenset(pair.havip for of_subnet in pairs.values() for pair in of_subnet.values())


def platform_of(facts: HostFacts, havips: frozenset[IPv4Address], nodes: Mapping[str, NodeSpec]) -> Part:
    """Who may send tunnel packets here, and what no instance may reach. To be kept by whoever calls, as `guard_of`.

    `havips`: of the pool, and those of pairs that are gone and still have paths here: who waits for the last answer of
    one would not send what is refused, and so not hear that it is gone.
    """
    machines = havips | {node.underlay for node in nodes.values()} | set(facts.coordinators)
    closed = frozenset(one for one in machines if not any(one in cidr for cidr in facts.open_cidrs))
    return _part((AddressSet(HAVIPS_SET, havips), AddressSet(PLATFORM_SET, closed)))


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
