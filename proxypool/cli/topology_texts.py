"""The topology as a tree. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proxypool.cli.health_texts import LEVEL_COLOURS
from proxypool.cli.output import Colour, paint, wrap
from proxypool.core.checks import Level
from proxypool.core.model import PairState
from proxypool.core.topology import HostEnd, MemberEnd, PairPart, SubnetPart, Topology
from proxypool.core.units import some_of

MAX_HOSTS = 8
"""Of one subnet, unless the tree is wide."""
BRANCH, LAST, TRUNK, AIR = "├─ ", "└─ ", "│  ", "   "
PLAIN = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-"})
"""For output that cannot show the others."""
_ROLE_COLOURS = {"master": Colour.GOOD, "fault": Colour.BAD, "init": Colour.WARN}


@dataclass(frozen=True)
class _Branch:
    text: str
    below: Sequence[_Branch] = ()
    loud: str = ""
    """The part of the text that is painted."""
    colour: Colour | None = None


def tree_text(found: Topology, *, wide: bool, colour: bool, width: int | None = None) -> str:
    """The whole tree: one line for each thing on the way. `wide`: all hosts, not only the first of each subnet."""
    is_mixed = len(found.versions) > 1
    below = [_subnet(subnet, wide=wide, is_mixed=is_mixed) for subnet in found.subnets]
    if not found.subnets:
        below.append(_Branch("no subnet yet: add one with `proxypool subnet add`"))
    for what, names in (("nodes without a pair", found.idle_nodes), ("hosts without a subnet", found.idle_hosts)):
        if names:
            below.append(_Branch(f"{what}: {_few(names, wide=wide)}"))
    root = _of_level(f"pool {found.pool}: {{}}", found.level, (), below)
    return "\n".join(_lines(root, "", "", width, colour=colour))


def _of_level(text: str, level: Level, codes: Sequence[str], below: Sequence[_Branch]) -> _Branch:
    """A branch that says how it is, and the codes of what is wrong."""
    told = " ".join((level.value, *codes))
    return _Branch(text.format(told), below, told, LEVEL_COLOURS[level])


def _lines(branch: _Branch, first: str, others: str, width: int | None, *, colour: bool) -> Iterator[str]:
    hang = others + (TRUNK if branch.below else AIR) + "  "
    text = wrap(first + branch.text, width, hang)
    yield text.replace(branch.loud, paint(branch.loud, branch.colour, enabled=colour), 1) if branch.loud else text
    for at, below in enumerate(branch.below):
        is_last = at == len(branch.below) - 1
        here, under = others + (LAST if is_last else BRANCH), others + (AIR if is_last else TRUNK)
        yield from _lines(below, here, under, width, colour=colour)


def _subnet(subnet: SubnetPart, *, wide: bool, is_mixed: bool) -> _Branch:
    cidrs = ", ".join(map(str, subnet.cidrs))
    shown = subnet.hosts if wide or len(subnet.hosts) <= MAX_HOSTS + 1 else subnet.hosts[:MAX_HOSTS]
    hosts = [_host(host, is_mixed=is_mixed) for host in shown]
    if len(shown) < len(subnet.hosts):
        hosts.append(_Branch(f"and {len(subnet.hosts) - len(shown)} more: -o wide shows all"))
    pairs = [_pair(pair, is_mixed=is_mixed) for pair in subnet.pairs] or [
        _Branch("no pair", (), "no pair", Colour.WARN)
    ]
    tunnel = f"tunnel {subnet.tunnel.kind or 'not set'}, key {subnet.tunnel.key}"
    count = _count(len(subnet.hosts), "host")
    uses = f"{count} {'uses' if len(subnet.hosts) == 1 else 'use'} it"
    return _of_level(
        f"subnet {subnet.id}: {{}}, {cidrs}, tenant {subnet.tenant}",
        subnet.level,
        subnet.codes,
        [_Branch(uses, hosts), _Branch(tunnel, pairs)],
    )


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _host(host: HostEnd, *, is_mixed: bool) -> _Branch:
    """With versions where they are not all the same."""
    if host.underlay is None:
        return _Branch(f"{host.id}: not registered", (), "not registered", Colour.WARN)
    text = f"{host.id} {host.underlay}, tunnel address {host.tunnel_address}"
    text += f", version {host.version}" if is_mixed and host.version else ""
    return _Branch(text) if host.is_alive else _Branch(f"{text}, not running", (), "not running", Colour.BAD)


def _pair(pair: PairPart, *, is_mixed: bool) -> _Branch:
    more = [f"HaVip {pair.havip}"]
    more += [pair.state] if pair.state != PairState.ACTIVE else []
    more += [f"weight {pair.weight}"] if pair.weight != 1 else []
    more += [f"egress {pair.egress_address}"] if pair.egress_address else []
    text = f"pair {pair.id}: {{}}, {', '.join(more)}"
    return _of_level(text, pair.level, pair.codes, [_member(member, is_mixed=is_mixed) for member in pair.members])


def _member(member: MemberEnd, *, is_mixed: bool) -> _Branch:
    if not member.is_alive:
        role, colour = "not running", Colour.BAD
    elif member.role is None:
        role, colour = "not reporting", Colour.WARN
    else:
        role, colour = member.role, _ROLE_COLOURS.get(member.role, Colour.DIM)
    more = [str(member.underlay)] if member.underlay else []
    more += ["holds the HaVip"] if member.has_havip else []
    more += [f"gate {'open' if member.gate else 'closed'}"] if member.gate is not None else []
    more += ["elected"] if member.elected else []
    more += [f"version {member.version}"] if is_mixed and member.version else []
    more += list(member.health)
    text = f"{role} {member.node}{': ' if more else ''}{', '.join(more)}"
    return _Branch(text, [_Branch(f"ENI {member.eni} {member.address}")], role, colour)


def _few(names: Sequence[str], *, wide: bool) -> str:
    return some_of(names, len(names) if wide else MAX_HOSTS)
