"""What is said about the size of subnets: tables, and sentences for what the report has words for. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from proxypool.cli.output import Colour, paint, table
from proxypool.core.scaling.checks import is_stuck
from proxypool.core.scaling.documents import Action, ActionKind, Spares, Step
from proxypool.core.scaling.model import Cause, Hold, ScalingMode, ScalingSpec
from proxypool.core.scaling.overview import ControllerState, Idle, Next, Outlook, ScaleStatus, SubnetScale, outlook
from proxypool.core.units import ago, brief, duration

START_HINT = "start one with `proxypool run controller`"
_NO_SUBNET = "no subnet is managed: give one a size with `proxypool scale set SUBNET --min N`"

_HEADER = ("SUBNET", "MODE", "PAIRS", "WANT", "MIN-MAX", "BUSIEST", "CAUSE", "HELD BY")
_HEADER_WIDE = (*_HEADER, "ASKED", "LOADS", "PAUSED")
_WIDTH = 80
AGE_SHOWN_S = 10.0
"""A report that is older says how old it is."""


def controller_line(state: ControllerState) -> str:
    """Who scales; first of all if nobody does, or if what it said is old."""
    if not state.running:
        then = f"; what follows is {duration(state.age_s)} old" if state.age_s is not None else ""
        return f"no controller runs: no pair comes or goes{then}; {START_HINT}"
    if state.age_s is None:
        return f"{_count(state.running, 'controller')}, none has reported yet: see their logs"
    if state.is_old:
        return (
            f"the last report of {state.leader or 'the controller'} is {duration(state.age_s)} old: "
            "it hangs or cannot write; see its log"
        )
    took = f", round {brief(state.round_s)}" if state.round_s is not None else ""
    seen = f", {duration(state.age_s)} ago" if state.age_s > AGE_SHOWN_S else ""
    others = f", {state.running - 1} standing by" if state.running > 1 else ""
    return f"controller {state.leader}{others}, provider {state.provider or 'none'}{took}{seen}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def status_text(status: ScaleStatus, *, wide: bool, colour: bool) -> str:
    """The whole of `scale status`."""
    line = controller_line(status.controller)
    parts = (
        paint(line, Colour.WARN if status.controller.is_old else None, enabled=colour),
        "\n".join(f"{status.controller.leader}: {problem}" for problem in status.controller.problems),
        scale_table(status, wide=wide, colour=colour) if status.subnets else _NO_SUBNET,
        "\n".join(line for one in status.subnets for line in _lines(one, status.at, colour=colour)),
    )
    return "\n\n".join(part for part in parts if part)


def scale_table(status: ScaleStatus, *, wide: bool, colour: bool = False) -> str:
    """Subnets, one per line. PAIRS: active/coming/draining."""
    rows = []
    for subnet in status.subnets:
        row = _row(subnet, colour=colour)
        rows.append((*row, *_more(subnet, status.at)) if wide else row)
    return table(_HEADER_WIDE if wide else _HEADER, rows)


def _row(subnet: SubnetScale, *, colour: bool) -> Sequence[str]:
    return (
        subnet.id,
        _mode(subnet, colour=colour),
        f"{subnet.active}/{subnet.coming}/{subnet.draining}",
        "" if subnet.wanted is None else str(subnet.wanted),
        "" if subnet.min_pairs is None else f"{subnet.min_pairs}-{subnet.max_pairs}",
        _busiest(subnet),
        paint(subnet.cause or "", Colour.WARN if subnet.cause in _LOUD else None, enabled=colour),
        ",".join(subnet.held),
    )


_LOUD = frozenset({Cause.PANIC, Cause.MAX_PAIRS, Cause.NO_DATA})


def _mode(subnet: SubnetScale, *, colour: bool) -> str:
    if subnet.paused_since is not None:
        return paint("paused", Colour.WARN, enabled=colour)
    return subnet.mode or ""


def _busiest(subnet: SubnetScale) -> str:
    found = subnet.busiest
    return f"{found[0]} {found[1]:.2f}" if found else ""


def _lines(subnet: SubnetScale, now: float, *, colour: bool) -> Iterator[str]:
    """What is being done, or why nothing can be: more than fits into a column."""
    for action in subnet.actions:
        line = f"{subnet.id}: {action_text(action, now)}"
        yield paint(line, Colour.WARN if is_stuck(action, now) else None, enabled=colour)
    if subnet.blocked and subnet.paused_since is None:
        yield paint(f"{subnet.id}: blocked: {subnet.blocked}", Colour.WARN, enabled=colour)
    elif subnet.waits:
        yield f"{subnet.id}: waits: {subnet.waits}"


def _why(action: Action) -> str:
    return CAUSES.get(action.reason, action.reason)


def action_text(action: Action, now: float) -> str:
    """`add p3 on node-a and node-c: ready for 12s`, and what went wrong."""
    instead = f" for {action.leaving}" if action.leaving else f", {action.opened} is open" if action.opened else ""
    error = f"; attempt {action.attempts}: {action.error}" if action.attempts else f"; {action.error}"
    stands = f"{action.step.value} for {duration(now - action.step_since)}"
    return f"{action.kind.value} {action.pair}{instead}{_on_nodes(action)}: {stands}{error if action.error else ''}"


def _on_nodes(action: Action) -> str:
    """Where a pair comes; where one goes is no news."""
    is_coming = action.kind is not ActionKind.DRAIN and not action.opened
    return f" on {' and '.join(action.nodes)}" if action.nodes and is_coming else ""


def _more(subnet: SubnetScale, now: float) -> Sequence[str]:
    return (
        "" if subnet.asked is None else str(subnet.asked),
        ",".join(f"{name}={_load(load)}" for name, load in sorted(subnet.load.items())),
        ago(subnet.paused_since, now),
    )


def _load(load: float | None) -> str:
    return "?" if load is None else f"{load:.2f}"


# ---- the plan --------------------------------------------------------------------------------------------------------

_IDLE: Mapping[str, str] = {
    Idle.UNMANAGED: "its pairs are the operator's own business",
    Idle.OFF: "scaling is off",
    Idle.PAUSED: "scaling is paused",
    Idle.OBSERVING: "mode observe only says so",
    Idle.UNSEEN: "the controller's report says nothing of it",
}

CAUSES: Mapping[str, str] = {
    Cause.LOAD: "that is what its load asks for",
    Cause.PANIC: "the load of the last seconds asks for much more than there is",
    Cause.MIN_PAIRS: "that is the least it may have",
    Cause.MAX_PAIRS: "the load asks for more than is allowed",
    Cause.NO_DATA: "nothing is known of its load, so it stays as it is",
    "dead-node": "a node of one of its pairs is dead",
    "node-drain": "a node of one of its pairs is being drained",
    "left-over": "a pair was left half made, or half gone",
}

HOLDS: Mapping[str, str] = {
    Hold.TOLERANCE: "the difference is within the tolerance",
    Hold.CONFIRMING: "it has not asked for that many for long enough",
    Hold.STABLE_WINDOW: "it asked for more within the stable window",
    Hold.RATE_LIMIT: "so many actions in so short a time are not allowed",
    Hold.MISSING_DATA: "what is not known is no reason to shrink",
    Hold.DRAINING: "pairs are draining: others do when these are gone",
    Hold.FLAPPING: "it grew and shrank in turn lately",
}


def plan_text(status: ScaleStatus) -> str:
    """What would be done now and why, a paragraph for each subnet."""
    line = controller_line(status.controller)
    parts = [line] if status.controller.is_old else []
    for subnet in status.subnets:
        text = f"{subnet.id}: {_doing(subnet, status.at)}{';' if subnet.actions else ':'} {_reason(subnet)}"
        parts.append(
            textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        )
    return "\n".join(parts if status.subnets else [*parts, _NO_SUBNET])


def _doing(subnet: SubnetScale, now: float) -> str:
    found = outlook(subnet)
    if subnet.actions:
        return f"go on with {'; '.join(action_text(action, now) for action in subnet.actions)}"
    if found.next is Next.NOTHING:
        return "nothing"
    return f"{'would ' if found.idle else ''}{found.next.value} {_count(found.pairs, 'pair')}"


def _reason(subnet: SubnetScale) -> str:
    found = outlook(subnet)
    if subnet.actions:
        begun = "it was" if len(subnet.actions) == 1 else "they were"
        text = f"{begun} begun because {' and '.join(dict.fromkeys(map(_why, subnet.actions)))}"
        return "; ".join((text, *_held_up(subnet)))
    parts = [idle_text(found, subnet)] if found.idle not in {None, Idle.AS_WANTED} else [*_held_up(subnet)]
    if subnet.wanted is not None:
        busiest = subnet.busiest
        load = f"{busiest[0]} at {busiest[1]:.2f} pairs" if busiest else ""
        parts += [
            text
            for text in (CAUSES.get(subnet.cause or "", subnet.cause or ""), load, *map(hold_text, subnet.held))
            if text
        ]
    return "; ".join(parts)


def _held_up(subnet: SubnetScale) -> Iterator[str]:
    """Why something else has not begun."""
    if subnet.blocked and subnet.paused_since is None:
        yield f"what else is needed cannot begin: {subnet.blocked}"
    if subnet.waits:
        yield f"what else is needed waits: {subnet.waits}"


def idle_text(found: Outlook, subnet: SubnetScale) -> str:
    """Why nothing, or less than would be, is done."""
    if found.idle is Idle.BLOCKED:
        return f"it cannot: {subnet.blocked}"
    return _IDLE.get(found.idle or "", "")


def hold_text(hold: str) -> str:
    """Why an action does not begin yet; a later controller's own word if we do not know it."""
    return HOLDS.get(hold, hold)


# ---- actions ---------------------------------------------------------------------------------------------------------

_STEPS: Mapping[Step, str] = {
    Step.PLACE: "nodes are chosen for it",
    Step.ACQUIRE: "cards and addresses are acquired",
    Step.WRITE: "it is written into the pool",
    Step.READY: "its members come up: both must be fit, one of them master, all hosts known to them",
    Step.OPEN: "it is opened to new connections",
    Step.DRAIN: "hosts are told to send it no new connections",
    Step.WAIT: "its connections are waited for to end",
    Step.REMOVE: "it is removed from the pool",
    Step.RELEASE: "its cards and addresses are given back",
    Step.AGAIN: "what was made is given back, and other nodes are chosen",
    Step.UNDO: "it failed, and what was made is given back",
    Step.DONE: "it is done",
}

_VERBS = {
    ActionKind.ADD: "Pair {pair} is being added",
    ActionKind.DRAIN: "Pair {pair} is being drained, and then removed",
    ActionKind.REPLACE: "Pair {pair} is being made in place of another",
}


def action_sentences(action: Action, now: float) -> Iterator[str]:
    """What is being done, where it stands, and what went wrong."""
    verb = _VERBS[action.kind]
    if action.kind is ActionKind.REPLACE and action.leaving:
        verb = f"Pair {{pair}} is being made in place of {action.leaving}"
    elif action.kind is ActionKind.REPLACE and action.opened:
        verb = f"Pair {action.opened} has taken the place of {{pair}}, which is being drained and removed"
    since = duration(now - action.began)
    yield f"{verb.format(pair=action.pair)}{_on_nodes(action)} for {since}, because {_why(action)}."
    yield f"It stands at step {action.step.value} for {duration(now - action.step_since)}: {_STEPS[action.step]}."
    if action.error:
        tried = f", after {_count(action.attempts, 'attempt')}" if action.attempts else ""
        yield f"The last error{tried}: {action.error}."


def size_text(scaling: ScalingSpec) -> str:
    """What a subnet is to have."""
    paused = ", paused" if scaling.paused_since is not None else ""
    return f"{scaling.min_pairs} to {scaling.max_pairs} pairs, mode {scaling.mode}{paused}"


def what_follows(subnet: SubnetScale, scaling: ScalingSpec, controllers: int) -> str:
    """What a size will lead to, given how the subnet is."""
    if scaling.mode is ScalingMode.OFF:
        return "the controller leaves it alone"
    if scaling.paused_since is not None:
        return f"nothing begins until `proxypool scale resume {subnet.id}`"
    there = subnet.active + subnet.coming
    if there < scaling.min_pairs:
        what = f"the controller adds {_count(scaling.min_pairs - there, 'pair')}"
    elif scaling.mode is ScalingMode.OBSERVE:
        what = "the controller keeps the minimum, and says what else it would do"
    elif there > scaling.max_pairs:
        surplus = _count(there - scaling.max_pairs, "pair")
        what = f"the controller drains {surplus} as soon as it knows that the load allows it"
    else:
        what = "the controller follows the load"
    return what if controllers else f"{what}, once one runs: {START_HINT}"


def spares_line(spares: Spares) -> str:
    """How many of each there are, used or not."""
    nodes = len({member.node for member in spares.members})
    egress = len(spares.egress_addresses)
    return (
        f"{_count(len(spares.members), 'card')} on {_count(nodes, 'node')}, {_count(len(spares.havips), 'HaVip')}, "
        f"{egress} egress address{'' if egress == 1 else 'es'}"
    )
