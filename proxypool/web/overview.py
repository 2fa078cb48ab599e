"""The upper half of the page: how the pool is, what is wrong and what to do, what is under way. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxypool.core.checks import Check, Level
from proxypool.core.model import PairState
from proxypool.core.role import Role
from proxypool.core.scaling.checks import is_stuck
from proxypool.core.scaling.documents import Action
from proxypool.core.status import PairReport, PoolStatus, SubnetReport, all_checks
from proxypool.core.units import ago, duration, scaled
from proxypool.web.markup import Markup, join, tag
from proxypool.web.parts import badge, boxed_table, code, level_badge, mark, prose, section

_VERDICTS = {
    Level.OK: ("All is well", "Every pair has a master that serves and a backup that can take over."),
    Level.DEGRADED: ("Degraded", "Everything is served, but the next failure may not be survived."),
    Level.CRITICAL: ("Critical", "Something is not served, or not safely."),
}
MAX_FINDINGS = 50
_ORDER = (Level.CRITICAL, Level.DEGRADED, Level.OK)


def verdict(status: PoolStatus) -> Markup:
    """The one thing to read from the other end of the room."""
    word, sentence = _VERDICTS[status.level]
    if not status.subnets:
        sentence = "There is no subnet yet: nothing is served, and nothing is wrong."
    return tag(
        "section",
        tag("h1", mark(status.level.value), tag("span", word)),
        tag("p", sentence),
        tag("dl", list(_tiles(status)), class_="tiles"),
        id="verdict",
        class_=f"verdict {status.level.value}",
        role="status",
        data_live=True,
    )


def _tiles(status: PoolStatus) -> Iterator[Markup]:
    pairs = [pair for subnet in status.subnets for pair in subnet.pairs]
    masters = [member for pair in pairs for member in pair.members if member.role == Role.MASTER and member.is_alive]
    served = sum(pair.master is not None for pair in pairs)
    yield _tile("Subnets", str(len(status.subnets)))
    yield _tile("Pairs", str(len(pairs)), "" if served == len(pairs) else f"{len(pairs) - served} without one master")
    dead = [node.id for node in status.nodes if not node.is_alive]
    yield _tile("Nodes", f"{len(status.nodes) - len(dead)}/{len(status.nodes)}", f"{len(dead)} dead" if dead else "")
    if status.hosts:
        silent = sum(not host.is_alive for host in status.hosts)
        alive = len(status.hosts) - silent
        yield _tile("Hosts", f"{alive}/{len(status.hosts)}", f"{silent} dead" if silent else "")
    known = [member.conntrack for member in masters if member.conntrack is not None]
    yield _tile("Connections", scaled(sum(known)).strip() if known else "-")
    incoming, outgoing = (
        sum(one.rx_bytes_per_s or 0 for one in masters),
        sum(one.tx_bytes_per_s or 0 for one in masters),
    )
    yield _tile("To customers", f"{scaled(incoming)}B/s")
    yield _tile("To hosts", f"{scaled(outgoing)}B/s")
    last = max((pair.last_change for pair in pairs if pair.last_change is not None), default=None)
    yield _tile("Last role change", f"{ago(last, status.at)} ago" if last else "-")


def _tile(name: str, value: str, trouble: str = "") -> Markup:
    extra = tag("dd", trouble, class_="trouble") if trouble else None
    return tag("div", tag("dt", name), tag("dd", value, class_="value"), extra)


def findings(status: PoolStatus, runbooks: str) -> Markup:
    """What is wrong, the worst first, each with what to do. `runbooks`: below which the code's runbook is."""
    found = sorted(all_checks(status), key=lambda check: _ORDER.index(check.level))
    if not found:
        return section("findings", "Findings", tag("p", badge("ok", "No check finds anything wrong."), class_="quiet"))
    more = len(found) - MAX_FINDINGS
    note = tag("p", f"{more} more: see ", code("proxypool status"), ".", class_="note") if more > 0 else None
    items = tag("ol", [_finding(check, runbooks) for check in found[:MAX_FINDINGS]], class_="findings")
    return section("findings", f"Findings ({len(found)})", items, note)


def _finding(check: Check, runbooks: str) -> Markup:
    link = tag("a", check.code, href=f"{runbooks}/{check.code}", title=f"Runbook of {check.code}")
    where = f" on {check.on}" if check.on else ""
    following = tag("p", f"Next{where}: ", code(check.command), class_="next") if check.command else None
    return tag(
        "li",
        tag("p", level_badge(check.level), link, tag("b", check.name), tag("span", check.subject, class_="subject")),
        tag("p", prose(check.message)),
        following,
        class_=check.level.value,
    )


def under_way(status: PoolStatus) -> Markup:
    """Pairs that drain and what the controller does: no faults, but not for ever."""
    drains = [(subnet, pair) for subnet in status.subnets for pair in subnet.pairs if pair.state == PairState.DRAINING]
    actions = [action for subnet in status.subnets for action in subnet.scale.actions]
    parts = (_drains(drains, status.at), _actions(actions, status.at))
    if not drains and not actions:
        quiet = "No pair drains, and none comes or goes."
        return section("under-way", "Under way", tag("p", quiet, class_="quiet"))
    return section("under-way", "Under way", list(parts))


def _drains(drains: Sequence[tuple[SubnetReport, PairReport]], now: float) -> Markup:
    if not drains:
        return join()
    header = ("Pair", "Since", "Connections left", "HaVip")
    rows = [
        (
            f"{subnet.id}/{pair.id}",
            ago(pair.draining_since, now),
            "not known" if pair.connections_left is None else str(pair.connections_left),
            str(pair.havip),
        )
        for subnet, pair in drains
    ]
    return boxed_table("Pairs that drain", header, rows)


def _actions(actions: Sequence[Action], now: float) -> Markup:
    if not actions:
        return join()
    header = ("Pair", "Action", "Why", "Step", "For", "Nodes", "Trouble")
    rows = [
        (
            f"{action.subnet}/{action.pair}",
            action.kind.value,
            action.reason,
            badge("degraded", action.step.value) if is_stuck(action, now) else action.step.value,
            duration(now - action.step_since),
            ", ".join(action.nodes),
            f"attempt {action.attempts}: {action.error}" if action.error and action.attempts else action.error,
        )
        for action in actions
    ]
    return boxed_table("What the controller does", header, rows)
