"""The iptables rules of a node and of a host, as values.

Our rules stand in chains of our own (`PP-…`), entered by one jump, so that rules of others stay untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.addressing import ENI_DEVICE, TUNNEL_DEVICE_PREFIX
from proxypool.core.model import SubnetSpec, TunnelKind
from proxypool.core.scene import CHAIN_PREFIX, SET_PREFIX, Chain, Match, Rule, Table

PEERS_SET = f"{SET_PREFIX}peers"
ANY_TUNNEL = f"{TUNNEL_DEVICE_PREFIX}+"
"""Every tunnel of a host: a rule for each would be looked at by each packet, 200 times with 200 subnets."""
PROTOCOL_GRE = "gre"
PROTOCOL_VRRP = "112"
"""By number: python-iptables does not know the name."""


def _state(states: str) -> Match:
    return Match("conntrack", (("ctstate", states),))


def subnet_tables(subnet: SubnetSpec, tunnel_device: str, tunnel_range: IPv4Network) -> tuple[Table, ...]:
    """Tables of a subnet's namespace on a node.

    A TCP packet without state (a connection lost in a failover) gets a RST on either side, so that nobody hangs; every
    other packet without state is dropped by the policy, so none can leave the ENI without NAT. No RST is sent into the
    tunnel for one that a customer's server forged.

    The MSS is clamped in the filter table, because a mangle table would cost each packet three more visits.
    """
    back = Rule("ACCEPT", in_device=ENI_DEVICE, out_device=tunnel_device, matches=(_state("RELATED,ESTABLISHED"),))
    reset = Rule(
        "REJECT",
        (("reject-with", "tcp-reset"),),
        in_device=tunnel_device,
        out_device=ENI_DEVICE,
        protocol="tcp",
        matches=(_state("INVALID"),),
    )
    out = tuple(
        Rule(
            "ACCEPT",
            in_device=tunnel_device,
            out_device=ENI_DEVICE,
            source=tunnel_range,
            destination=cidr,
            matches=(_state("NEW,RELATED,ESTABLISHED"),),
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
        matches=(_state("INVALID"),),
    )
    masquerade = Rule("MASQUERADE", (("random-fully", ""),), source=tunnel_range, out_device=ENI_DEVICE)
    return (
        Table(
            "filter",
            (
                _chain("FORWARD", (_clamp(), back, *out, reset), policy="DROP"),
                _chain("INPUT", (Rule("ACCEPT", matches=(_state("RELATED,ESTABLISHED"),)), reset_here), policy="DROP"),
            ),
        ),
        Table("nat", (_chain("POSTROUTING", (masquerade,)),)),
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
    return Table("raw", (_chain("PREROUTING", tuple(incoming)), _chain("OUTPUT", tuple(outgoing))))


def _tunnel_packets(kind: TunnelKind, vxlan_port: int) -> Rule:
    if kind is TunnelKind.GRE:
        return Rule("", protocol=PROTOCOL_GRE)
    return Rule("", protocol="udp", matches=(Match("udp", (("dport", str(vxlan_port)),)),))


def host_rewrite(instance_cidrs: Iterable[IPv4Network], tunnel_address: IPv4Address) -> Table:
    """Rewrite of instances' addresses on the way into a tunnel, and of no other packet."""
    rules = tuple(
        Rule("SNAT", (("to-source", str(tunnel_address)), ("random-fully", "")), source=cidr, out_device=ANY_TUNNEL)
        for cidr in sorted(instance_cidrs)
    )
    return Table("nat", (_chain("POSTROUTING", rules),))


def host_clamp() -> Table:
    """MSS clamp on the way into the tunnels, which tells the database too."""
    return Table("filter", (_chain("FORWARD", (_clamp(ANY_TUNNEL),)),))


def _clamp(out_device: str | None = None) -> Rule:
    return Rule(
        "TCPMSS",
        (("clamp-mss-to-pmtu", ""),),
        out_device=out_device,
        protocol="tcp",
        matches=(Match("tcp", (("tcp-flags", "SYN,RST SYN"),)),),
    )


def _chain(hook: str, rules: tuple[Rule, ...], policy: str | None = None) -> Chain:
    return Chain(f"{CHAIN_PREFIX}{hook}", hook, rules, policy)
