"""Small builders of documents: a pool of two nodes, a pair and a host, with every part open to change."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from proxypool.core.detection import Profile, detection_of
from proxypool.core.host_scene import HostFacts, guard_of, havips_of, host_scene, platform_of, steering_of
from proxypool.core.keepalived import KeepalivedFacts
from proxypool.core.model import (
    Candidate,
    HostSpec,
    MemberSpec,
    NodeSpec,
    PairSpec,
    PairState,
    PoolSpec,
    Snapshot,
    SubnetSpec,
    TunnelKind,
)
from proxypool.core.node_scene import NodeFacts
from proxypool.core.scene import Scene
from proxypool.core.shares import wanted_shares
from proxypool.core.steering import Book, Group, MarkLayout, advance

GRE = PoolSpec()
VXLAN = PoolSpec(tunnel=TunnelKind.VXLAN)


def subnet(name: str = "s1", *cidrs: str, key: int = 1, tenant: str = "default") -> SubnetSpec:
    """A subnet; without CIDRs it has 172.16.101.0/24."""
    networks = tuple(IPv4Network(cidr) for cidr in cidrs or ("172.16.101.0/24",))
    return SubnetSpec(id=name, cidrs=networks, key=key, tenant=tenant)


def member(node: str, address: str, eni: str = "eth1", gateway: str | None = None) -> MemberSpec:
    """A member of a pair."""
    return MemberSpec(
        node=node,
        eni=eni,
        address=IPv4Interface(address),
        gateway=None if gateway is None else IPv4Address(gateway),
    )


N1 = member("n1", "172.16.101.11/24")
N2 = member("n2", "172.16.101.12/24")


def pair(
    name: str = "p1",
    subnet: str = "s1",
    members: tuple[MemberSpec, ...] = (N1, N2),
    havip: str = "192.168.4.100",
    vrid: int = 1,
    state: PairState = PairState.ACTIVE,
    egress: str | None = None,
    *,
    weight: int = 1,
    since: float | None = None,
) -> PairSpec:
    """A pair of the nodes n1 and n2; `since`: when it began to drain."""
    return PairSpec(
        id=name,
        subnet=subnet,
        members=members,
        havip=IPv4Address(havip),
        vrid=vrid,
        state=state,
        egress_address=None if egress is None else IPv4Address(egress),
        weight=weight,
        draining_since=since,
    )


def node(name: str, underlay: str) -> NodeSpec:
    """A registered node."""
    return NodeSpec(id=name, underlay=IPv4Address(underlay))


def host(name: str = "h1", underlay: str = "192.168.80.1", tunnel_address: str = "100.64.0.1") -> HostSpec:
    """A registered function host."""
    return HostSpec(id=name, underlay=IPv4Address(underlay), tunnel_address=IPv4Address(tunnel_address))


def snapshot(
    *,
    spec: PoolSpec | None = GRE,
    subnets: Iterable[SubnetSpec] = (subnet(),),
    pairs: Iterable[PairSpec] = (),
    nodes: Iterable[NodeSpec] = (node("n1", "192.168.4.1"), node("n2", "192.168.4.2")),
    hosts: Iterable[HostSpec] = (),
    elections: dict[str, tuple[Candidate, ...]] | None = None,
) -> Snapshot:
    """A snapshot in which every host uses every subnet."""
    known, hosts = tuple(subnets), tuple(hosts)
    by_subnet: dict[str, dict[str, PairSpec]] = {}
    for one in pairs:
        by_subnet.setdefault(one.subnet, {})[one.id] = one
    return Snapshot(
        spec=spec,
        subnets={one.id: one for one in known},
        pairs=by_subnet,
        nodes={one.id: one for one in nodes},
        hosts={one.id: one for one in hosts},
        subnet_hosts={one.id: frozenset(each.id for each in hosts) for one in known},
        elections=elections or {},
    )


def candidates(*nodes: str, first_epoch: int = 100) -> tuple[Candidate, ...]:
    """Candidates in the order of their creation: the first is elected."""
    return tuple(
        Candidate(node=name, epoch=first_epoch + index, session=first_epoch + index) for index, name in enumerate(nodes)
    )


def node_facts(name: str = "n1") -> NodeFacts:
    """What a node knows of itself."""
    return NodeFacts(name, IPv4Address("192.168.4.1"), 1500, ((IPv4Address("192.168.4.50"), 2181),))


def keepalived_facts(name: str = "n1", advert_ms: int = 10) -> KeepalivedFacts:
    """Where things are on a node."""
    detection = detection_of(Profile.BALANCED, advert_ms)
    return KeepalivedFacts(name, "eth0", IPv4Address("192.168.4.1"), "/run/proxypool", detection)


def host_facts(name: str = "h1") -> HostFacts:
    """What a function host knows of itself."""
    return HostFacts(
        name,
        IPv4Address("192.168.80.1"),
        1500,
        IPv4Address("100.64.0.1"),
        (IPv4Network("10.244.1.0/24"),),
        MarkLayout(16),
    )


def host_scene_of(
    pool: Snapshot,
    groups: Iterable[Group],
    *,
    facts: HostFacts | None = None,
    spec: PoolSpec = GRE,
    dead: Iterable[IPv4Address] = (),
) -> Scene:
    """The scene of a host whose instances are attached to these groups of subnets, all pairs answering."""
    wanted = tuple(groups)
    book = advance(Book(), wanted_shares(wanted, pool.pairs, ()))
    customers = [cidr for each in pool.subnets.values() for cidr in each.cidrs]
    known = facts or host_facts()
    guard = guard_of(known.open_cidrs, customers)
    platform = platform_of(known, havips_of(pool.pairs), pool.nodes)
    return host_scene(known, spec, steering_of(book, wanted, pool, tuple(dead)), guard, platform)
