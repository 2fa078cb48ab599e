"""What happens to a pool, as events: their form, and those that its history and its documents tell of the past. Pure.

The history keeps changes of master and of size for weeks. Everything else is known by the times that documents carry,
or only to whoever looked before and after: `event_changes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct

from proxypool.core.checks import Level
from proxypool.core.documents import API_VERSION
from proxypool.core.history import Phase, Record
from proxypool.core.model import PairSpec, PairState
from proxypool.core.pausing import said
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.documents import Action, NodeOrders

T = TypeVar("T", bound=Struct)


class EventType(StrEnum):
    """What sort of thing happened. Kinds of records of the history are types, too."""

    FAILOVER = "failover"
    SWITCHOVER = "switchover"
    START = "start"
    SCALE_OUT = "scale-out"
    SCALE_IN = "scale-in"
    REPLACE = "replace"
    ROLE = "role"
    """A member says that it has another role, or says nothing any more."""
    ELECTED = "elected"
    """ZooKeeper chose another member."""
    DAEMON = "daemon"
    """A node's daemon came, went or was restarted, a host's came or went, or another controller leads."""
    SCALING = "scaling"
    """An action of the controller began, went on, met an error, or is over."""
    SPEC = "spec"
    """Somebody changed what the pool is to be; or a machine registered."""
    DRAIN = "drain"
    """A pair or node drains, or no longer; a node is cordoned, or no longer."""
    PAUSE = "pause"
    """A pair or a subnet's scaling is paused, or no longer."""
    CHECK = "check"
    """Something is wrong that was not, or is no longer."""


class Event(Struct, frozen=True, kw_only=True, rename={"api_version": "apiVersion"}):
    """One event; a document of its own."""

    api_version: str = API_VERSION
    kind: str = "Event"
    at: float
    """Seconds since the epoch: when it happened, if anybody said so, else when it was seen."""
    type: str
    """failover, switchover, start, scale-out, scale-in, replace: as the history has it. role, elected, daemon, scaling,
    spec, drain, pause, check: as docs/watching.md says.
    """
    subject: str
    """`<subnet>`, `<subnet>/<pair>`, `<subnet>/<pair>/<node>`, `nodes/<node>`, `hosts/<host>`, `controller`, `pool`."""
    message: str
    before: str | None = None
    after: str | None = None
    who: str = ""
    """user@host of whoever asked for it, if known."""
    reason: str = ""
    level: Level | None = None
    """Of a check."""
    record: Record | None = None
    """What the history says of it."""

    def concerns(self, subnet: str, pair: str = "") -> bool:
        """Whether it is about a subnet, or one pair of it."""
        parts = self.subject.split("/")
        return parts[0] == subnet and (not pair or parts[1:2] == [pair])


def events_of(records: Iterable[Record]) -> Iterator[Event]:
    """Records of the history as events. Pauses are left out: the documents tell of them."""
    return (_event_of(record) for record in records if not record.is_pausing)


def _event_of(record: Record) -> Event:
    subject = "/".join(part for part in (record.subnet, record.pair) if part)
    return Event(
        at=record.at,
        type=record.kind,
        subject=subject,
        message=_told(record),
        before=record.from_node or None,
        after=record.to_node or None,
        who=record.who,
        reason=record.reason,
        record=record,
    )


def _told(record: Record) -> str:
    parts = [record.reason]
    if record.is_scaling:
        numbers = [str(number) for number in (record.pairs_before, record.pairs_after) if number is not None]
        change = f"{' -> '.join(numbers)} pairs" if numbers else ""
        parts += [f"took {record.took_s:.0f} s"] if record.took_s is not None else []
        parts += [f"given up: {record.error}"] if record.error else []
    else:
        change = f"{record.from_node or 'nobody'} -> {record.to_node}"
        for phase in (Phase.DETECTION, Phase.BLACKOUT):
            if phase.value in record.phases:
                parts.append(f"{phase.value} {record.phases[phase.value] * 1000:.0f} ms")
    parts += [f"by {record.who}"] if record.who else []
    parts += [record.note] if record.note else []
    told = ", ".join(part for part in parts if part)
    return f"{change}: {told}" if change else told


def standing(view: PoolView) -> Iterator[Event]:
    """What the documents of a pool say of the past: since when things are as they are."""
    for name, alive in view.nodes_alive.items():
        if alive.since:
            yield Event(at=alive.since, type=EventType.DAEMON, subject=f"nodes/{name}", message="started")
    for name, orders in view.orders.items():
        yield from order_events(name, NodeOrders(), orders)
    for pair in view.snapshot.all_pairs():
        if pair.state is PairState.DRAINING and pair.draining_since is not None:
            yield of_pair(pair, EventType.DRAIN, "begins to drain", pair.draining_since)
        if pair.paused_since is not None:
            yield of_pair(pair, EventType.PAUSE, paused_text(pair), pair.paused_since)
    for subnet in view.snapshot.subnets.values():
        if subnet.scaling is not None and subnet.scaling.paused_since is not None:
            since = subnet.scaling.paused_since
            yield Event(at=since, type=EventType.PAUSE, subject=subnet.id, message="scaling is paused")
    for action in view.actions:
        yield of_action(action, f"{action.kind.value} begins: {action.reason}", action.began)


def paused_text(pair: PairSpec) -> str:
    """With who did it, and why, if they said so."""
    return f"is paused{said(pair.paused_by, pair.pause_reason)}"


def of_pair(pair: PairSpec, kind: EventType, message: str, at: float, **more: Any) -> Event:
    """Something happened to a pair."""
    return Event(at=at, type=kind, subject=f"{pair.subnet}/{pair.id}", message=message, **more)


def order_events(name: str, was: NodeOrders, now: NodeOrders, at: float = 0.0) -> Iterator[Event]:
    """Of a node whose orders changed, at `at` if they do not say when."""
    message, since = "", at
    if now.draining_since is not None and was.draining_since is None:
        message, since = "begins to drain", now.draining_since
    elif now.cordoned_since is not None and was.cordoned_since is None:
        message, since = "is cordoned", now.cordoned_since
    elif now.cordoned_since is None and was.cordoned_since is not None:
        message = "takes new pairs again"
    if message:
        by = f", by {now.who}" if now.who else ""
        why = f": {now.reason}" if now.reason else ""
        yield Event(
            at=since,
            type=EventType.DRAIN,
            subject=f"nodes/{name}",
            message=f"{message}{by}{why}",
            who=now.who,
            reason=now.reason,
        )


def of_action(action: Action, message: str, at: float, **more: Any) -> Event:
    """The controller did something."""
    subject = f"{action.subnet}/{action.pair}"
    return Event(at=at, type=EventType.SCALING, subject=subject, message=message, reason=action.reason, **more)


def last(events: Iterable[Event], limit: int) -> list[Event]:
    """The newest `limit`, oldest first."""
    ordered = sorted(events, key=lambda event: event.at)
    return ordered[-limit:] if limit > 0 else []
