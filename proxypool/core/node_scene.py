"""What a proxy node must look like: from the pool's documents to scenes. Pure."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from msgspec.structs import replace

from proxypool.core.addressing import ENI_DEVICE, namespace_of, tunnel_device_of
from proxypool.core.composite import Composite, Part
from proxypool.core.firewall import LEASE_SET, NODES_SET, PEERS_SET, node_guard, subnet_tables
from proxypool.core.model import FailoverMode, HostSpec, MemberSpec, PairSpec, PairState, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.pausing import resumed
from proxypool.core.scene import (
    WORST_METRIC,
    Address,
    AddressSet,
    AnyObject,
    Eni,
    LeaseSet,
    ProxyNeighbour,
    Route,
    RouteKind,
    Scene,
    SourceGuard,
    Sysctl,
)
from proxypool.core.sync_link import SyncLink, sync_link_of, sync_objects
from proxypool.core.tunnels import reach, tunnel_of


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node knows of itself."""

    name: str
    underlay: IPv4Address
    underlay_mtu: int
    coordinators: tuple[tuple[IPv4Address, int], ...] = ()
    """Addresses and ports of the ZooKeeper servers."""
    guards_sources: bool = True
    """Whether this kernel can have a filter on a card's way out."""


def subnet_scene(facts: NodeFacts, snapshot: Snapshot, pair: PairSpec) -> Scene:
    """The namespace of a subnet on a member of one of its pairs; the same on master and backup but for the gate.

    Raises:
        KeyError: the node is no member of the pair, or the snapshot lacks the pool's or the subnet's spec.
    """
    return SubnetScenes(facts).next(snapshot, pair)


FRAME = ""
"""Name of the part of a subnet's scene that does not depend on its hosts; no host has this name."""


class HostChanges:
    """Which hosts' documents differ between two snapshots. Many subnets ask about the same two."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._before: Mapping[str, HostSpec] | None = None
        self._after: Mapping[str, HostSpec] | None = None
        self._changed: frozenset[str] = frozenset()

    def between(self, before: Mapping[str, HostSpec], after: Mapping[str, HostSpec]) -> frozenset[str]:
        """Names of hosts that came, went or changed. Documents that did not change must be the same objects, as the
        mirror keeps them.
        """
        if before is not self._before or after is not self._after:
            self._before, self._after = before, after
            changed = [name for name, host in after.items() if before.get(name) is not host]
            self._changed = frozenset(changed) | (before.keys() - after.keys())
        return self._changed


@dataclass
class SubnetScenes:
    """The scenes of one subnet, one after the other. What a new snapshot does not change is taken over from the last
    scene: the part of a host is made once, so that one more among ten thousand costs as little as one.
    """

    facts: NodeFacts
    changes: HostChanges = field(default_factory=HostChanges)
    unknown: frozenset[str] = frozenset()
    """Hosts of the subnet whose document is not there (yet): nothing leads to them."""
    _scene: Scene | None = None
    _parts: dict[str, Part] = field(default_factory=dict)
    link: SyncLink | None = None
    """Over which the state of connections goes to the other member; None: the pair has no egress address."""
    _about: tuple[PoolSpec, SubnetSpec, PairSpec, SyncLink | None] | None = None
    """What the frame was made of, and how hosts are reached. Whether the pair drains, and its weight, are for hosts."""
    _names: frozenset[str] = frozenset()
    _specs: Mapping[str, HostSpec] = field(default_factory=dict)
    _inputs: tuple[object, ...] = ()
    """What the last scene was made of."""

    def next(self, snapshot: Snapshot, pair: PairSpec) -> Scene:
        """As `subnet_scene`; the same scene again if nothing of it changed."""
        spec, subnet, member = snapshot.spec, snapshot.subnets[pair.subnet], pair.member(self.facts.name)
        if spec is None or member is None:
            raise KeyError(pair.subnet)
        names = snapshot.subnet_hosts.get(subnet.id, frozenset())
        inputs = (spec, subnet, pair, names, snapshot.hosts, snapshot.nodes)
        if self._scene is not None and all(map(operator.is_, inputs, self._inputs)):
            # Most snapshots are about other subnets: who stands in their elections, what their members say.
            return self._scene
        self._inputs = inputs
        self.link = sync_link_of(pair, self.facts.name, snapshot.nodes)
        lasting = resumed(replace(pair, state=PairState.ACTIVE, draining_since=None, weight=1, probe=None))
        about = (spec, subnet, lasting, self.link)
        if self._about != about:
            self._about = about
            self._parts = {FRAME: _part(_frame(self.facts, spec, subnet, pair, member, self.link))}
            self._names, self._specs, self._scene = frozenset(), snapshot.hosts, None
        changed = names ^ self._names
        if snapshot.hosts is not self._specs:
            changed |= self.changes.between(self._specs, snapshot.hosts) & names
        self._names, self._specs = names, snapshot.hosts
        if changed or self._scene is None:
            self._scene = self._make(spec, subnet, changed)
        return self._scene

    def _make(self, spec: PoolSpec, subnet: SubnetSpec, changed: Iterable[str]) -> Scene:
        device = tunnel_device_of(subnet.id)
        # The last scene keeps the mapping that it was made with.
        self._parts = dict(self._parts)
        unknown = set(self.unknown & self._names)
        for name in changed:
            host = self._specs.get(name) if name in self._names else None
            if host is None:
                self._parts.pop(name, None)
                unknown |= {name} & self._names
            else:
                unknown.discard(name)
                route = Route(IPv4Network(host.tunnel_address), device=device)
                self._parts[name] = _part((route, *reach(spec, device, host.tunnel_address, host.underlay)))
        self.unknown = frozenset(unknown)
        return Scene(namespace_of(subnet.id), Composite(self._parts))


def _part(objects: Iterable[AnyObject]) -> Part:
    return {item.key: item for item in objects}


def _frame(
    facts: NodeFacts, spec: PoolSpec, subnet: SubnetSpec, pair: PairSpec, member: MemberSpec, link: SyncLink | None
) -> Iterable[AnyObject]:
    tunnel = tunnel_of(spec, subnet, local=pair.havip, own=pair.havip, underlay_mtu=facts.underlay_mtu)
    yield LeaseSet(LEASE_SET)
    yield from subnet_tables(
        subnet,
        tunnel.device,
        spec.tunnel_range,
        pair.egress_address,
        link.ends if link else None,
        is_leased=pair.mode is FailoverMode.STRICT,
    )
    if link is not None:
        yield from sync_objects(spec, subnet, link, facts.underlay, facts.underlay_mtu)
    yield Eni(ENI_DEVICE, member.eni)
    if facts.guards_sources:
        yield SourceGuard(ENI_DEVICE, frozenset({member.address.ip, pair.egress_address or member.address.ip}))
    yield tunnel
    yield Address(ENI_DEVICE, member.address)
    yield from _customer_routes(subnet, member)
    yield Route(spec.tunnel_range, RouteKind.BLACKHOLE, metric=WORST_METRIC)
    yield from _subnet_sysctls(tunnel.device)
    if pair.egress_address is not None:
        yield from _egress(pair.egress_address, tunnel.device)


def _egress(address: IPv4Address, tunnel_device: str) -> Iterable[AnyObject]:
    """The egress address is no member's; the one whose gate is open answers ARP for it (ADR 15).

    The route leads to another device than the ENI, or the kernel would not answer; what comes for the address unasked
    for and takes that route is dropped by the forward rules. Answers are not delayed, as they are for proxied addresses
    otherwise (up to 0.8 s). Bound to without being here: so that keepalived's notify line can announce it.
    """
    yield Route(IPv4Network(address), device=tunnel_device)
    yield Sysctl(f"ipv4/neigh/{ENI_DEVICE}/proxy_delay", "0")
    yield Sysctl("ipv4/ip_nonlocal_bind", "1")
    yield ProxyNeighbour(ENI_DEVICE, address)


def _customer_routes(subnet: SubnetSpec, member: MemberSpec) -> Iterable[Route]:
    """CIDRs outside the ENI's own network; that one has the kernel's connected route."""
    for cidr in subnet.cidrs:
        if not cidr.subnet_of(member.address.network):
            yield Route(cidr, device=ENI_DEVICE, gateway=member.gateway)


def _subnet_sysctls(tunnel_device: str) -> Iterable[Sysctl]:
    """Why: no mid-stream pick-up of connections; the ENI answers ARP for its own addresses only; a customer's redirects
    are not for us. No reverse path filter: the forward rules say who may come from where and conntrack knows the rest,
    so it would only cost each packet a lookup, and lose ICMP errors of routers outside the subnet's CIDRs.
    """
    yield Sysctl("netfilter/nf_conntrack_tcp_loose", "0")
    yield Sysctl("ipv4/conf/all/rp_filter", "0")
    for device in (ENI_DEVICE, tunnel_device):
        yield Sysctl(f"ipv4/conf/{device}/rp_filter", "0")
        yield Sysctl(f"ipv4/conf/{device}/send_redirects", "0")
        yield Sysctl(f"ipv4/conf/{device}/accept_source_route", "0")
    yield Sysctl(f"ipv4/conf/{ENI_DEVICE}/arp_ignore", "1")
    yield Sysctl(f"ipv4/conf/{ENI_DEVICE}/arp_announce", "2")
    for device in (ENI_DEVICE, tunnel_device):
        yield Sysctl(f"ipv6/conf/{device}/disable_ipv6", "1")


def root_scene(facts: NodeFacts, spec: PoolSpec, snapshot: Snapshot) -> Scene:
    """Our part of the node's own namespace: who may send tunnel packets, and what skips conntrack."""
    return RootScenes(facts).next(spec, snapshot)


@dataclass
class RootScenes:
    """The scenes of a node's own namespace, one after the other: as `SubnetScenes`."""

    facts: NodeFacts
    changes: HostChanges = field(default_factory=HostChanges)
    _scene: Scene | None = None
    _spec: PoolSpec | None = None
    _specs: Mapping[str, HostSpec] = field(default_factory=dict)
    _users: Counter[IPv4Address] = field(default_factory=Counter)
    """Underlay address -> how many hosts say that it is theirs."""
    _peers: frozenset[IPv4Address] = frozenset()
    _nodes: frozenset[IPv4Address] = frozenset()

    def next(self, spec: PoolSpec, snapshot: Snapshot) -> Scene:
        """As `root_scene`; the same scene again if nothing of it changed."""
        before = self._peers, self._nodes
        if snapshot.hosts is not self._specs:
            self._count(snapshot.hosts)
        if (nodes := frozenset(node.underlay for node in snapshot.nodes.values())) != self._nodes:
            self._nodes = nodes
        if self._scene is None or self._spec != spec or self._peers is not before[0] or self._nodes is not before[1]:
            guard = node_guard(spec.tunnel, spec.vxlan_port, self.facts.coordinators, self.facts.underlay)
            sets = (AddressSet(PEERS_SET, self._peers), AddressSet(NODES_SET, self._nodes))
            self._scene = Scene.of(None, (*sets, guard))
        self._spec = spec
        return self._scene

    def _count(self, hosts: Mapping[str, HostSpec]) -> None:
        came, went = set[IPv4Address](), set[IPv4Address]()
        for name in self.changes.between(self._specs, hosts):
            old, new = self._specs.get(name), hosts.get(name)
            if old is not None:
                self._users[old.underlay] -= 1
                went.add(old.underlay)
            if new is not None:
                self._users[new.underlay] += 1
                came.add(new.underlay)
        self._specs = hosts
        here = {address for address in came | went if self._users[address] > 0}
        gone = (came | went) - here
        for address in gone:
            del self._users[address]
        if gone or not here <= self._peers:
            self._peers = (self._peers - gone) | here
