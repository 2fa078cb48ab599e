"""The way of packets as a picture: hosts, the pairs with their members, the customers' subnets. SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxypool.core.checks import Level
from proxypool.core.model import PairState
from proxypool.core.role import Role
from proxypool.core.topology import MemberEnd, PairPart, SubnetPart, Topology
from proxypool.web.markup import Markup, join, tag

MAX_LANES = 8
"""More pairs than this are no picture any more: those that are not well come first."""
WIDTH = 760
LANE, TOP = 92, 26
_HOSTS, _PAIR, _NODE, _SUBNET = 8, 210, 330, 570
"""Left edges."""
_HOSTS_WIDTH, _PAIR_WIDTH, _NODE_WIDTH, _SUBNET_WIDTH = 104, 280, 150, 182
_LONG = 19
"""Characters of a name that fit into a box."""


def picture(found: Topology) -> Markup:
    """The picture, and a sentence below it if not all is in it; nothing for a pool without pairs."""
    lanes = [(subnet, pair) for subnet in found.subnets for pair in subnet.pairs]
    if not lanes:
        return join()
    shown = lanes
    if len(lanes) > MAX_LANES:
        unwell = [lane for lane in lanes if lane[1].level is not Level.OK]
        well = [lane for lane in lanes if lane[1].level is Level.OK]
        kept = [*unwell, *well][:MAX_LANES]
        shown = [lane for lane in lanes if lane in kept]
    more = len(lanes) - len(shown)
    note = tag("p", f"{more} more pairs are left out of the picture, those that are well first.", class_="note")
    drawing = tag(
        "div",
        _drawing(shown),
        class_="picture",
        tabindex="0",
        role="region",
        aria_label="Picture of the topology",
    )
    return join(drawing, note if more else None)


def _drawing(lanes: Sequence[tuple[SubnetPart, PairPart]]) -> Markup:
    height = TOP + LANE * len(lanes)
    return tag(
        "svg",
        tag(
            "title", "The way of packets: function hosts, pairs of proxy nodes, customers' subnets", id="picture-title"
        ),
        tag("desc", "; ".join(_sentence(subnet, pair) for subnet, pair in lanes), id="picture-desc"),
        _headings(),
        _hosts(lanes),
        [_lane(subnet, pair, TOP + LANE * at) for at, (subnet, pair) in enumerate(lanes)],
        _subnets(lanes),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_labelledby="picture-title picture-desc",
    )


def _sentence(subnet: SubnetPart, pair: PairPart) -> str:
    served = f"{pair.master} is master" if pair.master else "nobody is master"
    return f"pair {subnet.id}/{pair.id}, {pair.state}, HaVip {pair.havip}: {served}"


def _headings() -> Markup:
    words = (
        (_HOSTS + _HOSTS_WIDTH / 2, "function hosts"),
        (_PAIR + _PAIR_WIDTH / 2, "pairs of proxy nodes"),
        (_SUBNET + _SUBNET_WIDTH / 2, "customers' subnets"),
    )
    return join([_text(x, 14, word, "heading", "middle") for x, word in words])


def _hosts(lanes: Sequence[tuple[SubnetPart, PairPart]]) -> Markup:
    """One box for all: a pool has thousands."""
    ends = {host.id: host for subnet, _ in lanes for host in subnet.hosts}
    alive = sum(host.is_alive for host in ends.values())
    middle = TOP + LANE * len(lanes) / 2
    below = f"{alive} alive" if alive != len(ends) else "all alive" if ends else "none attached"
    return join(
        _box(_HOSTS, middle - 30, _HOSTS_WIDTH, 60, "hosts" if alive == len(ends) else "hosts unwell"),
        _text(_HOSTS + _HOSTS_WIDTH / 2, middle - 2, str(len(ends)), "number", "middle"),
        _text(_HOSTS + _HOSTS_WIDTH / 2, middle + 18, below, "small", "middle"),
        [
            _curve(_HOSTS + _HOSTS_WIDTH, middle, _PAIR, TOP + LANE * at + LANE / 2, _tunnel_class(pair))
            for at, (_, pair) in enumerate(lanes)
        ],
    )


def _tunnel_class(pair: PairPart) -> str:
    if pair.master is None:
        return "way lost"
    return "way idle" if pair.state != PairState.ACTIVE else "way"


def _lane(subnet: SubnetPart, pair: PairPart, top: float) -> Markup:
    middle = top + LANE / 2
    text = f"{pair.state}" if pair.state != PairState.ACTIVE else str(pair.havip)
    return tag(
        "g",
        _box(_PAIR, top + 6, _PAIR_WIDTH, LANE - 12, f"pair {pair.level.value}"),
        _text(_PAIR + 12, middle - 14, _short(pair.id, 12), "name"),
        _text(_PAIR + 12, middle + 4, text, "small"),
        _text(_PAIR + 12, middle + 21, _short(subnet.id, 12), "small"),
        [_member(member, top + 12 + 36 * at) for at, member in enumerate(pair.members)],
        list(_exits(pair, top, middle)),
        class_="lane",
    )


def _exits(pair: PairPart, top: float, middle: float) -> Iterator[Markup]:
    for at, member in enumerate(pair.members):
        if member.role == Role.MASTER:
            way = "way" if member.gate else "way lost"
            yield _curve(_NODE + _NODE_WIDTH, top + 28 + 36 * at, _SUBNET, middle, way)


def _member(member: MemberEnd, top: float) -> Markup:
    kind = _member_class(member)
    return join(
        _box(_NODE, top, _NODE_WIDTH, 32, f"node {kind}"),
        _mark(kind, _NODE + 14, top + 16),
        _text(_NODE + 27, top + 14, _short(member.node, _LONG), "name"),
        _text(_NODE + 27, top + 27, _short(_role_text(member), _LONG), "small"),
    )


def _mark(kind: str, x: float, y: float) -> Markup:
    """As in the legend."""
    if kind == "unwell":
        return tag("rect", x=f"{x - 4.5:g}", y=f"{y - 4.5:g}", width=9, height=9, class_="sign")
    return tag("circle", cx=f"{x:g}", cy=f"{y:g}", r=5, class_=kind)


def _member_class(member: MemberEnd) -> str:
    if not member.is_alive or member.health or member.role in {None, Role.FAULT}:
        return "unwell"
    return "master" if member.role == Role.MASTER else "backup"


def _role_text(member: MemberEnd) -> str:
    if member.role is None:
        return "not reporting" if member.is_alive else "not running"
    return member.role if member.is_alive else f"{member.role}, not running"


def _subnets(lanes: Sequence[tuple[SubnetPart, PairPart]]) -> Markup:
    """A box beside all pairs of a subnet: they stand together."""
    boxes = []
    at = 0
    while at < len(lanes):
        subnet = lanes[at][0]
        count = sum(other.id == subnet.id for other, _ in lanes)
        top, height = TOP + LANE * at + 6, LANE * count - 12
        middle = top + height / 2
        cidr = str(subnet.cidrs[0]) if subnet.cidrs else "no CIDR"
        more = f" and {len(subnet.cidrs) - 1} more" if len(subnet.cidrs) > 1 else ""
        boxes.append(
            join(
                _box(_SUBNET, top, _SUBNET_WIDTH, height, "subnet"),
                _text(_SUBNET + 14, middle - 8, _short(subnet.id, _LONG), "name"),
                _text(_SUBNET + 14, middle + 9, f"{cidr}{more}", "small"),
                _text(_SUBNET + 14, middle + 25, _short(f"tenant {subnet.tenant}", _LONG + 4), "small"),
            )
        )
        at += count
    return join(boxes)


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return tag("rect", x=f"{x:g}", y=f"{y:g}", width=f"{width:g}", height=f"{height:g}", rx="8", class_=kind)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> Markup:
    return tag("text", text, x=f"{x:g}", y=f"{y:g}", class_=kind, text_anchor=anchor)


def _curve(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    middle = (x1 + x2) / 2
    return tag("path", d=f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}", class_=kind)
