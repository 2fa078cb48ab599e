"""What happened to a pool between two looks at it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from proxypool.core.assembly import assemble
from proxypool.core.checks import Check, Level
from proxypool.core.documents import to_builtins
from proxypool.core.events import Event, EventType, of_action, of_pair, order_events, paused_text
from proxypool.core.model import PairSpec, PairState
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.documents import NodeOrders
from proxypool.core.status import all_checks

T = TypeVar("T", bound=Struct)


class Moment(Struct, frozen=True):
    """One look at the pool."""

    view: PoolView
    checks: Mapping[tuple[str, str], Check]
    now: float
    """Wall time."""


def moment(view: PoolView, now: float) -> Moment:
    """The look, with what is wrong at that time. What hosts say of themselves counts for nothing: whoever follows does
    not read it, and two looks must know the same.
    """
    view = replace(view, hosts_alive={})
    found = {(check.code, check.subject): check for check in all_checks(assemble(view, now))}
    return Moment(view, found, now)


def events_between(before: Moment, after: Moment) -> list[Event]:
    """What happened between two looks, the oldest first."""
    found = [
        *_daemons(before, after),
        *_elections(before, after),
        *_roles(before, after),
        *_specs(before, after),
        *_pairs(before, after),
        *_orders(before, after),
        *_actions(before, after),
        *_checks(before, after),
    ]
    return sorted(found, key=lambda event: event.at)


def _daemons(before: Moment, after: Moment) -> Iterator[Event]:
    old, new = before.view.nodes_alive, after.view.nodes_alive
    for name in sorted({*old, *new}):
        was, now = old.get(name), new.get(name)
        if was is not None and now is not None and now.since != was.since:
            yield _daemon(f"nodes/{name}", "restarted", now.since or after.now)
    yield from _coming_and_going("nodes", old.keys(), new.keys(), after.now)
    yield from _coming_and_going("hosts", before.view.hosts_living, after.view.hosts_living, after.now)
    leader, next_leader = (moment.view.report.leader if moment.view.report else None for moment in (before, after))
    if next_leader is not None and next_leader != leader:
        yield Event(
            at=after.now,
            type=EventType.DAEMON,
            subject="controller",
            message=f"{next_leader} leads",
            before=leader,
            after=next_leader,
        )


def _coming_and_going(kind: str, old: AbstractSet[str], new: AbstractSet[str], now: float) -> Iterator[Event]:
    for name in sorted(old ^ new):
        yield _daemon(f"{kind}/{name}", "is there" if name in new else "is gone: its session ended", now)


def _daemon(subject: str, message: str, at: float) -> Event:
    return Event(at=at, type=EventType.DAEMON, subject=subject, message=message)


def _elections(before: Moment, after: Moment) -> Iterator[Event]:
    for name, queue in after.view.snapshot.elections.items():
        old = before.view.snapshot.elections.get(name, ())
        if old is queue:
            continue
        was, now = (one[0].node if one else None for one in (old, queue))
        if was != now:
            message = f"{was or 'nobody'} -> {now or 'nobody'}"
            yield Event(at=after.now, type=EventType.ELECTED, subject=name, message=message, before=was, after=now)


def _roles(before: Moment, after: Moment) -> Iterator[Event]:
    for name in sorted({*before.view.statuses, *after.view.statuses}):
        old, new = before.view.statuses.get(name, {}), after.view.statuses.get(name, {})
        for node in sorted({*old, *new}):
            was, now = old.get(node), new.get(node)
            roles = (was.role if was else None, now.role if now else None)
            if roles[0] == roles[1]:
                continue
            told = [role or "silent" for role in roles]
            yield Event(
                at=now.since if now and was and now.since else after.now,
                type=EventType.ROLE,
                subject=f"{name}/{node}",
                message=f"{told[0]} -> {told[1]}" + (f": {'; '.join(now.health)}" if now and now.health else ""),
                before=roles[0],
                after=roles[1],
            )


def _specs(before: Moment, after: Moment) -> Iterator[Event]:
    old, new = before.view.snapshot, after.view.snapshot
    if new.spec is not None and old.spec is not None and new.spec != old.spec:
        yield Event(
            at=after.now, type=EventType.SPEC, subject="pool", message=_difference(old.spec, new.spec, frozenset())
        )
    yield from _documents("subnet", old.subnets, new.subnets, after.now)
    yield from _documents("node", old.nodes, new.nodes, after.now)
    yield from _documents("host", old.hosts, new.hosts, after.now)
    yield from _scaling_pauses(before, after)


_TOLD_APART = frozenset({"paused_since", "paused_by", "pause_reason", "draining_since"})
"""Fields that have events of their own, or go with one."""


def _documents(kind: str, old: Mapping[str, T], new: Mapping[str, T], now: float) -> Iterator[Event]:
    if old is new:
        return
    prefix = "" if kind == "subnet" else f"{kind}s/"
    for name in sorted({*old, *new}):
        was, is_now = old.get(name), new.get(name)
        if was is is_now or was == is_now:
            continue
        if was is None:
            message = f"{kind} is added"
        elif is_now is None:
            message = f"{kind} is removed"
        else:
            message = _difference(was, is_now, _TOLD_APART)
        if message:
            yield Event(at=now, type=EventType.SPEC, subject=f"{prefix}{name}", message=message)


def _difference(old: Struct, new: Struct, but: frozenset[str]) -> str:
    """`weight 1 -> 3, mode fast -> strict`."""
    parts = []
    for field in new.__struct_fields__:
        was, now = getattr(old, field), getattr(new, field)
        if was == now or field in but:
            continue
        if isinstance(was, Struct) and isinstance(now, Struct):
            inner = _difference(was, now, but)
            parts += [f"{field} ({inner})"] if inner else []
        else:
            parts.append(f"{field} {_plain(was)} -> {_plain(now)}")
    return ", ".join(parts)


def _plain(value: object) -> str:
    plain = to_builtins(value)
    if isinstance(value, Struct):
        return ", ".join(f"{name} {item}" for name, item in plain.items() if item is not None)
    return "none" if plain is None or plain == "" else str(plain)


def _scaling_pauses(before: Moment, after: Moment) -> Iterator[Event]:
    for name, subnet in after.view.snapshot.subnets.items():
        old = before.view.snapshot.subnets.get(name)
        was = old.scaling.paused_since if old is not None and old.scaling is not None else None
        now = subnet.scaling.paused_since if subnet.scaling is not None else None
        if old is not None and (was is None) is not (now is None):
            message = "scaling is paused" if now is not None else "scaling is resumed"
            yield Event(at=now or after.now, type=EventType.PAUSE, subject=name, message=message)


def _pairs(before: Moment, after: Moment) -> Iterator[Event]:
    old = {(pair.subnet, pair.id): pair for pair in before.view.snapshot.all_pairs()}
    new = {(pair.subnet, pair.id): pair for pair in after.view.snapshot.all_pairs()}
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if was is None and now is not None:
            nodes = " and ".join(member.node for member in now.members)
            yield of_pair(now, EventType.SPEC, f"pair is added: {now.state.value}, {nodes}", after.now)
        elif was is not None and now is None:
            yield of_pair(was, EventType.SPEC, "pair is removed", after.now)
        elif was is not None and now is not None and was is not now and was != now:
            yield from _pair_changes(was, now, after.now)


_STATES = {
    PairState.DRAINING: "begins to drain",
    PairState.ACTIVE: "takes new connections",
    PairState.PREPARING: "is being prepared",
}


def _pair_changes(was: PairSpec, now: PairSpec, at: float) -> Iterator[Event]:
    if was.state is not now.state:
        since = now.draining_since if now.state is PairState.DRAINING else None
        yield of_pair(
            now, EventType.DRAIN, _STATES[now.state], since or at, before=was.state.value, after=now.state.value
        )
    if (was.paused_since is None) is not (now.paused_since is None):
        yield of_pair(
            now, EventType.PAUSE, "is resumed" if now.paused_since is None else paused_text(now), now.paused_since or at
        )
    rest = _difference(was, now, _TOLD_APART | {"state"})
    if rest:
        yield of_pair(now, EventType.SPEC, rest, at)


def _orders(before: Moment, after: Moment) -> Iterator[Event]:
    old, new, nothing = before.view.orders, after.view.orders, NodeOrders()
    for name in sorted({*old, *new}):
        was, now = old.get(name, nothing), new.get(name, nothing)
        if was != now:
            yield from order_events(name, was, now, after.now)


def _actions(before: Moment, after: Moment) -> Iterator[Event]:
    old = {action.key: action for action in before.view.actions}
    new = {action.key: action for action in after.view.actions}
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if now is None and was is not None:
            yield of_action(was, f"{was.kind.value} is over", after.now)
        elif now is not None and was is None:
            yield of_action(now, f"{now.kind.value} begins: {now.reason}", now.began)
        elif now is not None and was is not None and now.step is not was.step:
            message = f"{now.kind.value}: {was.step.value} -> {now.step.value}"
            yield of_action(now, message, now.step_since, before=was.step.value, after=now.step.value)
        if now is not None and now.error and (was is None or was.error != now.error):
            yield of_action(now, f"{now.kind.value} at {now.step.value}: {now.error}", after.now)


def _checks(before: Moment, after: Moment) -> Iterator[Event]:
    for key, check in after.checks.items():
        if key not in before.checks:
            yield _check(check, f"{check.code} {check.name}: {check.message}", after.now, check.level)
    for key, check in before.checks.items():
        if key not in after.checks:
            yield _check(check, f"{check.code} {check.name} is over", after.now, Level.OK)


def _check(check: Check, message: str, at: float, level: Level) -> Event:
    return Event(at=at, type=EventType.CHECK, subject=check.subject, message=message, level=level, after=level.value)
