"""What a status and its parts look like as tables. Pure: the time is in the status."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from proxypool.cli.cordon_texts import orders_text, orders_word
from proxypool.cli.health_texts import by_urgency, check_lines, health_line
from proxypool.cli.output import Colour, paint, table, yes
from proxypool.cli.scaling_texts import action_text, spares_line
from proxypool.core.model import PairState
from proxypool.core.status import (
    HostReport,
    MemberReport,
    NodeReport,
    PairReport,
    PoolStatus,
    SubnetReport,
    all_checks,
)
from proxypool.core.units import ago, brief, rate, scaled
from proxypool.core.versions import told

_ROLE_COLOURS = {"master": Colour.GOOD, "fault": Colour.BAD, "init": Colour.WARN}


def status_text(status: PoolStatus, *, wide: bool, colour: bool, width: int | None = None) -> str:
    """The whole status. `width`: of the terminal; None: nothing is fitted to any."""
    parts = (
        health_line(status, colour=colour, width=width),
        check_lines(by_urgency(all_checks(status)), colour=colour, width=width),
        "\n".join(part for part in (version_line(status), drain_lines(status), scale_lines(status)) if part),
        member_table(status, wide=wide, colour=colour, width=width),
    )
    return "\n\n".join(part for part in parts if part)


def version_line(status: PoolStatus) -> str:
    """What runs where, while there is more than one version."""
    return f"versions: {'; '.join(map(told, status.versions))}" if len(status.versions) > 1 else ""


def drain_lines(status: PoolStatus) -> str:
    """The pairs that drain, one per line: no fault, but not for ever."""
    return "\n".join(
        f"draining {subnet.id}/{pair.id}: {draining(pair, status.at)}"
        for subnet in status.subnets
        for pair in subnet.pairs
        if pair.state == PairState.DRAINING
    )


def scale_lines(status: PoolStatus) -> str:
    """What the controller is doing, one action per line."""
    return "\n".join(
        f"scaling {subnet.id}: {action_text(action, status.at)}"
        for subnet in status.subnets
        for action in subnet.scale.actions
    )


def draining(pair: PairReport, now: float) -> str:
    """For how long, and what is left."""
    left = (
        "connections left not known" if pair.connections_left is None else f"{pair.connections_left} connections left"
    )
    since = ago(pair.draining_since, now)
    return f"for {since}, {left}" if since else left


def _state(pair: PairReport, now: float) -> str:
    if pair.paused_since is not None:
        return f"{pair.state}, paused {ago(pair.paused_since, now)}".rstrip()
    if pair.state != PairState.DRAINING:
        return pair.state
    left = "?" if pair.connections_left is None else str(pair.connections_left)
    return f"{pair.state} {ago(pair.draining_since, now)}, {left} left".replace(" ,", ",")


def member_table(status: PoolStatus, *, wide: bool, colour: bool = False, width: int | None = None) -> str:
    """Members, one per line; nothing if there is none."""
    rows = list(_member_rows(status, wide=wide, colour=colour))
    if not rows:
        return ""
    return table(_MEMBER_WIDE, rows) if wide else table(_MEMBER, rows, width=width, optional=_MEMBER_OPTIONAL)


_MEMBER_OPTIONAL = ("ELECTED", "HOLDS", "OUT", "IN", "CONNTRACK", "HAVIP", "CHANGED")
"""What a narrow terminal goes without, the first first: a fault of the first two has a check."""


_MEMBER = (
    *("SUBNET", "PAIR", "HAVIP", "NODE", "ELECTED", "ROLE", "GATE", "HOLDS", "HEALTH"),
    *("CONNTRACK", "IN", "OUT", "CHANGED"),
)
_MEMBER_WIDE = (
    *_MEMBER,
    "VRRP",
    "EPOCH",
    "PACKETS",
    "ENI",
    "ADDRESS",
    "VRID",
    "KEY",
    "TENANT",
    "CIDRS",
    "REPAIRS",
    "SEEN",
    "STATE",
    "WEIGHT",
    "PROBE",
)


def _member_rows(status: PoolStatus, *, wide: bool, colour: bool) -> Iterator[Sequence[str]]:
    for subnet in status.subnets:
        for pair in subnet.pairs:
            for member in pair.members:
                row = _member_row(subnet, pair, member, status.at, colour=colour)
                yield (*row, *_member_more(subnet, pair, member, status.at)) if wide else row


def _member_row(
    subnet: SubnetReport, pair: PairReport, member: MemberReport, now: float, *, colour: bool
) -> Sequence[str]:
    role = member.role or ""
    return (
        subnet.id,
        pair.id,
        str(pair.havip),
        member.node,
        yes(member.elected),
        paint(role, _ROLE_COLOURS.get(role), enabled=colour),
        "" if member.gate is None else ("open" if member.gate else "closed"),
        yes(member.has_havip),
        _health(member, now, colour=colour),
        _conntrack(member),
        rate(member.rx_bytes_per_s),
        rate(member.tx_bytes_per_s),
        _changed(member, now),
    )


def _changed(member: MemberReport, now: float) -> str:
    """How long ago; of a master also why, and how long nobody served."""
    parts = (ago(member.since, now), member.change_reason or "", brief(member.blackout_s))
    return ", ".join(part for part in parts if part)


def last_change(pair: PairReport, now: float) -> str:
    """How long ago a role changed, and why the master is master."""
    master = next((member for member in pair.members if member.node == pair.master), None)
    why = (master.change_reason or "", brief(master.blackout_s)) if master else ()
    return ", ".join(part for part in (ago(pair.last_change, now), *why) if part)


def _health(member: MemberReport, now: float, *, colour: bool) -> str:
    if not member.is_alive:
        return paint("not running", Colour.BAD, enabled=colour)
    if member.role is None:
        return paint("not reporting", Colour.WARN, enabled=colour)
    if member.health:
        return paint("; ".join(member.health), Colour.BAD, enabled=colour)
    if member.damped_until is not None and member.damped_until > now:
        return paint(f"damped {math.ceil(member.damped_until - now)} s", Colour.WARN, enabled=colour)
    return paint("ok", Colour.GOOD, enabled=colour)


def _conntrack(member: MemberReport) -> str:
    if member.conntrack is None:
        return ""
    return f"{member.conntrack}/{member.conntrack_limit}" if member.conntrack_limit else str(member.conntrack)


def _member_more(subnet: SubnetReport, pair: PairReport, member: MemberReport, now: float) -> Sequence[str]:
    return (
        member.vrrp or "",
        "" if member.epoch is None else str(member.epoch),
        "" if member.packets_per_s is None else f"{scaled(member.packets_per_s)}/s",
        member.eni,
        str(member.address),
        str(pair.vrid),
        str(subnet.key),
        subnet.tenant,
        _joined(subnet.cidrs),
        "" if member.repairs is None else str(member.repairs),
        ago(member.observed_at, now),
        _state(pair, now),
        str(pair.weight),
        _probe(member),
    )


def _probe(member: MemberReport) -> str:
    if member.probe in {None, "none"}:
        return ""
    return f"{member.probe} {member.probe_ms:.1f}ms" if member.probe_ms is not None else f"{member.probe}"


def _joined(items: Sequence[object]) -> str:
    return ",".join(str(item) for item in items)


def subnet_table(subnets: Sequence[SubnetReport], *, wide: bool, width: int | None = None) -> str:
    """Subnets, one per line."""
    header: tuple[str, ...] = ("SUBNET", "LEVEL", "TENANT", "CIDRS", "KEY", "PAIRS", "HOSTS", "SIZE")
    header = (*header, "SPARES") if wide else header
    rows = [
        (
            *(subnet.id, subnet.level.value, subnet.tenant, _joined(subnet.cidrs), str(subnet.key)),
            _joined([pair.id for pair in subnet.pairs]) if wide else str(len(subnet.pairs)),
            _joined(subnet.hosts) if wide else str(len(subnet.hosts)),
            _size(subnet),
            *((spares_line(subnet.spares) if subnet.spares else "",) if wide else ()),
        )
        for subnet in subnets
    ]
    return table(header, rows, width=None if wide else width, optional=("KEY", "TENANT", "HOSTS", "CIDRS"))


def _size(subnet: SubnetReport) -> str:
    """How many pairs it is to have; nothing if that is the operator's own business."""
    scale = subnet.scale
    if scale.mode is None:
        return ""
    return f"{scale.min_pairs}-{scale.max_pairs} {scale.mode}{' paused' if scale.paused_since is not None else ''}"


def pair_table(
    pairs: Sequence[tuple[SubnetReport, PairReport]], now: float, *, wide: bool, width: int | None = None
) -> str:
    """Pairs, one per line."""
    header: tuple[str, ...] = ("SUBNET", "PAIR", "LEVEL", "HAVIP", "VRID", "STATE", "ELECTED", "MASTER", "CHANGED")
    header = (*header, "WEIGHT", "HOLDS", "EPOCH", "EGRESS", "MEMBERS") if wide else header
    rows = []
    for subnet, pair in pairs:
        row: tuple[str, ...] = (
            *(subnet.id, pair.id, pair.level.value, str(pair.havip), str(pair.vrid), _state(pair, now)),
            *(pair.elected or "", pair.master or "", ago(pair.last_change, now)),
        )
        if wide:
            members = _joined([f"{member.node}:{member.eni}:{member.address}" for member in pair.members])
            egress = str(pair.egress_address or "")
            row = (*row, str(pair.weight), _joined(pair.havip_holders), str(pair.epoch or ""), egress, members)
        rows.append(row)
    return table(header, rows, width=None if wide else width, optional=("VRID", "ELECTED", "CHANGED", "HAVIP"))


def node_table(nodes: Sequence[NodeReport], now: float, *, wide: bool, width: int | None = None) -> str:
    """Proxy nodes, one per line."""
    header: tuple[str, ...] = ("NODE", "ALIVE", "UNDERLAY", "PAIRS", "MASTER OF", "VERSION", "UP", "ORDERS", "PROBLEMS")
    header = (*header, "METRICS", "LABELS") if wide else header
    rows = []
    for node in nodes:
        row: tuple[str, ...] = (
            *(node.id, yes(node.is_alive), str(node.underlay), str(len(node.pairs)), str(len(node.master_of))),
            *(
                node.version,
                ago(node.since, now),
                orders_text(node, now) if wide else orders_word(node),
                "; ".join(node.problems),
            ),
        )
        if wide:
            row = (*row, node.metrics, _joined([f"{key}={value}" for key, value in sorted(node.labels.items())]))
        rows.append(row)
    return table(header, rows, width=None if wide else width, optional=("VERSION", "UP", "UNDERLAY", "MASTER OF"))


def host_table(hosts: Sequence[HostReport], now: float, *, wide: bool, width: int | None = None) -> str:
    """Function hosts, one per line."""
    names = ("HOST", "ALIVE", "UNDERLAY", "TUNNEL ADDRESS", "SUBNETS", "ATTACHED", "VERSION", "UP", "PROBLEMS")
    header: tuple[str, ...] = names
    header = (*header, "METRICS") if wide else header
    rows = []
    for host in hosts:
        subnets = _joined(host.subnets) if wide else str(len(host.subnets))
        row: tuple[str, ...] = (
            *(host.id, yes(host.is_alive), str(host.underlay), str(host.tunnel_address), subnets),
            "" if host.attachments is None else str(host.attachments),
            *(host.version, ago(host.since, now), "; ".join(host.problems)),
        )
        rows.append((*row, host.metrics) if wide else row)
    return table(
        header,
        rows,
        width=None if wide else width,
        optional=("VERSION", "UP", "UNDERLAY", "TUNNEL ADDRESS", "ATTACHED"),
    )
