"""The iptables rules of a node, as values; those of a host are in `host_firewall`.

Our rules stand in chains of our own (`PP-…`), entered by one jump, so that rules of others stay untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.blocking import Blocked, blocked_chains, chain_of_blocked
from proxypool.core.model import SubnetSpec, TunnelKind
from proxypool.core.scene import CHAIN_PREFIX, SET_PREFIX, Chain, Match, Rule, Table

PEERS_SET = f"{SET_PREFIX}peers"
"""Underlay addresses of the function hosts."""
NODES_SET = f"{SET_PREFIX}nodes"
"""Underlay addresses of the proxy nodes: who may send the state of connections."""
SYNC_PORT = 3780
"""UDP, of conntrackd. Inside the tunnel between the members."""
MAX_PORT = 65535
LEASE_SET = f"{SET_PREFIX}lease"
"""Of a subnet's namespace: holds the hosts' tunnel addresses while this member may forward, in mode strict."""
PROTOCOL_GRE = "gre"
PROTOCOL_VRRP = "112"
"""By number: python-iptables does not know the name."""
NOTRACK = ("CT", (("notrack", ""),))
"""Target of a rule, and its options: the packet skips conntrack."""


def in_state(states: str) -> Match:
    """Conntrack states, separated by commas."""
    return Match("conntrack", (("ctstate", states),))


@dataclass(frozen=True, slots=True)
class SyncEnds:
    """The link over which the members of a pair tell each other their connections' state, as seen by one of them."""

    device: str
    own: IPv4Address
    peer: IPv4Address
    network: IPv4Network


def vxlan_sync_port(vxlan_port: int) -> int:
    """UDP port of the tunnels between members: beside the pool's, so that the two have nothing in common."""
    return vxlan_port + 1 if vxlan_port < MAX_PORT else vxlan_port - 1


def subnet_tables(
    subnet: SubnetSpec,
    tunnel_device: str,
    tunnel_range: IPv4Network,
    egress: IPv4Address | None = None,
    sync: SyncEnds | None = None,
    *,
    is_leased: bool = False,
) -> tuple[Table, ...]:
    """Tables of a subnet's namespace on a node.

    A TCP packet without state (a connection lost in a failover) gets a RST on either side, so that nobody hangs; every
    other packet without state is dropped by the policy, so none can leave the ENI without NAT. No RST is sent into the
    tunnel for one that a customer's server forged. A packet to the egress address, which is no address of this machine,
    is forwarded, to nowhere: so its RST has a rule of its own, and only the egress address can be its source.

    What the policy would drop is dropped by a rule before it, so that it is counted by who sent it: behind all rules
    that let something pass, where no packet of a connection comes. ICMP redirects about a connection need a rule only
    where they are about the namespace's own, as probes: those about one with NAT the kernel drops itself
    (nf_nat_icmp_reply_translation).

    `is_leased`: packets pass only while the lease set holds the hosts' addresses. The kernel looks at the time itself,
    so nothing needs to run for a lease to end.

    The MSS is clamped in the filter table, because a mangle table would cost each packet three more visits.
    """
    going, coming = (
        (Match("set", (("match-set", f"{LEASE_SET} {side}"),)),) if is_leased else () for side in ("src", "dst")
    )
    back = Rule(
        "ACCEPT",
        in_device=ENI_DEVICE,
        out_device=tunnel_device,
        matches=(in_state("RELATED,ESTABLISHED"), *coming),
    )
    reset = Rule(
        "REJECT",
        (("reject-with", "tcp-reset"),),
        # With another source the RST would leave by the ENI, and its own source would be whatever was forged.
        source=tunnel_range,
        in_device=tunnel_device,
        out_device=ENI_DEVICE,
        protocol="tcp",
        matches=(in_state("INVALID"),),
    )
    out = tuple(
        Rule(
            "ACCEPT",
            in_device=tunnel_device,
            out_device=ENI_DEVICE,
            source=tunnel_range,
            destination=cidr,
            matches=(in_state("NEW,RELATED,ESTABLISHED"), *going),
        )
        for cidr in sorted(subnet.cidrs)
    )
    reset_here = Rule(
        "REJECT",
        (("reject-with", "tcp-reset"),),
        source=tunnel_range,
        is_source_negated=True,
        in_device=ENI_DEVICE,
        protocol="tcp",
        matches=(in_state("INVALID"),),
    )
    redirect = Rule(
        chain_of_blocked(Blocked.REDIRECT), protocol="icmp", matches=(Match("icmp", (("icmp-type", "5"),)),)
    )
    forward = [clamp_mss(), back, *out, reset]
    if egress is not None:
        forward.append(replace(reset_here, out_device=tunnel_device, destination=IPv4Network(egress)))
    here = (*_sync_rules(sync), redirect, Rule("ACCEPT", matches=(in_state("RELATED,ESTABLISHED"),)), reset_here)
    uninvited = (
        Rule(chain_of_blocked(Blocked.CUSTOMER), in_device=ENI_DEVICE),
        Rule(chain_of_blocked(Blocked.HOST), in_device=tunnel_device),
    )
    chains = (
        chain_of("FORWARD", (*forward, *uninvited), policy="DROP"),
        chain_of("INPUT", (*here, *uninvited), policy="DROP"),
    )
    return (
        Table("filter", (*chains, *blocked_chains(chains))),
        Table("nat", (chain_of("POSTROUTING", (_source_nat(tunnel_range, egress),)),)),
    )


def _sync_rules(sync: SyncEnds | None) -> tuple[Rule, ...]:
    """Nothing but the other member's messages comes in over the link, and nobody else reaches its addresses: neither a
    function nor a customer's machine that forges them. Before the rule for established connections, of which the
    messages are one.
    """
    if sync is None:
        return ()
    port = Match("udp", (("dport", str(SYNC_PORT)),))
    return (
        Rule(
            "ACCEPT",
            in_device=sync.device,
            source=IPv4Network(sync.peer),
            destination=IPv4Network(sync.own),
            protocol="udp",
            matches=(port,),
        ),
        Rule(chain_of_blocked(Blocked.LINK), in_device=sync.device),
        Rule(chain_of_blocked(Blocked.LINK), destination=sync.network),
    )


def _source_nat(tunnel_range: IPv4Network, egress: IPv4Address | None) -> Rule:
    """Ports are chosen at random, for security and because the members of a pair choose from one address.

    A new master may not know the youngest connections of the old one. The kernel keeps a connection's own port where
    its table shows it free: two hosts use the same ports often, so a new connection would get the port of one that it
    does not know, to the same server, and one of the two would be reset. Of 64,000 ports at random it takes an unknown
    one with a probability of the number of unknown connections to that server in 64,000.
    """
    at_random = ("random-fully", "")
    if egress is None:
        return Rule("MASQUERADE", (at_random,), source=tunnel_range, out_device=ENI_DEVICE)
    return Rule("SNAT", (("to-source", str(egress)), at_random), source=tunnel_range, out_device=ENI_DEVICE)


def node_guard(
    kind: TunnelKind, vxlan_port: int, coordinators: Iterable[tuple[IPv4Address, int]], underlay: IPv4Address
) -> Table:
    """The node's own namespace: control traffic skips conntrack, tunnel packets of strangers are dropped.

    A full conntrack table must not break VRRP or ZooKeeper, a tunnel device takes packets of any outer source, and
    VRRPv3 has no authentication: advertisements for this node come from nodes of the pool, or not at all. What others
    do with VRRP here by multicast is none of ours.
    """
    tunnel = tunnel_packets(kind, vxlan_port)
    stranger = Match("set", (("!match-set", f"{PEERS_SET} src"),))
    incoming = [
        *_sync_guard(kind, vxlan_port, underlay),
        Rule(chain_of_blocked(Blocked.STRANGER), protocol=tunnel.protocol, matches=(*tunnel.matches, stranger)),
        Rule(*NOTRACK, protocol=tunnel.protocol, matches=tunnel.matches),
        Rule(
            chain_of_blocked(Blocked.VRRP),
            protocol=PROTOCOL_VRRP,
            destination=IPv4Network(underlay),
            matches=(_no_node(),),
        ),
        Rule(*NOTRACK, protocol=PROTOCOL_VRRP),
    ]
    outgoing = [
        Rule(*NOTRACK, protocol=tunnel.protocol, matches=tunnel.matches),
        Rule(*NOTRACK, protocol=PROTOCOL_VRRP),
    ]
    if kind is TunnelKind.VXLAN:
        sync = tunnel_packets(kind, vxlan_sync_port(vxlan_port))
        outgoing.append(Rule(*NOTRACK, protocol=sync.protocol, matches=sync.matches))
    for address, port in sorted(set(coordinators)):
        peer = IPv4Network(address)
        incoming.append(Rule(*NOTRACK, protocol="tcp", source=peer, matches=(Match("tcp", (("sport", str(port)),)),)))
        outgoing.append(
            Rule(*NOTRACK, protocol="tcp", destination=peer, matches=(Match("tcp", (("dport", str(port)),)),))
        )
    chains = (chain_of("PREROUTING", tuple(incoming)), chain_of("OUTPUT", tuple(outgoing)))
    return Table("raw", (*chains, *blocked_chains(chains)))


def _no_node() -> Match:
    return Match("set", (("!match-set", f"{NODES_SET} src"),))


def _sync_guard(kind: TunnelKind, vxlan_port: int, underlay: IPv4Address) -> tuple[Rule, ...]:
    """The tunnels between members: from nodes only. A host that could send into one could forge connections.

    VXLAN tells them by their UDP port. GRE has no ports; there they are what comes for the node's own address, as the
    hosts send to HaVips.
    """
    dropped = chain_of_blocked(Blocked.SYNC)
    if kind is TunnelKind.VXLAN:
        sync = tunnel_packets(kind, vxlan_sync_port(vxlan_port))
        return (
            Rule(dropped, protocol=sync.protocol, matches=(*sync.matches, _no_node())),
            Rule(*NOTRACK, protocol=sync.protocol, matches=sync.matches),
        )
    own = IPv4Network(underlay)
    return (
        Rule(dropped, protocol=PROTOCOL_GRE, destination=own, matches=(_no_node(),)),
        Rule(*NOTRACK, protocol=PROTOCOL_GRE, destination=own),
        # Hosts are not nodes: the next rule would drop them.
        Rule("RETURN", protocol=PROTOCOL_GRE, destination=own),
    )


def tunnel_packets(kind: TunnelKind, vxlan_port: int) -> Rule:
    """What tells a packet of the pool's tunnels, as a rule without a target."""
    if kind is TunnelKind.GRE:
        return Rule("", protocol=PROTOCOL_GRE)
    return Rule("", protocol="udp", matches=(Match("udp", (("dport", str(vxlan_port)),)),))


def clamp_mss() -> Rule:
    """MSS clamp on the way into a tunnel, which tells the other side too."""
    return Rule(
        "TCPMSS",
        (("clamp-mss-to-pmtu", ""),),
        protocol="tcp",
        matches=(Match("tcp", (("tcp-flags", "SYN,RST SYN"),)),),
    )


def chain_of(hook: str, rules: tuple[Rule, ...], policy: str | None = None) -> Chain:
    """Our chain in a built-in one."""
    return Chain(f"{CHAIN_PREFIX}{hook}", hook, rules, policy)
