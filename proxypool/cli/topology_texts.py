"""The topology as a tree. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from proxypool.cli.health_texts import LEVEL_COLOURS
from proxypool.cli.output import Colour, paint, wrap
from proxypool.core.checks import Level
from proxypool.core.model import PairState
from proxypool.core.topology import HostEnd, MemberEnd, PairPart, SubnetPart, Topology

MAX_HOSTS = 8
"""Of one subnet, unless the tree is wide."""
BRANCH, LAST, TRUNK, AIR = "├─ ", "└─ ", "│  ", "   "
PLAIN = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-"})
"""For output that cannot show the others."""
_ROLE_COLOURS = {"master": Colour.GOOD, "fault": Colour.BAD, "init": Colour.WARN}


@dataclass
class _Branch:
    text: str
    below: list[_Branch] = field(default_factory=list)


def tree_text(found: Topology, *, wide: bool, colour: bool, width: int | None = None) -> str:
    """The whole tree: one line for each thing on the way. `wide`: all hosts, not only the first of each subnet."""
    paints = _Paints(colour)
    root = _Branch(
        f"pool {found.pool}: {paints.level(found.level)}",
        [_subnet(subnet, paints, wide=wide) for subnet in found.subnets],
    )
    for what, names in (("nodes without a pair", found.idle_nodes), ("hosts without a subnet", found.idle_hosts)):
        if names:
            root.below.append(_Branch(f"{what}: {_few(names, wide=wide)}"))
    if not found.subnets:
        root.below.insert(0, _Branch("no subnet yet: add one with `proxypool subnet add`"))
    return "\n".join(_lines(root, "", "", width))


@dataclass(frozen=True)
class _Paints:
    is_enabled: bool

    def level(self, level: Level, codes: Sequence[str] = ()) -> str:
        """How it is, and the codes of what is wrong."""
        text = " ".join((level.value, *codes))
        return paint(text, LEVEL_COLOURS[level], enabled=self.is_enabled)

    def __call__(self, text: str, colour: Colour | None) -> str:
        return paint(text, colour, enabled=self.is_enabled)


def _lines(branch: _Branch, first: str, others: str, width: int | None) -> Iterator[str]:
    hang = others + (TRUNK if branch.below else AIR) + "   "
    yield first + wrap(branch.text, None if width is None else width - len(first), hang)
    for at, below in enumerate(branch.below):
        is_last = at == len(branch.below) - 1
        yield from _lines(below, others + (LAST if is_last else BRANCH), others + (AIR if is_last else TRUNK), width)


def _subnet(subnet: SubnetPart, paints: _Paints, *, wide: bool) -> _Branch:
    cidrs = ", ".join(map(str, subnet.cidrs))
    shown = subnet.hosts if wide or len(subnet.hosts) <= MAX_HOSTS + 1 else subnet.hosts[:MAX_HOSTS]
    hosts = [_Branch(_host(host, paints)) for host in shown]
    if len(shown) < len(subnet.hosts):
        hosts.append(_Branch(f"and {len(subnet.hosts) - len(shown)} more: -o wide shows all"))
    pairs = [_pair(pair, paints) for pair in subnet.pairs] or [_Branch(paints("no pair", Colour.WARN))]
    tunnel = f"tunnel {subnet.tunnel.kind or 'not set'}, key {subnet.tunnel.key}"
    return _Branch(
        f"subnet {subnet.id}: {paints.level(subnet.level, subnet.codes)}, {cidrs}, tenant {subnet.tenant}",
        [
            _Branch(f"{_count(len(subnet.hosts), 'host')}{' use it' if subnet.hosts else ''}", hosts),
            _Branch(tunnel, pairs),
        ],
    )


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _host(host: HostEnd, paints: _Paints) -> str:
    if host.underlay is None:
        return f"{host.id}: {paints('not registered', Colour.WARN)}"
    gone = "" if host.is_alive else f", {paints('not running', Colour.BAD)}"
    return f"{host.id} {host.underlay}, tunnel address {host.tunnel_address}{gone}"


def _pair(pair: PairPart, paints: _Paints) -> _Branch:
    more = [f"HaVip {pair.havip}"]
    more += [pair.state] if pair.state != PairState.ACTIVE else []
    more += [f"weight {pair.weight}"] if pair.weight != 1 else []
    more += [f"egress {pair.egress_address}"] if pair.egress_address else []
    text = f"pair {pair.id}: {paints.level(pair.level, pair.codes)}, {', '.join(more)}"
    return _Branch(text, [_member(member, paints) for member in pair.members])


def _member(member: MemberEnd, paints: _Paints) -> _Branch:
    if not member.is_alive:
        role = paints("not running", Colour.BAD)
    elif member.role is None:
        role = paints("not reporting", Colour.WARN)
    else:
        role = paints(member.role, _ROLE_COLOURS.get(member.role))
    more = [str(member.underlay)] if member.underlay else []
    more += ["holds the HaVip"] if member.has_havip else []
    more += [f"gate {'open' if member.gate else 'closed'}"] if member.gate is not None else []
    more += ["elected"] if member.elected else []
    more += [paints("; ".join(member.health), Colour.BAD)] if member.health else []
    text = f"{role} {member.node}{': ' if more else ''}{', '.join(more)}"
    return _Branch(text, [_Branch(f"ENI {member.eni} {member.address}")])


def _few(names: Sequence[str], *, wide: bool) -> str:
    if wide or len(names) <= MAX_HOSTS:
        return ", ".join(names)
    return f"{', '.join(names[:MAX_HOSTS])} and {len(names) - MAX_HOSTS} more"
