"""What must hold of the scaling policy whatever the traffic does."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.scaling.fleet import Fleet, Leaving, World
from proxypool.core.scaling.model import Decision, Observation, Signal
from proxypool.core.scaling.policy import History, Parameters, decide
from proxypool.core.scaling.simulate import Load, replay
from tests.property.effort import effort

KNOWN = st.floats(0.0, 20.0)
LOADS = st.one_of(st.none(), KNOWN)
ROUND_S = 10.0

parameters = st.builds(
    Parameters,
    min_pairs=st.integers(1, 4),
    max_pairs=st.integers(4, 24),
    target=st.floats(0.5, 1.0),
    panic_target=st.floats(0.5, 1.0),
    headroom=st.floats(0.0, 0.5),
    tolerance=st.floats(0.0, 0.3),
    confirm_s=st.sampled_from([0.0, 20.0, 60.0]),
    stable_s=st.sampled_from([30.0, 120.0]),
    flap_s=st.sampled_from([0.0, 600.0]),
    step_pairs=st.integers(1, 8),
    step_factor=st.floats(0.0, 3.0),
    step_s=st.sampled_from([0.0, 15.0]),
)


def histories(given_parameters: Parameters, loads: Sequence[float | None], active: int) -> tuple[History, int]:
    """Somebody who has looked for a while, and how many pairs there are then."""
    history = History()
    for number, load in enumerate(loads):
        seen = Observation(now=number * ROUND_S, active=active, load={Signal.BYTES: load})
        history, decision = decide(given_parameters, history, seen)
        active = decision.wanted
    return history, active


def answer(
    given_parameters: Parameters, history: History, now: float, active: int, load: float | None, *, draining: int = 0
) -> Decision:
    seen = Observation(now=now, active=active, draining=draining, load={Signal.BYTES: load})
    return decide(given_parameters, history, seen)[1]


@effort(60)
@given(parameters, st.lists(LOADS, max_size=60), st.integers(1, 24), LOADS)
def test_bounds(given_parameters: Parameters, past: list[float | None], active: int, load: float | None) -> None:
    """Never below the minimum, never above the maximum but for pairs that are there."""
    history, active = histories(given_parameters, past, active)
    wanted = answer(given_parameters, history, len(past) * ROUND_S, active, load).wanted
    assert min(given_parameters.min_pairs, active) <= wanted <= max(given_parameters.max_pairs, active)


@effort(60)
@given(parameters, st.lists(LOADS, max_size=60), st.integers(1, 24), KNOWN, KNOWN)
def test_more_load_never_wants_fewer_pairs(
    given_parameters: Parameters, past: list[float | None], active: int, load: float, more: float
) -> None:
    """All else being equal."""
    history, active = histories(given_parameters, past, active)
    now = len(past) * ROUND_S
    with_less = answer(given_parameters, history, now, active, load)
    with_more = answer(given_parameters, history, now, active, load + more)
    assert with_more.wanted >= with_less.wanted
    assert with_more.asked >= with_less.asked


@effort(60)
@given(parameters, st.lists(LOADS, max_size=60), st.integers(1, 24), LOADS)
def test_what_is_not_known_never_drains(
    given_parameters: Parameters, past: list[float | None], active: int, known: float | None
) -> None:
    """Neither all of it nor a part."""
    history, active = histories(given_parameters, past, active)
    loads = {Signal.BYTES: known, Signal.PORTS: None}
    seen = Observation(now=len(past) * ROUND_S, active=active, load=loads)
    assert decide(given_parameters, history, seen)[1].wanted >= active


@effort(60)
@given(parameters, st.lists(LOADS, max_size=60), st.integers(1, 24), KNOWN)
def test_no_drain_begins_beside_another(
    given_parameters: Parameters, past: list[float | None], active: int, load: float
) -> None:
    """While a pair drains none is taken away."""
    history, active = histories(given_parameters, past, active)
    assert answer(given_parameters, history, len(past) * ROUND_S, active, load, draining=1).wanted >= active


@effort(60)
@given(parameters, st.lists(st.tuples(st.integers(1, 20), LOADS), min_size=1, max_size=20), st.integers(1, 24))
def test_a_drain_leaves_enough_for_the_loss_of_one_more(
    given_parameters: Parameters, pieces: list[tuple[int, float | None]], active: int
) -> None:
    """N-1: what is left carries every load of the last half of a stable window with one pair lost, and within the
    target; and in all of the window the load was known.
    """
    loads = [load for rounds, load in pieces for _ in range(rounds)]
    window, history = int(given_parameters.stable_s / ROUND_S), History()
    for number, load in enumerate(loads):
        seen = Observation(now=number * ROUND_S, active=active, load={Signal.BYTES: load})
        history, decision = decide(given_parameters, history, seen)
        if decision.wanted < active:
            known = [each for each in loads[max(0, number - window + 1) : number + 1] if each is not None]
            assert len(known) == window
            assert max(known[-(window // 2) :]) <= (decision.wanted - 1) * given_parameters.target + 1e-6
        active = decision.wanted


@effort(30)
@given(KNOWN, st.integers(1, 24), st.sampled_from([0.0, 0.01, 0.025]), st.integers(0, 1000))
def test_constant_and_nearly_constant_load_comes_to_rest(load: float, active: int, noise: float, seed: int) -> None:
    """With up to 2.5 % of noise: at the latest after it has come down from where it began, nothing changes any more."""
    ours, history, wanted = Parameters(), History(), []
    noises = random.Random(seed)
    for number in range(1600):
        now_load = load * noises.uniform(1 - noise, 1 + noise)
        seen = Observation(now=number * ROUND_S, active=active, load={Signal.BYTES: now_load})
        history, decision = decide(ours, history, seen)
        active = decision.wanted
        wanted.append(active)
    assert len(set(wanted[len(wanted) // 2 :])) == 1
    most = load * (1 + noise) * (1 + ours.tolerance)
    assert wanted[-1] >= math.ceil(load / ours.target - 1e-6)
    assert wanted[-1] <= max(math.ceil(most / ours.target) + 1, math.ceil(most * (1 + ours.headroom)))


@effort(60)
@given(st.lists(LOADS, min_size=1, max_size=60), st.integers(1, 24))
def test_a_leader_that_forgot_everything_takes_nothing_away(past: list[float | None], active: int) -> None:
    """For a whole stable window, whatever the load is."""
    ours, history = Parameters(), History()
    for number, load in enumerate(past[: int(ours.stable_s / ROUND_S)]):
        seen = Observation(now=1e6 + number * ROUND_S, active=active, load={Signal.BYTES: load})
        history, decision = decide(ours, history, seen)
        assert decision.wanted >= active


@effort(60)
@given(st.lists(st.tuples(st.sampled_from([7.0, 60.0, 61.5, 300.0]), LOADS), min_size=1, max_size=40), parameters)
def test_the_simulator_leaves_out_only_looks_that_change_nothing(
    pieces: list[tuple[float, float | None]], given_parameters: Parameters
) -> None:
    """A controller that looks every round does the same at the same moments."""
    loads, at = [], 0.0
    for span, load in pieces:
        loads.append(Load(at, load))
        at += span
    world = World(round_s=2.0)
    assert replay(loads, at, world, given_parameters).timeline == looking_every_round(
        loads, at, world, given_parameters
    )


def looking_every_round(
    loads: Sequence[Load], until: float, world: World, given_parameters: Parameters
) -> tuple[tuple[float, int], ...]:
    first = replay(loads, until, world, given_parameters).timeline[0][1]
    fleet = Fleet(world, Leaving(world.deadline_s, is_early=True), 0.0, first)
    history, rounds = History(), math.floor(until / world.round_s)
    pending = list(loads)
    before: float | None = loads[0].pairs
    for number in range(rounds + 1):
        now = number * world.round_s
        while pending and pending[0].at < now:
            fleet.advance(pending[0].at)
            fleet.offer(pending[0].pairs)
            before = pending.pop(0).pairs
        if pending and pending[0].at == now == 0:
            fleet.offer(pending[0].pairs)
        fleet.advance(now)
        seen = Observation(
            now=now, active=fleet.serving, coming=fleet.coming, draining=fleet.leaving, load={Signal.BYTES: before}
        )
        history, decision = decide(given_parameters, history, seen)
        fleet.resize(decision.wanted)
    for load in pending:
        fleet.advance(load.at)
        fleet.offer(load.pairs)
    fleet.advance(until)
    return tuple(fleet.timeline)
