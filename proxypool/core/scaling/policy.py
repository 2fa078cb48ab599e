"""How many pairs a subnet should have: target tracking with a stable and a panic window. Pure.

`decide` is all there is: the controller calls it every round, `scale simulate` replays traces through it. What it
remembers is a small value; whoever begins with an empty one (a new leader) shrinks nothing before it has watched a
whole stable window. See "Policy" in docs/scaling.md for the rules and for how the defaults were found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from proxypool.core.scaling.model import MAX_PAIRS, Cause, Decision, Hold, Observation, Signal
from proxypool.core.scaling.windows import Window, changes_at, extreme, with_highest, with_lowest

EPSILON = 1e-9
"""Of a pair: a load that fills its pairs exactly asks for no further one because of a rounding error."""
MAX_PATIENCE = 4
"""Stable windows: the most that the flap guard waits."""
UNKNOWN = 1 << 30
"""Pairs needed when not everything is known: as many as there are, how many that may be."""
LONE_PAIR_FITS = 0.5
"""A load that a lone pair carries with ease asks for a second one as a reserve, which can wait to be confirmed."""
FEW = 3
"""If fewer than a third of the pairs were enough for half of the stable window, the others go then: what they cost in
its other half is much against what they spare if the load comes back just then. Not where one lately did.
"""

Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]


class Parameters(Struct, frozen=True, kw_only=True):
    """Of the policy. The defaults are meant for all subnets; see "Parameters" in docs/scaling.md."""

    min_pairs: Annotated[int, Meta(ge=1, le=MAX_PAIRS)] = 1
    max_pairs: Annotated[int, Meta(ge=1, le=MAX_PAIRS)] = MAX_PAIRS
    target: Share = 0.95
    """How full the pairs may be with one of them lost."""
    headroom: Annotated[float, Meta(ge=0.0, le=4.0)] = 0.2
    """So much more than the load all pairs carry, none lost. Where there are many, one in reserve is little against
    what a load of many pairs may do until others have come.
    """
    panic_target: Share = 0.8
    """The same, while the load outruns the pairs: what has just jumped may jump again."""
    tolerance: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.08
    """A pair is only drained if this much more load would not call it back."""
    confirm_s: Seconds = 30.0
    """The load asks for more pairs for so long before any are added, unless it is panic."""
    stable_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] = 300.0
    """The load asks for fewer pairs for so long before any are drained."""
    flap_s: Seconds = 3600.0
    """Where pairs were added soon after a drain several times in this span, the wait is as many stable windows long."""
    step_pairs: Annotated[int, Meta(ge=1, le=MAX_PAIRS)] = MAX_PAIRS
    """At most so many are added in `step_s`, or `step_factor` times as many as there are, whichever is more. As many as
    a subnet can have are no limit.
    """
    step_factor: Annotated[float, Meta(ge=0.0, le=64.0)] = 2.0
    """See `step_pairs`."""
    step_s: Seconds = 15.0
    """See `step_pairs`."""


class History(Struct, frozen=True, kw_only=True):
    """What the policy remembers of one subnet; times are `Observation.now`. Begin with an empty one."""

    asks: Window = ()
    """Lowest number of pairs asked for lately; 0 where nothing was known."""
    needs: Window = ()
    """Highest number of pairs needed lately; `UNKNOWN` where not everything was known."""
    have: int | None = None
    """Pairs that took new connections or were being added, at the last look."""
    added: tuple[tuple[float, int], ...] = ()
    """When pairs were seen to be added in the last `step_s`, and how many."""
    was_draining: bool = False
    drained_at: float | None = None
    """When a pair was last seen draining, or was gone."""
    drained_from: int = 0
    """Pairs before the drains of the last `stable_s`. 0: there were none, or their load has come back."""
    flaps: tuple[float, ...] = ()
    """When pairs were added, in the last `flap_s`, for a load that those carried which had been drained just before."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """What the load says at this moment."""

    per_signal: Mapping[Signal, int | None]
    signal: Signal | None
    load: float
    """Of that signal; 0: nothing is known."""
    pairs: int
    """Asked for, the reserve included. 0: nothing is known."""
    need: int
    """With fewer, or with so many and `tolerance` more load, pairs would be asked for again."""
    is_panic: bool


def decide(parameters: Parameters, history: History, observation: Observation) -> tuple[History, Decision]:
    """How many active pairs there should be now, and what to remember until the next look.

    Looks follow each other in time. What comes of a decision is seen in the next look; nothing is taken for done.
    """
    ask = _ask(parameters, observation)
    history = _remembered(parameters, history, observation, ask)
    have = observation.active + observation.coming
    asked_long = ask.pairs if ask.is_panic else extreme(history.asks, observation.now, parameters.confirm_s)
    goal = max(min(asked_long, parameters.max_pairs), parameters.min_pairs)
    if goal > have:
        wanted, held = _grown(parameters, history, have, goal)
    elif min(ask.pairs, parameters.max_pairs) > have:
        wanted, held = have, (Hold.CONFIRMING,)
    else:
        wanted, held = _shrunk(parameters, history, observation, ask)
    decision = Decision(
        wanted=wanted,
        asked=ask.pairs,
        cause=_cause(parameters, ask, have, wanted),
        signal=ask.signal,
        held=held,
        is_panic=ask.is_panic,
        per_signal=ask.per_signal,
        again_at=_again_at(parameters, history, observation.now) if held else None,
    )
    return history, decision


def _ask(parameters: Parameters, observation: Observation) -> _Ask:
    fits = max(observation.active + observation.coming - 1, LONE_PAIR_FITS)
    largest, signal, is_complete = -1.0, None, bool(observation.load)
    for name, load in observation.load.items():
        is_complete = is_complete and load is not None
        known = observation.at_least.get(name) if load is None else load
        if known is not None and known > largest:
            largest, signal = known, name
    is_panic = signal is not None and (observation.drops or largest > fits)
    target = min(parameters.panic_target, parameters.target) if is_panic else parameters.target
    pairs = 0 if signal is None else _pairs(parameters, largest, target)
    with_tolerance = _pairs(parameters, largest * (1 + parameters.tolerance), parameters.target)
    need = max(pairs, with_tolerance) if is_complete else UNKNOWN
    per_signal = {
        name: None if load is None else pairs if name is signal else _pairs(parameters, load, target)
        for name, load in observation.load.items()
    }
    return _Ask(per_signal, signal, max(largest, 0.0), pairs, need, is_panic)


def _pairs(parameters: Parameters, load: float, target: float) -> int:
    """Whole pairs that carry the load with one of them lost, and more of it with none."""
    return max(math.ceil(load / target - EPSILON) + 1, math.ceil(load * (1 + parameters.headroom) - EPSILON))


def _remembered(parameters: Parameters, history: History, observation: Observation, ask: _Ask) -> History:
    now, have = observation.now, observation.active + observation.coming
    is_new = history.have is None
    # A new leader knows nothing of what was: as if nothing had asked for pairs, and everything had needed them.
    asks = ((now, 0),) if is_new else history.asks
    needs = ((now, UNKNOWN),) if is_new else history.needs
    added = tuple(entry for entry in history.added if entry[0] > now - parameters.step_s)
    flaps = tuple(at for at in history.flaps if at > now - parameters.flap_s)
    drained_at = now if observation.draining or history.was_draining else history.drained_at
    is_recent = drained_at is not None and drained_at > now - parameters.stable_s
    drained_from = history.drained_from if is_recent else 0
    if history.have is not None and have < history.have:
        drained_at, drained_from = now, max(drained_from, history.have)
    if history.have is not None and have > history.have:
        added = (*added, (now, have - history.have))
        # A load that is more than there ever was room for would have called pairs without the drain, too.
        if ask.load <= drained_from - 1:
            flaps, drained_from = (*flaps, now)[-MAX_PATIENCE:], 0
    return History(
        asks=with_lowest(asks, now, ask.pairs, parameters.confirm_s),
        needs=with_highest(needs, now, ask.need, parameters.stable_s * MAX_PATIENCE),
        have=have,
        added=added,
        was_draining=observation.draining > 0,
        drained_at=drained_at,
        drained_from=drained_from,
        flaps=flaps,
    )


def _grown(parameters: Parameters, history: History, have: int, goal: int) -> tuple[int, tuple[Hold, ...]]:
    """As many more as the limits of step and rate allow."""
    lately = sum(pairs for _, pairs in history.added)
    before = max(have - lately, 0)
    most = before + max(parameters.step_pairs, int(before * parameters.step_factor))
    return max(have, min(goal, most)), (Hold.RATE_LIMIT,) if goal > most else ()


def _shrunk(
    parameters: Parameters, history: History, observation: Observation, ask: _Ask
) -> tuple[int, tuple[Hold, ...]]:
    """Without the pairs that are too many; or why not."""
    now, active, have = observation.now, observation.active, observation.active + observation.coming
    if active <= parameters.min_pairs or (ask.pairs and ask.pairs >= have):
        return have, ()
    stable = extreme(history.needs, now, parameters.stable_s)
    needed = extreme(history.needs, now, parameters.stable_s / 2)
    if history.flaps or needed * FEW >= active:
        patience_s = _patience_s(parameters, history)
        needed = stable if patience_s == parameters.stable_s else extreme(history.needs, now, patience_s)
    hold = _hold(observation, ask, stable, needed)
    return (have, (hold,)) if hold else (max(needed, parameters.min_pairs), ())


def _hold(observation: Observation, ask: _Ask, stable: int, needed: int) -> Hold | None:
    """What speaks against a drain. `stable`: pairs needed in the stable window; `needed`: in all of the wait."""
    active = observation.active
    if stable == UNKNOWN:
        return Hold.MISSING_DATA
    if ask.need >= active:
        return Hold.TOLERANCE
    if observation.draining:
        return Hold.DRAINING
    if observation.coming:
        return Hold.STABLE_WINDOW
    if needed >= active:
        return Hold.STABLE_WINDOW if stable >= active else Hold.FLAPPING
    return None


def _patience_s(parameters: Parameters, history: History) -> float:
    """How long fewer pairs must have been enough. Once is no flapping."""
    return parameters.stable_s * min(max(len(history.flaps), 1), MAX_PATIENCE)


def _cause(parameters: Parameters, ask: _Ask, have: int, wanted: int) -> Cause:
    if not ask.pairs:
        return Cause.MIN_PAIRS if wanted > have else Cause.NO_DATA
    if ask.pairs > parameters.max_pairs:
        return Cause.MAX_PAIRS
    if ask.pairs < parameters.min_pairs:
        return Cause.MIN_PAIRS
    return Cause.PANIC if ask.is_panic else Cause.LOAD


def _again_at(parameters: Parameters, history: History, now: float) -> float | None:
    """The next moment at which the same load may get another answer."""
    moments = [
        changes_at(history.asks, now, parameters.confirm_s),
        changes_at(history.needs, now, parameters.stable_s),
        changes_at(history.needs, now, parameters.stable_s / 2),
        changes_at(history.needs, now, _patience_s(parameters, history)),
        history.added[0][0] + parameters.step_s if history.added else None,
        history.flaps[0] + parameters.flap_s if history.flaps else None,
    ]
    return min((moment for moment in moments if moment is not None), default=None)
