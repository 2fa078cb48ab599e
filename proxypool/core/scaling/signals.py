"""From what nodes say of their counters to the load of a subnet. Pure; see "Signals" in docs/scaling.md.

A number is either known or it is not, and then why not has a name. What is not known never makes a load that counts as
known: a subnet's load of a signal is the sum over its pairs if all of them are known, else None and a lower bound.
Pairs that drain count, as the connections that end there begin again elsewhere; pairs that are not open yet do not.

Of a pair the master's numbers count, and only those: the other member's table is a copy (with state sync) or left over
(without).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.model import Signal
from proxypool.core.scaling.rates import Known, Problem, Track, follow, known
from proxypool.core.scaling.series import (
    PORTS_INTERVAL_S,
    NodeSample,
    NodeSeries,
    Sample,
    Series,
    Where,
)

ROUNDS = 3
"""What is older than so many rounds is stale."""
STALE_FLOOR_S = 6.0
"""But not before this: a node reads its counters every second or two."""
DROP_SHARE = 0.01
"""Of what passes: fewer drops of the kinds that may have another reason than want of room are not counted as drops."""
FEW_FAILURES_PER_S, FEW_DROPS_PER_S = 1.0, 10.0
"""Nor are so few."""


class Figure(NamedTuple):
    """A load in pairs."""

    at_least: float
    problem: Problem | None = None
    """None: it is exactly that."""


@dataclass(frozen=True, slots=True)
class SubnetLoad:
    """What is known of a subnet at one moment; the first three as in `Observation`."""

    load: Mapping[Signal, float | None]
    """Signals that no node of the subnet has a limit for are left out."""
    at_least: Mapping[Signal, float]
    drops: bool
    problems: Mapping[str, Mapping[Signal, Problem]]
    """By pair: what is not known, and why."""


@dataclass(frozen=True, slots=True)
class _Node:
    at: float
    limits: Sample
    tracks: Mapping[Where, Track]
    masters: int
    totals: Mapping[Series, float]
    """Of all masters, per second."""
    doubt: Mapping[Series, Problem]
    """Why a total is only a lower bound."""


_SHARED = (
    Series.CONNECTIONS,
    Series.RECEIVED_BYTES,
    Series.SENT_BYTES,
    Series.RECEIVED_PACKETS,
    Series.SENT_PACKETS,
)
"""What the members of a node share its limits for."""


@dataclass(slots=True)
class Signals:
    """Remembers the last sample of each node. `stale_after_s`: see `stale_after`."""

    stale_after_s: float
    _nodes: dict[str, _Node] = field(default_factory=dict)

    def saw(self, sample: NodeSample) -> None:
        """A node has answered."""
        before, longest_s = self._nodes.get(sample.node), self.stale_after_s
        tracks = {
            where: follow(before.tracks.get(where) if before is not None else None, member, sample.at, longest_s)
            for where, member in sample.members.items()
        }
        masters = [track for track in tracks.values() if track.is_master]
        totals, doubt = dict.fromkeys(_SHARED, 0.0), dict[Series, Problem]()
        for track in masters:
            for series in _SHARED:
                match track.rate(series):
                    case Problem() as problem:
                        doubt[series] = problem
                    case rate:
                        totals[series] += rate
        self._nodes[sample.node] = _Node(sample.at, sample.limits, tracks, len(masters), totals, doubt)

    def keep(self, nodes: Iterable[str]) -> None:
        """Forget all others: they are no longer in the pool."""
        for node in self._nodes.keys() - set(nodes):
            del self._nodes[node]

    def bandwidth_used(self, now: float) -> dict[str, float]:
        """By node: how much of its bandwidth its members use, of the busier direction, at the least; 1.0 is all of it.
        Nodes that say nothing, or have no limit, are not in it.
        """
        found = {}
        for name, node in self._nodes.items():
            limit = known(node.limits.get(NodeSeries.BYTES_LIMIT))
            if not isinstance(limit, Problem) and limit > 0 and self._is_fresh(node.at, now):
                found[name] = max(node.totals[Series.RECEIVED_BYTES], node.totals[Series.SENT_BYTES]) / limit
        return found

    def load_of(self, pairs: Iterable[PairSpec], now: float) -> SubnetLoad:
        """The load of a subnet with these pairs."""
        figures: dict[str, dict[Signal, Figure]] = {}
        drops = False
        for pair in pairs:
            if pair.state is not PairState.PREPARING:
                figures[pair.id], has_drops = self._pair(pair, now)
                drops = drops or has_drops
        load: dict[Signal, float | None] = {}
        at_least: dict[Signal, float] = {}
        for signal in Signal:
            of_pairs = [found[signal] for found in figures.values()]
            if all(figure.problem is Problem.NO_LIMIT for figure in of_pairs):
                continue
            total = math.fsum(figure.at_least for figure in of_pairs)
            is_known = all(figure.problem is None for figure in of_pairs)
            load[signal] = total if is_known else None
            if not is_known:
                at_least[signal] = total
        return SubnetLoad(load, at_least, drops, {pair: _problems(found, load) for pair, found in figures.items()})

    def _pair(self, pair: PairSpec, now: float) -> tuple[dict[Signal, Figure], bool]:
        where = (pair.subnet, pair.id)
        nodes = [self._nodes.get(member.node) for member in pair.members]
        heard = [node for node in nodes if node is not None and where in node.tracks]
        fresh = [node for node in heard if self._is_fresh(node.at, now)]
        masters = [node for node in fresh if node.tracks[where].is_master]
        found = [self._figures(node, node.tracks[where], now) for node in masters]
        drops = any(self._is_fresh(track.read_at, now) and _drops(track) for track in _at(masters, where))
        if len(found) == 1:
            return found[0], drops
        if found:
            highest = {signal: max(figures[signal].at_least for figures in found) for signal in Signal}
            return {signal: Figure(value, Problem.TWO_MASTERS) for signal, value in highest.items()}, drops
        problem = Problem.NO_MASTER
        if len(fresh) < len(nodes):
            problem = Problem.STALE if len(fresh) < len(heard) else Problem.UNREAD
        return dict.fromkeys(Signal, Figure(0.0, problem)), drops

    def _is_fresh(self, at: float, now: float) -> bool:
        return now - at <= self.stale_after_s

    def _figures(self, node: _Node, track: Track, now: float) -> dict[Signal, Figure]:
        """Of a pair, by its master."""
        found = {
            Signal.CONNTRACK: _ratio(track.value(Series.CONNTRACK), track.value(Series.CONNTRACK_LIMIT)),
            Signal.CONNECTIONS: _share(node, track, NodeSeries.CONNECTIONS_LIMIT, Series.CONNECTIONS),
            Signal.BYTES: _bytes(node, track),
            Signal.PACKETS: _share(node, track, NodeSeries.PACKETS_LIMIT, Series.RECEIVED_PACKETS, Series.SENT_PACKETS),
        }
        if Series.SINCE in track.sample and not self._is_fresh(track.read_at, now):
            found = {
                signal: figure if figure.problem is Problem.NO_LIMIT else Figure(0.0, Problem.STALE)
                for signal, figure in found.items()
            }
        return found | {Signal.PORTS: _ports(node, track, now)}


def stale_after(round_s: float) -> float:
    """How old a number may be, of a source that is read, or that reads its nodes itself, every `round_s`."""
    return max(STALE_FLOOR_S, ROUNDS * round_s)


def _ratio(used: Known, limit: Known) -> Figure:
    if isinstance(used, Problem):
        return Figure(0.0, used)
    if isinstance(limit, Problem):
        return Figure(0.0, limit)
    return Figure(used / limit) if limit > 0 else Figure(0.0, Problem.INVALID)


def _share(node: _Node, track: Track, limit_series: NodeSeries, *series: Series) -> Figure:
    """What is used against what the node has left for this pair: all that the others leave, but at least its part of
    it, so that on a node that is full those count as full who fill it.
    """
    if limit_series not in node.limits:
        return Figure(0.0, Problem.NO_LIMIT)
    limit = known(node.limits[limit_series])
    own, total = 0.0, 0.0
    for each in series:
        rate = track.rate(each)
        if isinstance(rate, Problem):
            return Figure(0.0, rate)
        own, total = own + rate, total + node.totals[each]
    if isinstance(limit, Problem) or limit == 0:
        return Figure(0.0, Problem.INVALID)
    room = max(limit - (total - own), limit / max(node.masters, 1))
    return Figure(own / room, next((node.doubt[each] for each in series if each in node.doubt), None))


def _bytes(node: _Node, track: Track) -> Figure:
    """The busier direction, against the node or the ENI's link, whichever is nearer to its limit."""
    directions = Series.RECEIVED_BYTES, Series.SENT_BYTES
    found = [_share(node, track, NodeSeries.BYTES_LIMIT, direction) for direction in directions]
    if Series.ENI_LIMIT in track.sample:
        link = track.value(Series.ENI_LIMIT)
        of_link = [_ratio(track.rate(direction), link) for direction in directions]
        found = [figure for figure in found if figure.problem is not Problem.NO_LIMIT] + of_link
    worst = max(figure.at_least for figure in found)
    return Figure(worst, next((figure.problem for figure in found if figure.problem is not None), None))


def _ports(node: _Node, track: Track, now: float) -> Figure:
    """Looked at more rarely than the rest, and as often as the node says."""
    age, interval = known(track.sample.get(Series.PORTS_AGE)), known(node.limits.get(NodeSeries.PORTS_INTERVAL))
    if isinstance(age, Problem):
        return Figure(0.0, Problem.NEW if age is Problem.MISSING else age)
    bound_s = ROUNDS * (PORTS_INTERVAL_S if isinstance(interval, Problem) else max(interval, PORTS_INTERVAL_S))
    if age + now - node.at > bound_s:
        return Figure(0.0, Problem.STALE)
    return _ratio(known(track.sample.get(Series.PORTS)), known(track.sample.get(Series.PORTS_LIMIT)))


def _drops(track: Track) -> bool:
    """Whether it dropped for want of room. A full table is that. An entry that was there already may also be a race,
    and a device drops what it does not know, so of those a few do not count.
    """
    full = max(_rate(track, Series.TABLE_FULL), _rate(track, Series.EARLY_DROPS))
    connections = _rate(track, Series.CONNECTIONS)
    packets = _rate(track, Series.RECEIVED_PACKETS) + _rate(track, Series.SENT_PACKETS)
    dropped = _rate(track, Series.TUNNEL_DROPS) + _rate(track, Series.ENI_DROPS)
    return (
        full > 0
        or _rate(track, Series.INSERT_FAILURES) > max(FEW_FAILURES_PER_S, DROP_SHARE * connections)
        or dropped > max(FEW_DROPS_PER_S, DROP_SHARE * packets)
    )


def _rate(track: Track, series: Series) -> float:
    rate = track.rate(series)
    return 0.0 if isinstance(rate, Problem) else rate


def _at(nodes: Iterable[_Node], where: Where) -> list[Track]:
    return [node.tracks[where] for node in nodes]


def _problems(figures: Mapping[Signal, Figure], load: Mapping[Signal, float | None]) -> dict[Signal, Problem]:
    return {signal: figures[signal].problem for signal in load if figures[signal].problem is not None}  # type: ignore[misc]
