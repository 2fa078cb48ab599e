"""The link between the two members of a pair over which they tell each other their connections' state. Pure.

A tunnel of its own between the members' underlay addresses, never over the customer's network: the pool's kind of
tunnel, in a space of keys of its own, so that no function host can send into it (`firewall.node_guard`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from proxypool.core.addressing import sync_device_of
from proxypool.core.firewall import SyncEnds, vxlan_sync_port
from proxypool.core.model import NodeSpec, PairSpec, PoolSpec, SubnetSpec, TunnelKind
from proxypool.core.scene import Address, AnyObject, Sysctl
from proxypool.core.tunnels import device_of, reach

SYNC_NETWORK = IPv4Network("169.254.77.0/30")
"""Link-local (RFC 3927): no customer's CIDR can be in there. Each subnet's namespace has it for itself."""
FIRST_SYNC_KEY = 1 << 24
"""GRE: above all keys of subnets, which have 24 bits. VXLAN: the subnet's own number, on a UDP port of its own."""


@dataclass(frozen=True, slots=True)
class SyncLink:
    """One member's end of the link."""

    device: str
    own: IPv4Address
    peer: IPv4Address
    peer_underlay: IPv4Address

    @property
    def ends(self) -> SyncEnds:
        """For the rules."""
        return SyncEnds(self.device, self.own, self.peer, SYNC_NETWORK)


def sync_link_of(pair: PairSpec, node: str, nodes: Mapping[str, NodeSpec]) -> SyncLink | None:
    """The link of a member; None: the pair has no egress address, or the other member has not registered yet.

    Without an egress address there is nothing to be carried over: the other member's address is not this one's.
    """
    peer = pair.peer_of(node)
    if pair.egress_address is None or peer is None or peer.node not in nodes:
        return None
    is_first = node < peer.node
    own, other = SYNC_NETWORK[1 if is_first else 2], SYNC_NETWORK[2 if is_first else 1]
    return SyncLink(sync_device_of(pair.subnet), own, other, nodes[peer.node].underlay)


def sync_objects(
    spec: PoolSpec, subnet: SubnetSpec, link: SyncLink, underlay: IPv4Address, underlay_mtu: int
) -> Iterator[AnyObject]:
    """The tunnel with what leads to the other member, and how the kernel must treat connections that came over it.

    A member has not seen the sequence numbers of a connection it takes over, so TCP windows are not judged: else every
    connection hangs when it comes back to the first member. Entries always report their end: by default those that
    were made while nobody listened never do, and the other member would keep them for days.
    """
    is_vxlan = spec.tunnel is TunnelKind.VXLAN
    key, port = (subnet.key, vxlan_sync_port(spec.vxlan_port)) if is_vxlan else (FIRST_SYNC_KEY + subnet.key, None)
    yield device_of(spec, link.device, local=underlay, own=link.own, key=key, port=port, underlay_mtu=underlay_mtu)
    yield Address(link.device, IPv4Interface((link.own, SYNC_NETWORK.prefixlen)))
    yield from reach(spec, link.device, link.peer, link.peer_underlay)
    yield Sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1")
    yield Sysctl("netfilter/nf_conntrack_events", "1")
    yield Sysctl(f"ipv4/conf/{link.device}/rp_filter", "0")
    yield Sysctl(f"ipv4/conf/{link.device}/send_redirects", "0")
    yield Sysctl(f"ipv4/conf/{link.device}/accept_source_route", "0")
    yield Sysctl(f"ipv6/conf/{link.device}/disable_ipv6", "1")
