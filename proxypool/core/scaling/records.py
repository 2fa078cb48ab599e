"""What is told of actions: records of the history, and the verdict on each subnet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from proxypool.core.documents import encode
from proxypool.core.history import Kind, Record
from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.documents import ActionKind, Report, SubnetVerdict
from proxypool.core.scaling.model import Decision, Signal
from proxypool.core.scaling.turns import SetState, Turn

MAX_REPORT_BYTES = 600_000
"""ZooKeeper takes a document of less than 1 MiB."""
_KINDS = {
    ActionKind.ADD: Kind.SCALE_OUT,
    ActionKind.DRAIN: Kind.SCALE_IN,
    ActionKind.REPLACE: Kind.REPLACE,
}


def active_pairs(pairs: Iterable[PairSpec]) -> int:
    """How many take new connections."""
    return sum(pair.state is PairState.ACTIVE for pair in pairs)


def record_of(turn: Turn, pairs: Mapping[str, PairSpec], by: str, now: float) -> Record | None:
    """The record of an action that is over with this turn; None of one that has changed nothing: no place was found for
    a pair, or a drain was put off. `pairs`: all of the subnet, before the turn.

    A replacement is told under the name of the pair that came. Before an add is right before it: others that began
    with it may have come first.
    """
    action = turn.action
    is_drain = action.kind is ActionKind.DRAIN
    has_changed = turn.write is not None or bool(action.opened) or (action.havip is not None and not is_drain)
    if action.error and not has_changed:
        return None
    others = active_pairs(pair for name, pair in pairs.items() if name != action.pair)
    is_replaced = bool(action.opened) and action.opened != action.pair
    return Record(
        kind=_KINDS[action.kind].value,
        reason=action.reason,
        subnet=action.subnet,
        pair=action.opened or action.pair,
        at=action.began,
        note=f"in place of pair {action.pair}" if is_replaced else "",
        by=by,
        signals=action.signals,
        pairs_before=others if action.kind is ActionKind.ADD else action.pairs_before,
        pairs_after=active_pairs(_after(turn, pairs)),
        took_s=round(max(0.0, now - action.began), 3),
        error=action.error,
    )


def _after(turn: Turn, pairs: Mapping[str, PairSpec]) -> Iterator[PairSpec]:
    for name, pair in pairs.items():
        write = turn.write
        yield replace(pair, state=write.state) if isinstance(write, SetState) and write.pair == name else pair


def verdict_of(
    active: int, decision: Decision | None, load: Mapping[Signal, float | None], blocked: str, waits: str = ""
) -> SubnetVerdict:
    """What the leader thinks of a subnet."""
    if decision is None:
        return SubnetVerdict(active=active, wanted=active, asked=0, cause="", blocked=blocked, waits=waits)
    return SubnetVerdict(
        active=active,
        wanted=decision.wanted,
        asked=decision.asked,
        cause=decision.cause.value,
        signal=decision.signal.value if decision.signal else "",
        held=tuple(hold.value for hold in decision.held),
        is_panic=decision.is_panic,
        load={signal.value: None if value is None else round(value, 4) for signal, value in load.items()},
        blocked=blocked,
        waits=waits,
    )


def cut(report: Report) -> Report:
    """The report, small enough to be written: of a pool too large for it, only subnets with something to tell."""
    if len(encode(report)) <= MAX_REPORT_BYTES:
        return report
    told = {name: one for name, one in report.subnets.items() if one.blocked or one.wanted != one.active}
    problem = f"the report has only {len(told)} of {len(report.subnets)} subnets: the others have the size they need"
    shorter = replace(report, subnets=told, problems=(*report.problems, problem))
    if len(encode(shorter)) <= MAX_REPORT_BYTES:
        return shorter
    problem = "the pool is too large for a report on its subnets: see the metrics"
    return replace(report, subnets={}, problems=(*report.problems, problem))
