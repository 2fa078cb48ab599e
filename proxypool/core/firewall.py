"""The iptables rules of a node, as values; those of a host are in `host_firewall`.

Our rules stand in chains of our own (`PP-…`), entered by one jump, so that rules of others stay untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.model import SubnetSpec, TunnelKind
from proxypool.core.scene import CHAIN_PREFIX, SET_PREFIX, Chain, Match, Rule, Table

PEERS_SET = f"{SET_PREFIX}peers"
LEASE_SET = f"{SET_PREFIX}lease"
"""Of a subnet's namespace: holds the hosts' tunnel addresses while this member may forward, in mode strict."""
PROTOCOL_GRE = "gre"
PROTOCOL_VRRP = "112"
"""By number: python-iptables does not know the name."""


def in_state(states: str) -> Match:
    """Conntrack states, separated by commas."""
    return Match("conntrack", (("ctstate", states),))


def subnet_tables(
    subnet: SubnetSpec, tunnel_device: str, tunnel_range: IPv4Network, *, is_leased: bool = False
) -> tuple[Table, ...]:
    """Tables of a subnet's namespace on a node.

    A TCP packet without state (a connection lost in a failover) gets a RST on either side, so that nobody hangs; every
    other packet without state is dropped by the policy, so none can leave the ENI without NAT. No RST is sent into the
    tunnel for one that a customer's server forged.

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
    masquerade = Rule("MASQUERADE", (("random-fully", ""),), source=tunnel_range, out_device=ENI_DEVICE)
    return (
        Table(
            "filter",
            (
                chain_of("FORWARD", (clamp_mss(), back, *out, reset), policy="DROP"),
                chain_of(
                    "INPUT", (Rule("ACCEPT", matches=(in_state("RELATED,ESTABLISHED"),)), reset_here), policy="DROP"
                ),
            ),
        ),
        Table("nat", (chain_of("POSTROUTING", (masquerade,)),)),
    )


def node_guard(kind: TunnelKind, vxlan_port: int, coordinators: Iterable[tuple[IPv4Address, int]]) -> Table:
    """The node's own namespace: control traffic skips conntrack, tunnel packets of strangers are dropped.

    A full conntrack table must not break VRRP or ZooKeeper, and a tunnel device takes packets of any outer source.
    """
    tunnel = _tunnel_packets(kind, vxlan_port)
    notrack = ("CT", (("notrack", ""),))
    stranger = Match("set", (("!match-set", f"{PEERS_SET} src"),))
    incoming = [
        Rule("DROP", protocol=tunnel.protocol, matches=(*tunnel.matches, stranger)),
        Rule(*notrack, protocol=tunnel.protocol, matches=tunnel.matches),
        Rule(*notrack, protocol=PROTOCOL_VRRP),
    ]
    outgoing = [
        Rule(*notrack, protocol=tunnel.protocol, matches=tunnel.matches),
        Rule(*notrack, protocol=PROTOCOL_VRRP),
    ]
    for address, port in sorted(set(coordinators)):
        peer = IPv4Network(address)
        incoming.append(Rule(*notrack, protocol="tcp", source=peer, matches=(Match("tcp", (("sport", str(port)),)),)))
        outgoing.append(
            Rule(*notrack, protocol="tcp", destination=peer, matches=(Match("tcp", (("dport", str(port)),)),))
        )
    return Table("raw", (chain_of("PREROUTING", tuple(incoming)), chain_of("OUTPUT", tuple(outgoing))))


def _tunnel_packets(kind: TunnelKind, vxlan_port: int) -> Rule:
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
