"""Metrics of what pairs use and of what there is for them: the controller's signals.

A collector of its own that says its names beforehand, so that a scrape of these alone (`/metrics?name[]=…`) costs
nothing of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Sample as Exported
from prometheus_client.metrics_core import Metric

from proxypool.core.scaling.series import COUNTERS, NodeSeries, Sample, Series, Where

_LABELS = ("subnet", "pair")
HELP: Mapping[Series, str] = {
    Series.MASTER: "Whether this node is the pair's VRRP master; the sum over a pair's nodes must be 1.",
    Series.SINCE: "Since when the pair's counters can be compared: the last start of the daemon, change of role, or new"
    " handles into the namespace.",
    Series.CLOCK: "Time from that moment to the last look at the pair's counters: a rate of them is to be divided by"
    " its increase.",
    Series.AGE: "Time since the pair's counters were read.",
    Series.CONNTRACK: "Connections tracked in the subnet's namespace.",
    Series.CONNTRACK_LIMIT: "Most connections the kernel will track.",
    Series.CONNECTIONS: "Connections that were given a source by NAT; of a master.",
    Series.RECEIVED_BYTES: "Bytes from hosts through the tunnel.",
    Series.RECEIVED_PACKETS: "Packets from hosts through the tunnel.",
    Series.SENT_BYTES: "Bytes to hosts through the tunnel.",
    Series.SENT_PACKETS: "Packets to hosts through the tunnel.",
    Series.ENI_LIMIT: "Speed of the ENI's link in bytes per second, if its driver tells.",
    Series.PORTS: "Source ports in use toward the busiest destination (address, protocol, port) when last looked at; of"
    " a master. Of up to 256 connections it is their number, which is no smaller.",
    Series.PORTS_LIMIT: "Source ports there are toward one destination.",
    Series.PORTS_AGE: "Time since the ports were looked at.",
    Series.PORTS_COST: "CPU time that the last look at the ports took.",
    Series.TABLE_FULL: "Packets of new connections dropped because the connection table was full; of a master.",
    Series.EARLY_DROPS: "Connections forgotten to make room in a full connection table; of a master.",
    Series.INSERT_FAILURES: "Packets of new connections dropped because no port was free or two raced; of a master.",
    Series.TUNNEL_DROPS: "Packets that the tunnel device dropped, both directions.",
    Series.ENI_DROPS: "Packets that the ENI dropped, both directions; frames of unknown protocols are among them.",
}
NODE_HELP: Mapping[NodeSeries, str] = {
    NodeSeries.BYTES_LIMIT: "Bytes per second the node can carry in each direction: node.bandwidth_bytes_per_s, or the"
    " speed of the underlay's link.",
    NodeSeries.PACKETS_LIMIT: "Packets per second the node can forward: node.packets_per_s.",
    NodeSeries.CONNECTIONS_LIMIT: "Connections per second the node can begin: node.new_connections_per_s.",
    NodeSeries.PORTS_INTERVAL: "Time from one look at a pair's ports to the next.",
}


@dataclass(frozen=True, slots=True)
class NodeUse:
    """At the scrape. What is not in a sample is not known, and has no series."""

    limits: Sample = field(default_factory=dict)
    ports_interval_s: float = 0.0
    members: Mapping[Where, Sample] = field(default_factory=dict)


class _Use(Protocol):
    def __call__(self) -> NodeUse: ...


class UseCollector:
    """Reads the daemon's numbers at the scrape."""

    def __init__(self, use: _Use) -> None:
        self._use = use

    def describe(self) -> Iterable[Metric]:
        """Every name, without looking at anything."""
        yield from (_family(series) for series in Series)
        yield from (GaugeMetricFamily(series, NODE_HELP[series]) for series in NodeSeries)

    def collect(self) -> Iterator[Metric]:
        """All families."""
        use = self._use()
        members = [({"subnet": subnet, "pair": pair}, sample) for (subnet, pair), sample in use.members.items()]
        for series in Series:
            family = _family(series)
            for labels, sample in members:
                if (value := sample.get(series)) is not None:
                    family.samples.append(Exported(series.value, labels, float(value)))
            yield family
        limits = {**use.limits, NodeSeries.PORTS_INTERVAL: use.ports_interval_s}
        for limit in NodeSeries:
            yield GaugeMetricFamily(limit, NODE_HELP[limit], value=limits.get(limit))


def _family(series: Series) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if series in COUNTERS else GaugeMetricFamily
    return kind(series, HELP[series], labels=_LABELS)
