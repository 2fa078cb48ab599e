"""What can be wrong with scaling: the findings that `status` shows. Pure; times are wall times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxypool.core.checks import Check, Code
from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.documents import Action, Step
from proxypool.core.scaling.overview import ControllerState, SubnetScale, is_at_max

STUCK_S = 120.0
"""An action that has failed, in the same step for so long, does not go on by itself."""
LONG_S = 300.0
"""So has one that does not fail, in a step that does not wait for connections to end."""
CONTROLLER = "controller"


def check_controller(state: ControllerState, *, manages: bool) -> Iterator[Check]:
    """What is wrong with whoever scales. `manages`: whether there is a subnet that it is to look after; where there is
    none nobody has to run, but who leads says what is wrong all the same.
    """
    if not state.is_old:
        for problem in state.problems:
            yield Check.of(Code.CONTROLLER_PROBLEM, CONTROLLER, f"{state.leader}: {problem}")
    elif not manages:
        return
    elif not state.running:
        yield Check.of(
            Code.NO_CONTROLLER,
            CONTROLLER,
            "subnets are to be scaled and no controller runs: pairs go on as they are, none comes or goes; start one "
            "with `proxypool run controller`",
        )
    else:
        since = "has not reported yet" if state.age_s is None else f"last reported {state.age_s:.0f} s ago"
        yield Check.of(
            Code.CONTROLLER_SILENT,
            CONTROLLER,
            f"the controller {since}: pairs go on as they are; see the log of {state.leader or 'the controllers'}",
        )


def check_scale(
    subnet: SubnetScale, pairs: Iterable[PairSpec], controller: ControllerState, now: float
) -> Iterator[Check]:
    """What keeps a subnet from its size. What the report says counts only while it is fresh."""
    yield from _check_actions(subnet, pairs, now)
    if not subnet.is_managed:
        return
    if subnet.paused_since is not None:
        yield Check.of(
            Code.SCALING_PAUSED,
            subnet.id,
            f"scaling has been paused for {max(0.0, now - subnet.paused_since):.0f} s: no pair comes or goes; end it "
            f"with `proxypool scale resume {subnet.id}`",
        )
        return
    if controller.is_old:
        return
    if is_at_max(subnet):
        yield Check.of(
            Code.AT_MAX_PAIRS,
            subnet.id,
            f"its load asks for {subnet.asked} pairs and {subnet.max_pairs} are allowed: allow more with "
            f"`proxypool scale set {subnet.id} --max N`",
        )
    if subnet.blocked:
        yield Check.of(Code.SCALING_STUCK, subnet.id, f"its size cannot be changed: {subnet.blocked}")


def _check_actions(subnet: SubnetScale, pairs: Iterable[PairSpec], now: float) -> Iterator[Check]:
    for action in subnet.actions:
        if not is_stuck(action, now):
            continue
        yield Check.of(
            Code.SCALING_STUCK,
            f"{subnet.id}/{action.pair}",
            f"{action.kind.value} has stood at step {action.step.value} for {now - action.step_since:.0f} s"
            f"{f', {action.attempts} attempts' if action.attempts else ''}: "
            f"{action.error or 'see the log of the controller'}",
        )
    named = frozenset[str]().union(*(action.names for action in subnet.actions))
    for pair in pairs:
        if pair.state is PairState.PREPARING and pair.id not in named:
            yield Check.of(
                Code.SCALING_STUCK,
                f"{pair.subnet}/{pair.id}",
                "is being prepared and nobody works on it: unless a controller takes it up, remove it with "
                f"`proxypool pair remove {pair.subnet} {pair.id}`",
            )


def is_stuck(action: Action, now: float) -> bool:
    """Whether an action does not go on. To wait for connections to end is no such thing."""
    stood_s = now - action.step_since
    if action.error:
        return stood_s > STUCK_S
    return stood_s > LONG_S and action.step is not Step.WAIT
