"""A node's word of its members, with every number open to change."""

from __future__ import annotations

from collections.abc import Mapping

from proxypool.core.scaling.series import NodeSample, NodeSeries, Sample, Series, Where
from proxypool.core.scaling.signals import Signals

LIMITS: Sample = {
    NodeSeries.BYTES_LIMIT: 1e9,
    NodeSeries.PACKETS_LIMIT: 1e6,
    NodeSeries.CONNECTIONS_LIMIT: 10_000.0,
    NodeSeries.PORTS_INTERVAL: 30.0,
}
PER_S = {
    Series.CONNECTIONS: 1000.0,
    Series.RECEIVED_BYTES: 1e8,
    Series.SENT_BYTES: 3e8,
    Series.RECEIVED_PACKETS: 1e5,
    Series.SENT_PACKETS: 2e5,
}
"""A master that is a tenth to a third full."""
WHERE = ("s1", "p1")


def counted(clock_s: float, *, master: bool = True, scale: float = 1.0, **changes: float | None) -> Sample:
    """A member whose counters were read `clock_s` after their beginning; changes by name of `Series`, None: not there."""
    found: dict[str, float | None] = {
        Series.MASTER: float(master),
        Series.SINCE: 1000.0,
        Series.CLOCK: clock_s,
        Series.AGE: 0.0,
        Series.CONNTRACK: 50_000.0 * scale,
        Series.CONNTRACK_LIMIT: 200_000.0,
        Series.TABLE_FULL: 0.0,
        Series.EARLY_DROPS: 0.0,
        Series.INSERT_FAILURES: 0.0,
        Series.TUNNEL_DROPS: 0.0,
        Series.ENI_DROPS: 0.0,
    }
    found |= {series: rate * scale * clock_s for series, rate in PER_S.items()}
    if master:
        found |= {Series.PORTS: 16_128.0 * scale, Series.PORTS_LIMIT: 64_512.0, Series.PORTS_AGE: 10.0}
    found |= {Series[name]: value for name, value in changes.items()}
    return {series: value for series, value in found.items() if value is not None}


def idle(clock_s: float) -> Sample:
    """A backup."""
    return counted(clock_s, master=False, scale=0.0)


def node_sample(node: str, at: float, members: Mapping[Where, Sample] | Sample, limits: Sample = LIMITS) -> NodeSample:
    """One node's word; a single sample is that of s1/p1."""
    by_pair = members if all(isinstance(key, tuple) for key in members) else {WHERE: members}
    return NodeSample(node, at, limits, by_pair)  # type: ignore[arg-type]  # told apart by their keys


def watched(*rounds: float, stale_after_s: float = 6.0) -> Signals:
    """Of a pair whose member n1 is its master, seen at these moments."""
    signals = Signals(stale_after_s)
    for at in rounds:
        signals.saw(node_sample("n1", at, counted(at)))
        signals.saw(node_sample("n2", at, idle(at)))
    return signals
