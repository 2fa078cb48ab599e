"""A trace replayed through `policy.decide`, and through rivals. Pure and deterministic.

Time goes from event to event, not from tick to tick: a year of minutes must take seconds. A look of a controller that
could not change its mind is left out; `Decision.again_at` says which those are, and a test compares with a replay that
leaves out none. Whoever looks at a tick sees the load as it was right before it, so that a change is seen by the next
one: the worst case.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from proxypool.core.scaling.fleet import Fleet, Leaving, World
from proxypool.core.scaling.model import Observation, Signal
from proxypool.core.scaling.policy import History, Parameters, decide
from proxypool.core.scaling.rivals import EPSILON, Hpa, Kpa

HOUR_S = 3600.0
HPA_GRACE_S = 30.0
"""terminationGracePeriodSeconds: what a pod's flows are given."""
KPA_GRACE_S = 300.0
"""timeoutSeconds of a revision."""


class Rival(StrEnum):
    """What the policy can be compared with."""

    HPA = "hpa"
    KPA = "kpa"
    STATIC = "static"
    """As many pairs all the time as the largest load needs."""


@dataclass(frozen=True, slots=True)
class Load:
    """Of a subnet, from `at` until the next one."""

    at: float
    pairs: float | None
    """1.0 is what one pair can carry. None: not known."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of one policy; definitions in docs/scaling.md."""

    policy: str
    overload_fraction: float
    unsafe_fraction: float
    """Of the time in which the load did not fit with one pair lost."""
    mean_slack_fraction: float
    actions_per_hour: float
    pairs_moved_per_hour: float
    pair_hours: float
    mean_pairs: float
    reaction_s: float | None
    broken_flows: int
    timeline: tuple[tuple[float, int], ...] = ()
    """When how many pairs began to serve."""


def replay(loads: Sequence[Load], until: float, world: World, parameters: Parameters) -> Outcome:
    """The loads through our policy."""
    parameters = replace(parameters, max_pairs=min(parameters.max_pairs, world.max_pairs))
    first = _pairs_for(loads, parameters.target, 1)
    fleet = Fleet(world, Leaving(world.deadline_s, is_early=True), loads[0].at, min(first, parameters.max_pairs))
    zero, round_s = loads[0].at, world.round_s
    history, due = History(), zero
    seen: dict[Signal, float | None] = {Signal.BYTES: loads[0].pairs}
    for load, end in _spans(loads, until):
        fleet.offer(load.pairs)
        seen_at = math.inf if seen[Signal.BYTES] == load.pairs else _tick_after(zero, round_s, load.at)
        while (at := min(due, seen_at)) <= end:
            if at == seen_at:
                seen, seen_at = {Signal.BYTES: load.pairs}, math.inf
            fleet.advance(at)
            look = Observation(now=at, active=fleet.serving, coming=fleet.coming, draining=fleet.leaving, load=seen)
            history, decision = decide(parameters, history, look)
            fleet.resize(decision.wanted)
            due = _tick_from(zero, round_s, fleet.next_change)
            if decision.wanted != look.active + look.coming:
                due = at + round_s
            elif decision.again_at is not None:
                due = min(due, max(at + round_s, _tick_from(zero, round_s, decision.again_at)))
        fleet.advance(end)
    return _outcome("proxypool", fleet)


def replay_rival(loads: Sequence[Load], until: float, world: World, rival: Rival) -> Outcome:
    """The loads through another autoscaler."""
    match rival:
        case Rival.HPA:
            return _replay_hpa(loads, until, world)
        case Rival.KPA:
            return _replay_kpa(loads, until, world)
        case Rival.STATIC:
            return _replay_static(loads, until, world)


def mean_load(loads: Sequence[Load], until: float) -> float:
    """In pairs, over the time in which it is known."""
    known = [(load.pairs, end - load.at) for load, end in _spans(loads, until) if load.pairs is not None]
    return sum(pairs * span for pairs, span in known) / sum(span for _, span in known)


def least_slack(loads: Sequence[Load], until: float) -> float:
    """What `mean_slack_fraction` would be if the future were known and pairs came and went at once.

    Pairs are whole, and one is the least there is.
    """
    known = [(load.pairs, end - load.at) for load, end in _spans(loads, until) if load.pairs is not None]
    capacity = sum(max(1, math.ceil(pairs - EPSILON)) * span for pairs, span in known)
    return 1 - sum(pairs * span for pairs, span in known) / capacity


def _replay_static(loads: Sequence[Load], until: float, world: World) -> Outcome:
    largest = max(load.pairs or 0.0 for load in loads)
    fleet = Fleet(world, Leaving(0.0, is_early=False), loads[0].at, min(math.ceil(largest) + 1, world.max_pairs))
    for load, end in _spans(loads, until):
        fleet.offer(load.pairs)
        fleet.advance(end)
    return _outcome(Rival.STATIC.value, fleet)


def _replay_hpa(loads: Sequence[Load], until: float, world: World) -> Outcome:
    hpa, reserve, zero, sync_s = Hpa(), world.rival_reserve, loads[0].at, Hpa.sync_s
    first = min(_pairs_for(loads, Hpa.target, reserve), world.max_pairs)
    fleet = Fleet(world, Leaving(HPA_GRACE_S, is_early=True), zero, first)
    seen = loads[0].pairs
    at = zero
    for load, end in _spans(loads, until):
        fleet.offer(load.pairs)
        while at <= end:
            if at > load.at:
                seen = load.pairs
            fleet.advance(at)
            if seen is not None:
                have, ready = fleet.serving + fleet.coming, fleet.serving - reserve
                replicas = hpa.sync(at, seen, ready, fleet.coming)
                fleet.resize(min(replicas + reserve, world.max_pairs))
                # Nothing changes before the load does: of the syncs until then only the last one leaves a trace.
                if at > load.at and not fleet.coming and hpa.desired(seen, ready, 0) + reserve == have:
                    at = max(at, zero + sync_s * (math.floor((end - zero) / sync_s) - 1))
            elif at > load.at:
                # Nor is anything decided as long as no load is known.
                at = max(at, zero + sync_s * (math.floor((end - zero) / sync_s) - 1))
            at += sync_s
        fleet.advance(end)
    return _outcome(Rival.HPA.value, fleet)


def _replay_kpa(loads: Sequence[Load], until: float, world: World) -> Outcome:
    reserve, zero, tick_s = world.rival_reserve, loads[0].at, Kpa.tick_s
    first = min(_pairs_for(loads, Kpa.target, reserve), world.max_pairs)
    kpa, fleet = Kpa(zero, first - reserve), Fleet(world, Leaving(KPA_GRACE_S, is_early=True), zero, first)
    recent: deque[tuple[float, Load]] = deque()
    at = zero + tick_s
    for load, end in _spans(loads, until):
        fleet.offer(load.pairs)
        recent.append((end, load))
        while at <= end:
            while len(recent) > 1 and recent[0][0] <= at - Kpa.stable_s:
                recent.popleft()
            fleet.advance(at)
            stable, panic = _mean(recent, at, Kpa.stable_s), _mean(recent, at, Kpa.panic_s)
            if stable is not None and panic is not None:
                pods = kpa.scale(at, stable, panic, fleet.serving - reserve)
                fleet.resize(min(pods + reserve, world.max_pairs))
            at += tick_s
            if stable is None and load.pairs is None and at > load.at + Kpa.stable_s:
                # Nothing is decided as long as no load is known.
                at += tick_s * max(0, math.floor((end - at) / tick_s))
            elif not fleet.coming and not kpa.is_panicking:
                at += tick_s * _idle_ticks(
                    recent, kpa, fleet.serving - reserve, at, math.floor((end - at) / tick_s) + 1
                )
        fleet.advance(end)
    return _outcome(Rival.KPA.value, fleet)


def _mean(recent: Sequence[tuple[float, Load]], now: float, span_s: float) -> float | None:
    """Of the known load in the last `span_s`."""
    begin, total, known_s = now - span_s, 0.0, 0.0
    for end, load in reversed(recent):
        if load.pairs is not None:
            length = min(end, now) - max(load.at, begin)
            total += length * load.pairs
            known_s += length
        if load.at <= begin:
            break
    return total / known_s if known_s else None


def _idle_ticks(recent: Sequence[tuple[float, Load]], kpa: Kpa, pods: int, at: float, ticks: int) -> int:
    """How many of the next ticks, from `at` on, ask for as many pods as there are.

    Between two loads the means go from the one to the other, so the first tick that asks for another number can be
    searched for by halves. Where that is not so, or panic may begin, none is left out.
    """
    loads = [math.inf if load.pairs is None else load.pairs for _, load in recent]
    if len(loads) > 2 or max(loads) >= Kpa.target * (Kpa.panic_threshold * pods - 1):  # noqa: PLR2004 - "between"
        return 0

    def asks_for_others(tick: int) -> bool:
        mean = _mean(recent, at + tick * Kpa.tick_s, Kpa.stable_s)
        return mean is not None and kpa.pods_for(mean, pods) != pods

    return bisect.bisect_left(range(ticks), True, key=asks_for_others)


def _spans(loads: Sequence[Load], until: float) -> Iterator[tuple[Load, float]]:
    """Each load, and when it ends."""
    ends = itertools.chain((load.at for load in itertools.islice(loads, 1, None)), (until,))
    return zip(loads, ends, strict=True)


def _tick_after(zero: float, step_s: float, moment: float) -> float:
    return zero + step_s * (math.floor((moment - zero) / step_s) + 1)


def _tick_from(zero: float, step_s: float, moment: float) -> float:
    return moment if moment == math.inf else zero + step_s * math.ceil((moment - zero) / step_s)


def _pairs_for(loads: Sequence[Load], target: float, reserve: int) -> int:
    """What the first known load asks for: nobody begins in need."""
    first = next((load.pairs for load in loads if load.pairs is not None), 0.0)
    return max(1, math.ceil(first / target - EPSILON)) + reserve


def _outcome(policy: str, fleet: Fleet) -> Outcome:
    hours = (fleet.now - fleet.timeline[0][0]) / HOUR_S
    known_s = fleet.known_s or math.inf
    return Outcome(
        policy=policy,
        overload_fraction=fleet.overload_s / known_s,
        unsafe_fraction=fleet.unsafe_s / known_s,
        mean_slack_fraction=fleet.slack_s / fleet.capacity_s if fleet.capacity_s else 0.0,
        actions_per_hour=fleet.actions / hours,
        pairs_moved_per_hour=(fleet.added + fleet.removed) / hours,
        pair_hours=fleet.pair_s / HOUR_S,
        mean_pairs=fleet.pair_s / HOUR_S / hours,
        reaction_s=sum(fleet.reactions) / len(fleet.reactions) if fleet.reactions else None,
        broken_flows=round(fleet.broken_flows),
        timeline=tuple(fleet.timeline),
    )
