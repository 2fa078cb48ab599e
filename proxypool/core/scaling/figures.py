"""What one master uses of what there is, in pairs: worked out once, when its node has answered. Pure.

Only what grows old depends on when it is asked for, so a round that looks at ten thousand pairs compares two numbers
for each; see "Signals" in docs/scaling.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct

from proxypool.core.scaling.model import Signal
from proxypool.core.scaling.rates import Known, Problem, Track, known
from proxypool.core.scaling.series import PORTS_INTERVAL_S, NodeSample, NodeSeries, Series

ROUNDS = 3
"""What is older than so many rounds is stale."""
DROP_SHARE = 0.01
"""Of what passes: fewer drops of the kinds that may have another reason than want of room are not counted as drops."""
FEW_FAILURES_PER_S, FEW_DROPS_PER_S = 1.0, 10.0
"""Nor are so few."""


class Figure(Struct, frozen=True):
    """A load in pairs."""

    at_least: float
    problem: Problem | None = None
    """None: it is exactly that."""


_NOT_KNOWN: Mapping[Problem, Figure] = {problem: Figure(0.0, problem) for problem in Problem}
_NO_LIMIT, _STALE = _NOT_KNOWN[Problem.NO_LIMIT], _NOT_KNOWN[Problem.STALE]
_PACKETS = (Series.RECEIVED_PACKETS, Series.SENT_PACKETS)
_DIRECTIONS = (Series.RECEIVED_BYTES, Series.SENT_BYTES)
_SHARED = (Series.CONNECTIONS, *_DIRECTIONS, *_PACKETS)
"""What the members of a node share its limits for."""
_SHARED_LIMITS = (NodeSeries.BYTES_LIMIT, NodeSeries.PACKETS_LIMIT, NodeSeries.CONNECTIONS_LIMIT)


@dataclass(frozen=True, slots=True)
class Shares:
    """What the masters of a node use together, and what there is for them."""

    masters: int
    limits: Mapping[NodeSeries, Known]
    """Of those that they share; without those that the node has not."""
    totals: Mapping[Series, float]
    """Of all masters, per second."""
    doubt: Mapping[Series, Problem]
    """Why a total is only a lower bound."""
    ports_stale_s: float
    """How old a look at the ports may be."""


def shares_of(sample: NodeSample, masters: Iterable[Track]) -> Shares:
    """Of a node with these masters."""
    totals, doubt = dict.fromkeys(_SHARED, 0.0), dict[Series, Problem]()
    count = 0
    for track in masters:
        count += 1
        for series in _SHARED:
            rate = track.rate(series)
            if isinstance(rate, Problem):
                doubt[series] = rate
            else:
                totals[series] += rate
    limits = {series: known(sample.limits[series]) for series in _SHARED_LIMITS if series in sample.limits}
    interval = known(sample.limits.get(NodeSeries.PORTS_INTERVAL))
    ports_s = PORTS_INTERVAL_S if isinstance(interval, Problem) else max(interval, PORTS_INTERVAL_S)
    return Shares(count, limits, totals, doubt, ROUNDS * ports_s)


class Use(Struct, frozen=True):
    """Of a pair, by its master's word."""

    figures: Mapping[Signal, Figure]
    """By every signal, as long as nothing is stale."""
    has_drops: bool
    read_at: float
    """When its counters were read."""
    is_counted: bool
    """Whether they can be stale: without a look there is nothing that grows old."""
    answered_at: float
    ports_age_s: float
    """When it answered; minus infinity: there was no look."""
    ports_stale_s: float

    def at(self, now: float, stale_after_s: float) -> Mapping[Signal, Figure]:
        """The same at another moment, at which something may be stale."""
        is_old = self.is_counted and now - self.read_at > stale_after_s
        are_ports_old = self.ports_age_s + now - self.answered_at > self.ports_stale_s
        if not is_old and not are_ports_old:
            return self.figures
        found = dict(self.figures)
        for signal, figure in self.figures.items():
            if signal is Signal.PORTS:
                found[signal] = _STALE if are_ports_old else figure
            elif is_old and figure.problem is not Problem.NO_LIMIT:
                found[signal] = _STALE
        return found

    def drops(self, now: float, stale_after_s: float) -> bool:
        """Whether it drops for want of room now."""
        return self.has_drops and now - self.read_at <= stale_after_s


def use_of(answered_at: float, shares: Shares, track: Track) -> Use:
    """Of one of the masters of a node that answered then, and whose `shares` those are."""
    sample, rates = track.sample, track.rates
    age = known(sample.get(Series.PORTS_AGE))
    return Use(
        figures={
            Signal.CONNTRACK: _ratio(track.value(Series.CONNTRACK), track.value(Series.CONNTRACK_LIMIT)),
            Signal.CONNECTIONS: _share(shares, track, NodeSeries.CONNECTIONS_LIMIT, (Series.CONNECTIONS,)),
            Signal.BYTES: _bytes(shares, track),
            Signal.PACKETS: _share(shares, track, NodeSeries.PACKETS_LIMIT, _PACKETS),
            Signal.PORTS: _ports(track, age),
        },
        has_drops=bool(rates) and _has_drops(track),
        read_at=track.read_at,
        is_counted=Series.SINCE in sample,
        answered_at=answered_at,
        ports_age_s=-math.inf if isinstance(age, Problem) else age,
        ports_stale_s=shares.ports_stale_s,
    )


def _ratio(used: Known, limit: Known) -> Figure:
    if isinstance(used, Problem):
        return _NOT_KNOWN[used]
    if isinstance(limit, Problem):
        return _NOT_KNOWN[limit]
    return Figure(used / limit) if limit > 0 else _NOT_KNOWN[Problem.INVALID]


def _share(shares: Shares, track: Track, limit_series: NodeSeries, series: tuple[Series, ...]) -> Figure:
    """What is used against what the node has left for this pair: all that the others leave, but at least its part of
    it, so that on a node that is full those count as full who fill it.
    """
    limit = shares.limits.get(limit_series)
    if limit is None:
        return _NO_LIMIT
    own, total = 0.0, 0.0
    for each in series:
        rate = track.rate(each)
        if isinstance(rate, Problem):
            return _NOT_KNOWN[rate]
        own, total = own + rate, total + shares.totals[each]
    if isinstance(limit, Problem) or limit == 0:
        return _NOT_KNOWN[Problem.INVALID]
    room = max(limit - (total - own), limit / shares.masters)
    doubt = shares.doubt
    return Figure(own / room, next((doubt[each] for each in series if each in doubt), None) if doubt else None)


def _bytes(shares: Shares, track: Track) -> Figure:
    """The busier direction, against the node or the ENI's link, whichever is nearer to its limit."""
    found = [_share(shares, track, NodeSeries.BYTES_LIMIT, (direction,)) for direction in _DIRECTIONS]
    if Series.ENI_LIMIT in track.sample:
        link = track.value(Series.ENI_LIMIT)
        of_link = [_ratio(track.rate(direction), link) for direction in _DIRECTIONS]
        found = [figure for figure in found if figure.problem is not Problem.NO_LIMIT] + of_link
    worst, why = 0.0, None
    for figure in found:
        worst, why = max(worst, figure.at_least), why or figure.problem
    return Figure(worst, why)


def _ports(track: Track, age: Known) -> Figure:
    """Looked at more rarely than the rest, and as often as the node says."""
    if isinstance(age, Problem):
        return _NOT_KNOWN[Problem.NEW if age is Problem.MISSING else age]
    return _ratio(known(track.sample.get(Series.PORTS)), known(track.sample.get(Series.PORTS_LIMIT)))


def _has_drops(track: Track) -> bool:
    """Whether it dropped for want of room. A full table is that. An entry that was there already may also be a race,
    and a device drops what it does not know, so of those a few do not count.
    """
    if _rate(track, Series.TABLE_FULL) > 0 or _rate(track, Series.EARLY_DROPS) > 0:
        return True
    failures = _rate(track, Series.INSERT_FAILURES)
    dropped = _rate(track, Series.TUNNEL_DROPS) + _rate(track, Series.ENI_DROPS)
    if failures <= FEW_FAILURES_PER_S and dropped <= FEW_DROPS_PER_S:
        return False
    packets = sum(_rate(track, series) for series in _PACKETS)
    return failures > max(FEW_FAILURES_PER_S, DROP_SHARE * _rate(track, Series.CONNECTIONS)) or dropped > max(
        FEW_DROPS_PER_S, DROP_SHARE * packets
    )


def _rate(track: Track, series: Series) -> float:
    rate = track.rate(series)
    return 0.0 if isinstance(rate, Problem) else rate
