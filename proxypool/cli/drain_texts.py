"""What is said about draining: the progress line, dry runs, endings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from proxypool.core.draining import Left, Pace, Risk, connections
from proxypool.core.model import PairSpec, PairState
from proxypool.core.units import duration, some_of

if TYPE_CHECKING:
    from proxypool.core.status import PairReport, SubnetReport

MAX_NAMES = 5


def progress_text(name: str, left: Left, pace: Pace, remaining_s: float) -> str:
    """`s1/p1: 118 connections left, 2.5/s end, about 47s to go; waiting 9m12s more`."""
    until = f"waiting {duration(remaining_s)} more"
    if left.count is None:
        why = f" ({left.why_unknown})" if left.why_unknown else ""
        return f"{name}: connections left not known yet{why}; {until}"
    text = f"{name}: {connections(left)} left"
    per_s = pace.per_s()
    if per_s:
        text += f", {per_s:.1f}/s end" if per_s > 0 else f", {-per_s:.1f}/s more"
        to_go_s = pace.remaining_s(left.count)
        text += f", about {duration(to_go_s)} to go" if to_go_s is not None and left.count else ""
    return f"{text}; {until}"


def drained_text(name: str, took_s: float) -> str:
    """The wait is over."""
    return f"pair {name} is drained: no connection is left after {took_s:.1f} s"


def timed_out_text(subnet: str, pair: str, left: Left, timeout_s: float) -> str:
    """The wait is over, the drain is not: what can be done."""
    return (
        f"pair {subnet}/{pair} still has {connections(left)} after {timeout_s:g} s and stays draining: "
        f"{_ways_on(subnet, pair)}, or break them with `proxypool pair remove {subnet} {pair} "
        f"--accept-risk={Risk.DROP_CONNECTIONS.value}`"
    )


def interrupted_text(subnet: str, pair: str) -> str:
    """Ctrl-C ends the wait, not the drain."""
    return f"interrupted: pair {subnet}/{pair} stays draining: {_ways_on(subnet, pair)}"


def _ways_on(subnet: str, pair: str) -> str:
    return (
        f"wait on with `proxypool pair drain {subnet} {pair} --wait`, "
        f"take it back with `proxypool pair undrain {subnet} {pair}`"
    )


def drain_text(spec: PairSpec, pairs: Iterable[PairSpec], now: float, *, is_changed: bool) -> str:
    """What a drain did. `pairs`: all of the subnet."""
    name = f"pair {spec.subnet}/{spec.id}"
    if not is_changed:
        since = f", for {duration(now - spec.draining_since)}" if spec.draining_since is not None else ""
        return f"{name} is draining already{since}"
    others = [pair.id for pair in pairs if pair.id != spec.id and pair.state is PairState.ACTIVE]
    return f"{name} is draining: {_where_to(others)}; those it has go on"


def _where_to(others: Sequence[str]) -> str:
    if not others:
        return "new connections have nowhere to go until another pair is active"
    return f"new connections go to {some_of(others, MAX_NAMES)}"


def numbers_text(spec: PairSpec) -> str:
    """What tells a pair from others."""
    nodes = " and ".join(place.node for place in spec.members)
    weight = f", weight {spec.weight}" if spec.weight != 1 else ""
    return f"HaVip {spec.havip}, VRRP id {spec.vrid}, {nodes}{weight}"


def dry_run_text(verb: str, name: str, steps: Iterable[str]) -> str:
    """Steps in their order."""
    lines = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))
    return f"would {verb} pair {name}; nothing is changed now:\n{lines}"


def drain_steps(subnet: SubnetReport, pair: PairReport, wait_s: float | None) -> Iterator[str]:
    """What draining a pair would do, in order, and to whom."""
    if pair.state == PairState.DRAINING:
        yield "it is draining already: that stays as it is"
    elif pair.state == PairState.PREPARING:
        yield "it is being prepared, so no host sends it connections: it is not opened any more"
    else:
        others = [one.id for one in subnet.pairs if one.id != pair.id and one.state == PairState.ACTIVE]
        yield f"{_where_to(others)}; affected: {_hosts(subnet)}"
    yield f"its connections go on: {_now(pair)}"
    if wait_s is not None:
        yield f"wait until none is left, {duration(wait_s)} at most"


def removal_steps(subnet: SubnetReport, pair: PairReport, *, is_drained_first: bool) -> Iterator[str]:
    """What removing a pair would do, in order, and to whom."""
    nodes = " and ".join(member.node for member in pair.members)
    yield f"{nodes} leave the pair; HaVip {pair.havip} goes"
    if pair.state == PairState.PREPARING:
        yield "it is being prepared: it has no connections"
    elif not is_drained_first:
        yield f"its connections break: {_now(pair)}; affected: {_hosts(subnet)}"


def undrain_steps(subnet: SubnetReport, pair: PairReport) -> Iterator[str]:
    """What ending a drain would do, in order, and to whom."""
    weights = [one.weight for one in subnet.pairs if one.state == PairState.ACTIVE and one.id != pair.id]
    share = 100 * pair.weight / (pair.weight + sum(weights))
    yield f"it gets {share:.0f} % of the new connections to {subnet.id} again; affected: {_hosts(subnet)}"
    yield "no connection that exists moves"


def addition_steps(subnet: SubnetReport, spec: PairSpec) -> Iterator[str]:
    """What adding a pair would do, in order, and to whom."""
    nodes = " and ".join(member.node for member in spec.members)
    yield f"{nodes} make its tunnel, elect a master and take HaVip {spec.havip}"
    weights = [one.weight for one in subnet.pairs if one.state == PairState.ACTIVE and one.id != spec.id]
    share = 100 * spec.weight / (spec.weight + sum(weights))
    yield f"it gets {share:.0f} % of the new connections to {subnet.id}; affected: {_hosts(subnet)}"
    yield "no connection that exists moves"


def _hosts(subnet: SubnetReport) -> str:
    count = len(subnet.hosts)
    if not count:
        return "no host, as none uses the subnet"
    return f"{count} host{'' if count == 1 else 's'}, {some_of(subnet.hosts, MAX_NAMES)}"


def _now(pair: PairReport) -> str:
    if pair.connections_left is not None:
        return f"{connections(Left(pair.connections_left))} now"
    masters = [one for one in pair.members if one.role == "master"]
    if not masters:
        return "nobody can say how many, no member is master"
    tracked = [f"{one.conntrack} tracked by {one.node}" for one in masters if one.conntrack is not None]
    return f"{', '.join(tracked)} now, ended ones among them" if tracked else "how many is not known yet"
