"""The subnets with their pairs and members: the middle of the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from proxypool.core.checks import Level
from proxypool.core.model import PairState
from proxypool.core.role import Role
from proxypool.core.status import MemberReport, PairReport, PoolStatus, SubnetReport
from proxypool.core.units import ago, brief, rate
from proxypool.web.markup import Child, Markup, join, tag
from proxypool.web.parts import badge, bar, count, grouped_table, level_badge, row, section

MAX_SHOWN = 40
"""Of more subnets only those that are not well are shown whole, the others as links."""
MAX_OPEN = 6
"""More than this and those that are well are folded."""
_HEADER = ("Node", "Role", "Gate", "Health", "Connections", "To customer", "To hosts", "Role since")
_ROLES = {Role.MASTER.value: "master", Role.BACKUP.value: "backup", Role.FAULT.value: "critical"}


def subnets(status: PoolStatus) -> Markup:
    """All of them, or the way to them."""
    if not status.subnets:
        how = tag("p", "No subnet yet: add one with ", tag("code", "proxypool subnet add ID --cidr CIDR"), ".")
        return section("subnets", "Subnets", how)
    whole: Sequence[SubnetReport] = status.subnets
    listed: Sequence[SubnetReport] = ()
    if len(status.subnets) > MAX_SHOWN:
        whole = [one for one in status.subnets if one.level is not Level.OK][:MAX_SHOWN]
        names = {one.id for one in whole}
        listed = [one for one in status.subnets if one.id not in names]
    is_folded = len(whole) > MAX_OPEN
    return section(
        "subnets",
        f"Subnets ({len(status.subnets)})",
        [_subnet(one, status.at, is_open=not is_folded or one.level is not Level.OK) for one in whole],
        _index(listed) if listed else None,
    )


def _index(found: Sequence[SubnetReport]) -> Markup:
    return tag(
        "ul",
        [
            tag("li", tag("a", one.id, href=f"/?subnet={quote(one.id, safe='')}"), level_badge(one.level))
            for one in found
        ],
        class_="index",
    )


def _subnet(subnet: SubnetReport, now: float, *, is_open: bool) -> Markup:
    cidrs = ", ".join(map(str, subnet.cidrs))
    facts = (cidrs, f"tenant {subnet.tenant}", count(len(subnet.hosts), "host"), _size(subnet))
    about = " · ".join(fact for fact in facts if fact)
    title = tag("h3", subnet.id)
    summary = tag("summary", title, level_badge(subnet.level), tag("span", about, class_="about"))
    content: Child = tag("p", "It has no pair.", class_="quiet")
    if subnet.pairs:
        bodies = [_pair(pair, now) for pair in subnet.pairs]
        content = grouped_table(f"Members of subnet {subnet.id}", _HEADER, bodies)
    return tag("details", summary, content, open=is_open, id=f"subnet-{subnet.id}", class_="subnet")


def _size(subnet: SubnetReport) -> str:
    scale = subnet.scale
    if scale.mode is None:
        return ""
    wanted = f", {scale.wanted} wanted" if scale.wanted not in {None, scale.active} else ""
    paused = ", paused" if scale.paused_since is not None else ""
    return f"{scale.active} of {scale.min_pairs}-{scale.max_pairs} pairs{wanted}, {scale.mode}{paused}"


def _pair(pair: PairReport, now: float) -> Markup:
    """A line for the pair, and one for each member."""
    facts = [tag("span", fact, class_="fact") for fact in _facts(pair, now)]
    badges = level_badge(pair.level) if pair.level is not Level.OK else None
    head = tag("th", tag("b", pair.id), badges, facts, scope="rowgroup", colspan=len(_HEADER))
    members = [row(_HEADER, _member(member, now)) for member in pair.members]
    return tag("tbody", tag("tr", head, class_="pair"), members, class_=pair.level.value)


def _facts(pair: PairReport, now: float) -> Iterator[str]:
    yield f"HaVip {pair.havip}"
    if pair.egress_address is not None:
        yield f"egress {pair.egress_address}"
    if pair.state == PairState.DRAINING:
        yield f"draining {ago(pair.draining_since, now)}".rstrip()
    elif pair.state != PairState.ACTIVE:
        yield pair.state
    if pair.paused_since is not None:
        yield f"paused {ago(pair.paused_since, now)}".rstrip()
    if pair.epoch is not None:
        yield f"epoch {pair.epoch}"


def _member(member: MemberReport, now: float) -> Sequence[Child]:
    limit = member.conntrack_limit
    return (
        member.node,
        _role(member),
        None if member.gate is None else "open" if member.gate else "closed",
        _health(member, now),
        bar(member.conntrack, limit, f"{member.conntrack:,}" if member.conntrack is not None else ""),
        rate(member.rx_bytes_per_s),
        rate(member.tx_bytes_per_s),
        _changed(member, now),
    )


def _role(member: MemberReport) -> Child:
    if member.role is None:
        return None
    elected = tag("span", "elected", class_="elected") if member.elected else None
    return join(badge(_ROLES.get(member.role, "degraded"), member.role), elected)


def _health(member: MemberReport, now: float) -> Markup:
    if not member.is_alive:
        return badge("critical", "not running")
    if member.role is None:
        return badge("degraded", "not reporting")
    if member.health:
        return badge("critical", "; ".join(member.health))
    if member.damped_until is not None and member.damped_until > now:
        return badge("degraded", f"damped {math.ceil(member.damped_until - now)} s")
    return badge("ok", "ok")


def _changed(member: MemberReport, now: float) -> str:
    parts = (ago(member.since, now), member.change_reason or "", brief(member.blackout_s))
    return ", ".join(part for part in parts if part)
