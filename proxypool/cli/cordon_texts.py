"""What is said about orders of nodes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from proxypool.core.scaling.documents import Action, by_subnet
from proxypool.core.scaling.orders import Stay
from proxypool.core.status import NodeReport
from proxypool.core.units import duration, some_of

MAX_NAMES = 5


def cordon_text(cordoned_since: float | None, draining_since: float | None, who: str, reason: str, now: float) -> str:
    """`draining for 5m, by ann@ops: new kernel`; empty: there is no order."""
    if draining_since is not None:
        text = f"draining for {duration(now - draining_since)}"
    elif cordoned_since is not None:
        text = f"cordoned for {duration(now - cordoned_since)}"
    else:
        return ""
    text += f", by {who}" if who else ""
    return f"{text}: {reason}" if reason else text


def orders_text(node: NodeReport, now: float) -> str:
    """What an operator wants of a node, since when, who said so and why."""
    text = cordon_text(node.cordoned_since, node.draining_since, node.ordered_by, node.order_reason, now)
    if text or not node.ordered_by:
        return text
    return f"none, taken back by {node.ordered_by}{f': {node.order_reason}' if node.order_reason else ''}"


def orders_word(node: NodeReport) -> str:
    """The same in a word."""
    return "draining" if node.draining_since is not None else "cordoned" if node.cordoned_since is not None else ""


def drain_steps(node: str, stays: Collection[Stay]) -> Iterator[str]:
    """What draining a node does, in order, and to whom."""
    yield "no new pair is placed on it"
    moving = [_name(stay) for stay in stays if not stay.why]
    if moving:
        yield f"for {some_of(moving, MAX_NAMES)} a new pair is made on other nodes, one of a subnet at a time"
        yield "each is then drained, and removed when its connections have ended"
    else:
        yield "nothing moves"
    for stay in stays:
        if stay.why:
            yield (
                f"{_name(stay)} stays on {node}, as {stay.why}: move it by hand with `proxypool pair add` and "
                f"`proxypool pair remove {stay.pair.subnet} {stay.pair.id} --drain`"
            )


def _name(stay: Stay) -> str:
    return f"{stay.pair.subnet}/{stay.pair.id}"


def progress_text(node: str, stays: Collection[Stay], actions: Iterable[Action]) -> str:
    """`node-a: 3 pairs left to move; s1: replace at ready`."""
    moving = [stay for stay in stays if not stay.why]
    text = f"{node}: {len(moving)} pair{'' if len(moving) == 1 else 's'} left to move"
    subnets = {stay.pair.subnet for stay in moving}
    steps = [
        f"{subnet}: {action.kind.value} at {action.step.value}"
        for subnet, some in by_subnet(actions).items()
        if subnet in subnets
        for action in some
    ]
    return "; ".join((text, *steps[:MAX_NAMES]))


def drained_text(node: str, stays: Collection[Stay], took_s: float) -> str:
    """The wait is over: also what stays."""
    stay = (
        f"; {some_of([_name(one) for one in stays], MAX_NAMES)} stay, and are not the controller's to move"
        if stays
        else ""
    )
    what = "no pair that moves is left" if stays else "no pair is left"
    return f"node {node} is drained: {what} after {took_s:.0f} s{stay}"


def timed_out_text(node: str, stays: Collection[Stay] | None, timeout_s: float) -> str:
    """The wait is over, the drain is not. `stays`: None if nobody could look."""
    has = (
        "pairs that nobody could count"
        if stays is None
        else some_of([_name(stay) for stay in stays if not stay.why], MAX_NAMES)
    )
    return (
        f"node {node} still has {has} after {timeout_s:g} s and stays draining: {_ways_on(node)}; "
        "see `proxypool scale status` for what holds it"
    )


def interrupted_text(node: str) -> str:
    """Ctrl-C ends the wait, not the drain."""
    return f"interrupted: node {node} stays draining: {_ways_on(node)}"


def _ways_on(node: str) -> str:
    return f"wait on with `proxypool node drain {node} --wait`, take it back with `proxypool node uncordon {node}`"
