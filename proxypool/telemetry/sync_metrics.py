"""Metrics of the state of connections that the members of a pair tell each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Sample
from prometheus_client.metrics_core import Metric

from proxypool.core.model import PairSpec
from proxypool.core.state_sync import SyncCounts
from proxypool.core.sync_supervision import End, SyncReport, SyncState
from proxypool.telemetry.member_metrics import labels_of

_LABELS = ("subnet", "pair")
_COUNTERS: tuple[tuple[str, str, Callable[[SyncCounts], int]], ...] = (
    ("messages_sent", "Messages (UDP packets) sent to the other member.", lambda counts: counts.messages_sent),
    ("messages_received", "Messages received from the other member.", lambda counts: counts.messages_received),
    ("entries_written", "Connections made, changed or removed at its word.", lambda counts: counts.entries_written),
    ("write_errors", "Connections that the kernel did not take.", lambda counts: counts.write_errors),
    ("send_errors", "Messages that could not be sent.", lambda counts: counts.send_errors),
    ("messages_lost", "Messages that had to be asked for again.", lambda counts: counts.lost),
    ("event_overruns", "Times events of the kernel were lost, after which all is told anew.", lambda c: c.overruns),
    ("queue_drops", "Messages no longer kept when they were asked for again.", lambda counts: counts.queue_drops),
)
"""Of the conntrackd that runs now: they begin at 0 with it."""


def sync_families(reports: Iterable[tuple[PairSpec, SyncReport]]) -> Iterator[Metric]:
    """All families; pairs without an egress address have no series."""
    up = GaugeMetricFamily(
        "proxypool_state_sync_up", "Whether conntrackd runs and hears the other member's.", labels=_LABELS
    )
    entries = GaugeMetricFamily(
        "proxypool_state_sync_entries", "Connections this member tells the other one of.", labels=_LABELS
    )
    restarts = CounterMetricFamily(
        "proxypool_state_sync_restarts",
        "Times conntrackd was started again: it died, hung, did not start, or its configuration or namespace changed.",
        labels=(*_LABELS, "reason"),
    )
    counters = {
        name: CounterMetricFamily(f"proxypool_state_sync_{name}", text, labels=_LABELS) for name, text, _ in _COUNTERS
    }
    for pair, report in reports:
        where = labels_of(pair)
        up.samples.append(Sample(up.name, where, float(report.state is SyncState.OK)))
        ends = dict(report.restarts)
        for reason in End:
            restarts.add_metric((pair.subnet, pair.id, reason.value), ends.get(reason.value, 0))
        counts = report.counts or SyncCounts()
        entries.samples.append(Sample(entries.name, where, counts.entries))
        for name, _, value in _COUNTERS:
            counters[name].samples.append(Sample(f"{counters[name].name}_total", where, value(counts)))
    yield up
    yield entries
    yield restarts
    yield from counters.values()
