"""What a proxy node must look like: from the pool's documents to scenes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.addressing import ENI_DEVICE, namespace_of
from proxypool.core.firewall import PEERS_SET, node_guard, subnet_tables
from proxypool.core.model import HostSpec, MemberSpec, PairSpec, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.scene import (
    WORST_METRIC,
    Address,
    AddressSet,
    AnyObject,
    Eni,
    Route,
    RouteKind,
    Scene,
    Sysctl,
)
from proxypool.core.tunnels import reach, tunnel_of


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node knows of itself."""

    name: str
    underlay: IPv4Address
    underlay_mtu: int
    coordinators: tuple[tuple[IPv4Address, int], ...] = ()
    """Addresses and ports of the ZooKeeper servers."""


def subnet_scene(facts: NodeFacts, snapshot: Snapshot, pair: PairSpec) -> Scene:
    """The namespace of a subnet on a member of one of its pairs; the same on master and backup but for the gate.

    Raises:
        KeyError: the node is no member of the pair, or the snapshot lacks the pool's or the subnet's spec.
    """
    spec, subnet, member = snapshot.spec, snapshot.subnets[pair.subnet], pair.member(facts.name)
    if spec is None or member is None:
        raise KeyError(pair.subnet)
    tunnel = tunnel_of(spec, subnet, local=pair.havip, own=pair.havip, underlay_mtu=facts.underlay_mtu)
    objects: list[AnyObject] = [
        *subnet_tables(subnet, tunnel.device, spec.tunnel_range),
        Eni(ENI_DEVICE, member.eni),
        tunnel,
        Address(ENI_DEVICE, member.address),
        *_customer_routes(subnet, member),
        Route(spec.tunnel_range, RouteKind.BLACKHOLE, metric=WORST_METRIC),
        *_subnet_sysctls(tunnel.device),
    ]
    for host in _hosts_of(snapshot, subnet.id):
        objects.append(Route(IPv4Network(host.tunnel_address), device=tunnel.device))
        objects += reach(spec, tunnel.device, host.tunnel_address, host.underlay)
    return Scene.of(namespace_of(subnet.id), objects)


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


def _hosts_of(snapshot: Snapshot, subnet: str) -> Iterable[HostSpec]:
    for host in sorted(snapshot.subnet_hosts.get(subnet, ())):
        if host in snapshot.hosts:
            yield snapshot.hosts[host]


def root_scene(facts: NodeFacts, spec: PoolSpec, snapshot: Snapshot) -> Scene:
    """Our part of the node's own namespace: who may send tunnel packets, and what skips conntrack."""
    peers = frozenset(host.underlay for host in snapshot.hosts.values())
    return Scene.of(
        None,
        (
            AddressSet(PEERS_SET, peers),
            node_guard(spec.tunnel, spec.vxlan_port, facts.coordinators),
        ),
    )
