"""From what nodes say of their counters to the load of a subnet. Pure; see "Signals" in docs/scaling.md.

A number is either known or it is not, and then why not has a name. What is not known never makes a load that counts as
known: a subnet's load of a signal is the sum over its pairs if all of them are known, else None and a lower bound.
Pairs that drain count, as the connections that end there begin again elsewhere; pairs that are not open yet do not.

Of a pair the master's numbers count, and only those: the other member's table is a copy (with state sync) or left over
(without).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.figures import Figure, Shares, Use, shares_of, use_of
from proxypool.core.scaling.model import Signal
from proxypool.core.scaling.rates import Problem, Track, follow
from proxypool.core.scaling.series import NodeSample, NodeSeries, Series, Where

_SIGNALS = tuple(Signal)
_NOTHING_KNOWN: Mapping[Problem, Mapping[Signal, Figure]] = {
    problem: dict.fromkeys(_SIGNALS, Figure(0.0, problem)) for problem in Problem
}


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
    tracks: Mapping[Where, Track]
    uses: Mapping[Where, Use]
    """Of those that it is master of."""
    shares: Shares


@dataclass(slots=True)
class Signals:
    """Remembers the last sample of each node. `stale_after_s`: how old they may be; see `freshness`."""

    stale_after_s: float
    _nodes: dict[str, _Node] = field(default_factory=dict)

    def saw(self, sample: NodeSample) -> None:
        """A node has answered."""
        before, longest_s = self._nodes.get(sample.node), self.stale_after_s
        known_before = before.tracks if before is not None else {}
        tracks = {
            where: follow(known_before.get(where), member, sample.at, longest_s)
            for where, member in sample.members.items()
        }
        masters = {where: track for where, track in tracks.items() if track.is_master}
        shares = shares_of(sample, masters.values())
        uses = {where: use_of(sample.at, shares, track) for where, track in masters.items()}
        self._nodes[sample.node] = _Node(sample.at, tracks, uses, shares)

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
            limit = node.shares.limits.get(NodeSeries.BYTES_LIMIT)
            if limit is not None and not isinstance(limit, Problem) and limit > 0 and self._is_fresh(node.at, now):
                totals = node.shares.totals
                found[name] = max(totals[Series.RECEIVED_BYTES], totals[Series.SENT_BYTES]) / limit
        return found

    def load_of(self, pairs: Iterable[PairSpec], now: float) -> SubnetLoad:
        """The load of a subnet with these pairs."""
        figures: dict[str, Mapping[Signal, Figure]] = {}
        drops = False
        for pair in pairs:
            if pair.state is not PairState.PREPARING:
                figures[pair.id], has_drops = self._pair(pair, now)
                drops = drops or has_drops
        load: dict[Signal, float | None] = {}
        at_least: dict[Signal, float] = {}
        of_pairs = tuple(figures.values())
        for signal in _SIGNALS:
            total, is_known, has_limit = 0.0, True, False
            for found in of_pairs:
                figure = found[signal]
                problem = figure.problem
                total += figure.at_least
                is_known = is_known and problem is None
                has_limit = has_limit or problem is not Problem.NO_LIMIT
            if not has_limit:
                continue
            load[signal] = total if is_known else None
            if not is_known:
                at_least[signal] = total
        return SubnetLoad(load, at_least, drops, {pair: _problems(found, load) for pair, found in figures.items()})

    def _pair(self, pair: PairSpec, now: float) -> tuple[Mapping[Signal, Figure], bool]:
        where, stale_after_s = (pair.subnet, pair.id), self.stale_after_s
        heard, fresh = 0, 0
        uses: list[Use] = []
        for member in pair.members:
            node = self._nodes.get(member.node)
            if node is None or where not in node.tracks:
                continue
            heard += 1
            if now - node.at > stale_after_s:
                continue
            fresh += 1
            if where in node.uses:
                uses.append(node.uses[where])
        drops = any(use.drops(now, stale_after_s) for use in uses)
        if len(uses) == 1:
            return uses[0].at(now, stale_after_s), drops
        if uses:
            figures = [use.at(now, stale_after_s) for use in uses]
            highest = {signal: max(each[signal].at_least for each in figures) for signal in _SIGNALS}
            return {signal: Figure(value, Problem.TWO_MASTERS) for signal, value in highest.items()}, drops
        problem = Problem.NO_MASTER
        if fresh < len(pair.members):
            problem = Problem.STALE if fresh < heard else Problem.UNREAD
        return _NOTHING_KNOWN[problem], drops

    def _is_fresh(self, at: float, now: float) -> bool:
        return now - at <= self.stale_after_s


def _problems(figures: Mapping[Signal, Figure], load: Mapping[Signal, float | None]) -> dict[Signal, Problem]:
    return {signal: problem for signal in load if (problem := figures[signal].problem) is not None}
