"""The iptables rules of a function host, as values.

All of it is written once: what changes while the host runs is a set, a route or a rule of the routing policy. Only a
new way of sharing new connections (a distribution) changes a table. Every rule is for all tunnels, all subnets and all
instances: what has a rule for each would be looked at by each packet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.addressing import TUNNEL_DEVICE_PREFIX
from proxypool.core.blocking import REFUSED_CHAIN, Blocked, blocked_chains, chain_of_blocked
from proxypool.core.firewall import NOTRACK, chain_of, clamp_mss, in_state, tunnel_packets
from proxypool.core.model import TunnelKind
from proxypool.core.scene import CHAIN_PREFIX, SET_PREFIX, Chain, Match, Rule, Table
from proxypool.core.steering import CHOOSE, MarkLayout, Weights, slots_of

ATTACHED_SET = f"{SET_PREFIX}attached"
"""Instance -> mark of its group."""
HAVIPS_SET = f"{SET_PREFIX}havips"
"""HaVips of the pool: who may send tunnel packets here."""
PLATFORM_SET = f"{SET_PREFIX}platform"
"""Nodes, HaVips and ZooKeeper servers, but for those in open CIDRs: what no instance may reach."""
ANY_TUNNEL = f"{TUNNEL_DEVICE_PREFIX}+"
STEER_CHAIN, OUT_CHAIN, ELSE_CHAIN = (f"{CHAIN_PREFIX}{name}" for name in ("STEER", "OUT", "ELSE"))
DEAD_CHAIN = REFUSED_CHAIN
LIMIT_NAME = "pp-new"
"""Of the kernel's table of rates, in /proc/net/ipt_hashlimit."""
BURST_S, MAX_BURST = 10, 10_000
"""Begun at once after a rest: what comes in so many seconds otherwise. The kernel's own limit is the other one."""
DEAD_REALM = 177
"""Realm of routes that lead nowhere, as those of a pair that is gone: `rt_realms` leaves it free."""
LOOPBACK = "lo"
"""Where the guard's routes lead, and no other packet that is forwarded."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """What the tables depend on."""

    instance_cidrs: tuple[IPv4Network, ...]
    tunnel_address: IPv4Address
    marks: MarkLayout
    distributions: Mapping[Weights, int]
    open_cidrs: tuple[IPv4Network, ...] = ()
    turn: int = 0
    """Where this host's distributions begin their round."""
    masquerades: bool = False
    """Whether what instances send anywhere else leaves with the host's address: the ip-masq-agent's work."""
    tunnel: TunnelKind = TunnelKind.GRE
    vxlan_port: int = 4789
    new_connections_per_s: int = 0
    """Of an instance; 0: as many as it likes."""


def host_tables(rules: HostRules) -> tuple[Table, ...]:
    """All tables of a host."""
    return _mangle(rules), _filter(rules), _nat(rules), _raw(rules)


def _masked(value: int, mask: int) -> str:
    return f"{value:#x}/{mask:#x}"


def _mangle(rules: HostRules) -> Table:
    """A connection that has a path keeps it; a new one of an instance gets one, if the instance is attached.

    The mark is restored in both directions, so that the reverse path filter of a host that has it in strict mode finds
    the tunnel (`src_valid_mark`). It is saved only when the packet leaves by a tunnel (see the filter table): what goes
    elsewhere has none.
    """
    marks = rules.marks
    unmarked = _masked(0, marks.mask)
    restore = Rule(
        "CONNMARK",
        (("restore-mark", ""), ("nfmask", f"{marks.mask:#x}"), ("ctmask", f"{marks.mask:#x}")),
        matches=(Match("connmark", (("!mark", unmarked),)),),
    )
    enter = tuple(
        Rule(STEER_CHAIN, source=cidr, matches=(Match("mark", (("mark", unmarked),)), in_state("NEW")))
        for cidr in sorted(rules.instance_cidrs)
    )
    choices = sorted(rules.distributions.items(), key=lambda item: item[1])
    steer = (
        *_limit(rules.new_connections_per_s),
        *(Rule("RETURN", destination=cidr) for cidr in sorted(rules.open_cidrs)),
        Rule("SET", (("map-set", f"{ATTACHED_SET} src"), ("map-mark", ""))),
        *(
            Rule(
                _choice_chain(number),
                matches=(Match("mark", (("mark", _masked(marks.of_choice(number), marks.choice_mask)),)),),
            )
            for _, number in choices
        ),
    )
    chains = (
        chain_of("PREROUTING", (restore, *enter)),
        Chain(STEER_CHAIN, None, steer),
        *(
            Chain(_choice_chain(number), None, tuple(_choice(weights, marks, rules.turn)))
            for weights, number in choices
        ),
    )
    return Table("mangle", (*chains, *blocked_chains(chains)))


def _limit(new_per_s: int) -> Iterable[Rule]:
    """How many new connections an instance may begin. All instances of a host share its connection table.

    By rate, because the kernel can count by rate in a glance. What it has for counting connections (connlimit) walks
    through all that an instance has: with 8,192 of them 9 ms for a new one.
    """
    if new_per_s:
        burst = str(min(BURST_S * new_per_s, MAX_BURST))
        options = (
            ("hashlimit-above", f"{new_per_s}/sec"),
            ("hashlimit-burst", burst),
            ("hashlimit-mode", "srcip"),
            ("hashlimit-name", LIMIT_NAME),
            # iptables' own defaults, which python-iptables does not fill in and the kernel insists on; milliseconds.
            ("hashlimit-htable-gcinterval", "1000"),
            ("hashlimit-htable-expire", "10000"),
        )
        yield Rule(chain_of_blocked(Blocked.FLOOD), matches=(Match("hashlimit", options),))


def _choice_chain(number: int) -> str:
    return f"{CHAIN_PREFIX}CHOICE-{number}"


def _choice(weights: Weights, marks: MarkLayout, turn: int) -> Iterable[Rule]:
    """One index for each new connection: in turn, so that shares are exact; by chance where a round would be long."""
    slots = slots_of(weights, turn)
    if slots is not None:
        for place, index in enumerate(slots):
            left = len(slots) - place
            yield _pick(index, marks, (("mode", "nth"), ("every", str(left)), ("packet", "0")) if left > 1 else ())
        return
    left_over = Fraction(sum(weights))
    indexes = [(index, weight) for index, weight in enumerate(weights) if weight]
    for index, weight in indexes[:-1]:
        yield _pick(index, marks, (("mode", "random"), ("probability", f"{float(weight / left_over):.9f}")))
        left_over -= weight
    yield _pick(indexes[-1][0], marks, ())


def _pick(index: int, marks: MarkLayout, chance: Sequence[tuple[str, str]]) -> Rule:
    undecided = CHOOSE << marks.shift
    matches = [Match("mark", (("mark", _masked(undecided, undecided)),))]
    if chance:
        matches.append(Match("statistic", tuple(chance)))
    return Rule("MARK", (("set-xmark", _masked(marks.of_index(index), marks.choice_mask)),), matches=tuple(matches))


def _filter(rules: HostRules) -> Table:
    """What leaves by a tunnel, and what must not leave by anything else.

    A connection of a path that is about to leave by another card (somebody removed routes or rules) is refused with an
    ICMP error, which it survives until they are repaired. What a tunnel brings that nobody asked for is dropped. What
    has to do with a pair that is gone, or leads nowhere, gets a RST or an ICMP error at once. Nothing that instances
    send or get is accepted here: the host's other rules still have their say. The tunnels' own packets are, because the
    host's rules for what is established or new match nothing that is not tracked.
    """
    marks = rules.marks
    leads_nowhere = Match("realm", (("realm", str(DEAD_REALM)),))
    astray = Rule(
        "REJECT",
        (("reject-with", "icmp-host-unreachable"),),
        out_device=ANY_TUNNEL,
        is_out_negated=True,
        matches=(
            Match("connmark", (("!mark", _masked(0, marks.mask)),)),
            Match("conntrack", (("ctdir", "ORIGINAL"),)),
        ),
    )
    save = Rule(
        "CONNMARK",
        (("save-mark", ""), ("nfmask", f"{marks.mask:#x}"), ("ctmask", f"{marks.mask:#x}")),
        matches=(in_state("NEW"),),
    )
    chains = (
        chain_of(
            "FORWARD",
            (
                Rule(OUT_CHAIN, out_device=ANY_TUNNEL),
                Rule(chain_of_blocked(Blocked.UNASKED), in_device=ANY_TUNNEL, matches=(in_state("NEW"),)),
                astray,
                Rule(DEAD_CHAIN, out_device=LOOPBACK, matches=(leads_nowhere,)),
                Rule(ELSE_CHAIN, in_device=ANY_TUNNEL, is_in_negated=True, out_device=ANY_TUNNEL, is_out_negated=True),
            ),
        ),
        chain_of("INPUT", (replace(_of_havips(rules, "src"), target="ACCEPT"), _strangers(rules))),
        chain_of("OUTPUT", (replace(_of_havips(rules, "dst"), target="ACCEPT"),)),
        Chain(
            OUT_CHAIN,
            None,
            (Rule(DEAD_CHAIN, matches=(leads_nowhere,)), clamp_mss(), save),
        ),
        Chain(ELSE_CHAIN, None, tuple(_elsewhere(rules))),
        Chain(
            DEAD_CHAIN,
            None,
            (
                Rule("REJECT", (("reject-with", "tcp-reset"),), protocol="tcp"),
                Rule("REJECT", (("reject-with", "icmp-host-unreachable"),)),
            ),
        ),
    )
    return Table("filter", (*chains, *blocked_chains(chains)))


def _of_havips(rules: HostRules, side: str, *, is_negated: bool = False) -> Rule:
    """Tunnel packets from (`src`) or to (`dst`) HaVips of the pool, or others than that; a rule without a target."""
    tunnel = tunnel_packets(rules.tunnel, rules.vxlan_port)
    match = Match("set", (("!match-set" if is_negated else "match-set", f"{HAVIPS_SET} {side}"),))
    return replace(tunnel, matches=(*tunnel.matches, match))


def _strangers(rules: HostRules) -> Rule:
    """A tunnel device takes packets of any outer source: who could send them would be every customer at once."""
    return replace(_of_havips(rules, "src", is_negated=True), target=chain_of_blocked(Blocked.STRANGER))


def _raw(rules: HostRules) -> Table:
    """Tunnel packets skip conntrack. With VXLAN each flow has a source port of its own, and its answers have another:
    two more entries for each connection of an instance, in the same table.

    Those of strangers are tracked: the filter table drops them before an entry is made.
    """
    target, options = NOTRACK
    incoming, outgoing = (
        replace(_of_havips(rules, side), target=target, target_options=options) for side in ("src", "dst")
    )
    return Table("raw", (chain_of("PREROUTING", (incoming,)), chain_of("OUTPUT", (outgoing,))))


def _elsewhere(rules: HostRules) -> Iterable[Rule]:
    """What instances send anywhere but into a tunnel. Where the host, or an agent on it, gives that the host's address,
    a tunnel packet of an instance's own making would look to nodes like the host's; and hosts take those of a HaVip.
    """
    tunnel = tunnel_packets(rules.tunnel, rules.vxlan_port)
    yield Rule(chain_of_blocked(Blocked.TUNNEL), protocol=tunnel.protocol, matches=tunnel.matches)
    platform = Match("set", (("match-set", f"{PLATFORM_SET} dst"),))
    yield Rule(chain_of_blocked(Blocked.PLATFORM), matches=(platform,))


def _nat(rules: HostRules) -> Table:
    """Rewrite of instances' addresses on the way into a tunnel; elsewhere only for a host that replaces an agent."""
    cidrs = sorted(rules.instance_cidrs)
    found = [
        Rule(
            "SNAT",
            (("to-source", str(rules.tunnel_address)), ("random-fully", "")),
            source=cidr,
            out_device=ANY_TUNNEL,
        )
        for cidr in cidrs
    ]
    if rules.masquerades:
        found += [Rule("RETURN", destination=cidr) for cidr in sorted(rules.open_cidrs)]
        elsewhere = Match("addrtype", (("!dst-type", "LOCAL"),))
        found += [Rule("MASQUERADE", (("random-fully", ""),), source=cidr, matches=(elsewhere,)) for cidr in cidrs]
    return Table("nat", (chain_of("POSTROUTING", tuple(found)),))
