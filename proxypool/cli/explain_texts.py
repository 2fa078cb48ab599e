"""Why a subnet is as large as it is, in words, and who serves it. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from proxypool.cli.output import table
from proxypool.cli.scaling_texts import CAUSES, START_HINT, action_sentences, hold_text
from proxypool.core.model import PairState
from proxypool.core.scaling.model import Cause, ScalingMode
from proxypool.core.scaling.overview import ControllerState, Idle, Next, SubnetScale, outlook
from proxypool.core.status import SubnetReport
from proxypool.core.units import duration

WIDTH = 80


def explanation(subnet: SubnetScale, controller: ControllerState, now: float) -> str:
    """The whole of `explain`, in paragraphs of at most 80 columns."""
    parts = [
        _paragraph(_caveat(subnet, controller)),
        _paragraph(_size(subnet)),
        _paragraph(_why(subnet)),
        _signals(subnet),
        _paragraph(_held(subnet)),
        _paragraph(_next(subnet, controller, now)),
    ]
    return "\n\n".join(part for part in parts if part)


def serving(subnet: SubnetReport) -> str:
    """Which pairs serve it, and by whom. `proxypool explain SUBNET/PAIR` says more of each."""
    told = []
    for pair in subnet.pairs[:MAX_PAIRS_TOLD]:
        state = "" if pair.state == PairState.ACTIVE else f", {pair.state}"
        served = f"served by {pair.master}" if pair.master else "not served by one master"
        told.append(f"{pair.id} is {pair.level.value}, {served}{state}")
    more = len(subnet.pairs) - len(told)
    told += [f"and {more} more"] if more > 0 else []
    hosts = "1 host uses it." if len(subnet.hosts) == 1 else f"{len(subnet.hosts) or 'No'} hosts use it."
    return f"{hosts} Its pairs: {'; '.join(told)}." if told else hosts


MAX_PAIRS_TOLD = 8


def _paragraph(sentences: Iterator[str]) -> str:
    text = " ".join(sentences)
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _caveat(subnet: SubnetScale, controller: ControllerState) -> Iterator[str]:
    """First of all, if what follows may no longer be so."""
    if subnet.mode is None:
        return
    old = f" What follows is {duration(controller.age_s)} old." if controller.age_s is not None else ""
    if not controller.running:
        yield f"No controller runs, so no pair comes or goes: {START_HINT}.{old}"
    elif controller.age_s is None:
        yield "No controller has reported yet: see their logs."
    elif controller.is_old:
        yield (
            f"The last report of {controller.leader or 'the controller'} is {duration(controller.age_s)} old: it hangs "
            "or cannot write; see its log. What follows was so then."
        )


def _size(subnet: SubnetScale) -> Iterator[str]:
    others = [
        f"{number} {what}"
        for number, what in ((subnet.coming, "being prepared"), (subnet.draining, "draining"))
        if number
    ]
    yield f"Subnet {subnet.id} has {_pairs(subnet.active, 'active ')}{''.join(f', {one}' for one in others)}."
    if subnet.mode is None:
        yield (
            "The controller does not manage it: its pairs are added and removed by hand. To have it do so: "
            f"`proxypool scale set {subnet.id} --min N`."
        )
        return
    yield f"It may have {subnet.min_pairs} to {subnet.max_pairs}; the mode is {subnet.mode}: {_MODES[subnet.mode]}."
    if subnet.wanted is not None:
        yield f"It should have {_pairs(subnet.wanted)}."


_MODES: dict[str, str] = {
    ScalingMode.OFF: "the controller leaves it alone",
    ScalingMode.OBSERVE: "the controller keeps the minimum, replaces what is dead, and else only says what it would do",
    ScalingMode.ENFORCE: "the controller adds and drains pairs as the load asks for",
}


def _pairs(number: int, kind: str = "") -> str:
    return f"{number or 'no'} {kind}pair{'' if number < 2 else 's'}"  # noqa: PLR2004 - two are several


def _why(subnet: SubnetScale) -> Iterator[str]:
    if subnet.cause is None:
        return
    busiest = subnet.busiest
    yield f"Why: {CAUSES.get(subnet.cause, subnet.cause)}."
    if busiest is not None and subnet.asked is not None and subnet.cause != Cause.NO_DATA:
        name, load = busiest
        yield (
            f"The busiest signal is {name}: what all pairs carry would fill {load:.2f} of them. The load alone asks "
            f"for {_pairs(subnet.asked)}, one of them the reserve for a pair that is lost."
        )


def _signals(subnet: SubnetScale) -> str:
    rows = [
        (name, "not known: no reason to shrink" if load is None else f"{load:.2f}{' (asks for most)' * (name == most)}")
        for most in ((subnet.busiest or ("",))[0],)
        for name, load in sorted(
            subnet.load.items(), key=lambda item: -1.0 if item[1] is None else item[1], reverse=True
        )
    ]
    return table(("SIGNAL", "LOAD IN PAIRS"), rows) if rows else ""


def _held(subnet: SubnetScale) -> Iterator[str]:
    if subnet.held:
        yield f"What holds it: {'; '.join(hold_text(hold) for hold in subnet.held)}."


def _next(subnet: SubnetScale, controller: ControllerState, now: float) -> Iterator[str]:
    if subnet.mode is None and not subnet.actions:
        return
    found = outlook(subnet)
    stops = "" if controller.running else ", once a controller runs"
    for action in subnet.actions:
        yield from action_sentences(action, now)
    if subnet.actions and subnet.blocked and subnet.paused_since is None:
        yield f"What else is needed cannot begin: {subnet.blocked}."
    if found.next in {Next.ADD, Next.DRAIN} and found.idle is None:
        yield f"Next: {_pairs(found.pairs)} {_COMES[found.next]}{stops}."
    elif found.next in {Next.ADD, Next.DRAIN}:
        yield f"{_pairs(found.pairs).capitalize()} would {_WOULD[found.next]}, but {_but(subnet, found.idle, now)}."
    elif found.next is Next.NOTHING:
        yield f"Next: nothing{_NOTHING.get(found.idle or '', '')}."
    if subnet.waits:
        yield f"What else is needed waits: {subnet.waits}."
    if subnet.paused_since is not None and found.idle is not Idle.PAUSED:
        yield (
            f"Scaling has been paused for {duration(now - subnet.paused_since)}: nothing new begins until "
            f"`proxypool scale resume {subnet.id}`."
        )


_COMES = {Next.ADD: "will be added", Next.DRAIN: "will be drained, and removed when no connection is left"}
_WOULD = {Next.ADD: "be added", Next.DRAIN: "be drained"}
_NOTHING: dict[str, str] = {
    Idle.OFF: ", as scaling is off",
    Idle.UNSEEN: " that is known: the controller's report says nothing of it",
    Idle.AS_WANTED: ", it has what it should have",
}


def _but(subnet: SubnetScale, idle: Idle | None, now: float) -> str:
    if idle is Idle.BLOCKED:
        return f"that is not possible: {subnet.blocked}"
    if idle is Idle.PAUSED and subnet.paused_since is not None:
        since = duration(now - subnet.paused_since)
        return f"scaling has been paused for {since}: end that with `proxypool scale resume {subnet.id}`"
    return f"mode observe only says so: to have it done, `proxypool scale set {subnet.id} --mode enforce`"
