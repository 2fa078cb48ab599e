"""The metrics of a node and of a host: names, help, and what they are read from. The one owner of prometheus-client.

State is collected at the scrape from what the daemon observed; only things that happen (failovers, repairs) are counted
as they happen. Labels are `subnet`, `pair` and closed enumerations; never a flow, a destination or an instance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from proxypool.core.discovery import Daemon
from proxypool.core.history import Phase, Record
from proxypool.telemetry.daemon_metrics import (
    KernelDaemonMetrics,
    PoolView,
    blocked_packets,
    gauge,
    pool_states,
)
from proxypool.telemetry.member_metrics import MemberView, member_states
from proxypool.telemetry.sync_metrics import sync_families
from proxypool.telemetry.use_metrics import NodeUse, UseCollector

_FAST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PHASE_BUCKETS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5),
    *(1, 2, 5, 10, 30),
)
"""Detection is tens of milliseconds, a gate one, an election seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView(PoolView):
    """What the node daemon knows at the scrape."""

    members: tuple[MemberView, ...]
    is_keepalived_up: bool
    is_keepalived_config_valid: bool


class NodeMetrics(KernelDaemonMetrics):
    """Metrics of a node daemon."""

    def __init__(self, view: Callable[[], NodeView], use: Callable[[], NodeUse]) -> None:
        """Both are called at a scrape, from the server's thread; `use` alone if only its series are asked for."""
        super().__init__(Daemon.NODE)
        self._dropped = 0
        self._recorded: set[tuple[str, str, str, str]] = set()
        """Pairs that have series of their own, with kind and reason."""
        self.failovers = Counter(
            "proxypool_failovers_total",
            "Changes of master recorded by this node: failover; switchover, the old master handed over; start, there"
            " was none. What the reasons mean: docs/history.md.",
            ("subnet", "pair", "kind", "reason"),
            registry=self.registry,
        )
        self.phases = Histogram(
            "proxypool_failover_phase_duration_seconds",
            "Parts of a change of master. detection: the old master's last advertisement to keepalived's claim of the"
            " HaVip; gate: claim to open gate; blackout: last sign of the old master to open gate; election: claim to"
            " the election's confirmation.",
            ("kind", "phase"),
            registry=self.registry,
            buckets=_PHASE_BUCKETS,
        )
        self.last_failover, self.last_blackout, self.carried_over = (
            Gauge(f"proxypool_failover_{name}", text, ("subnet", "pair"), registry=self.registry)
            for name, text in (
                ("last_timestamp_seconds", "When this node last recorded a change of the pair's master."),
                ("last_blackout_seconds", "How long nobody served the pair then, at most, as the new master knows."),
                ("carried_connections", "Entries in the new master's connection table then, that were of use."),
            )
        )
        self.history_waiting = Gauge(
            "proxypool_history_waiting_records",
            "Records of the pool's history that ZooKeeper does not have yet.",
            registry=self.registry,
        )
        self.history_dropped = Counter(
            "proxypool_history_dropped_records_total",
            "Records given up because ZooKeeper was away for too long.",
            registry=self.registry,
        )
        self.adverts_timed = Gauge(
            "proxypool_vrrp_adverts_timed",
            "Whether the other members' advertisements are timed (eBPF); without it detection is not measured.",
            registry=self.registry,
        )
        self.reloads = Counter(
            "proxypool_keepalived_reloads_total", "Reloads of keepalived asked for.", registry=self.registry
        )
        self.defences = Counter(
            "proxypool_havip_defences_total",
            "Times that another machine announced a HaVip of which this node was the elected master, and this node said"
            " whose it is: a master was missed for a moment, or somebody uses the address.",
            registry=self.registry,
        )
        self.registry.register(_NodeCollector(view))
        self.registry.register(UseCollector(use))

    def changed(self, record: Record) -> None:
        """Count a change of master."""
        where = (record.subnet, record.pair)
        self._recorded.add((*where, record.kind, record.reason))
        self.failovers.labels(*where, record.kind, record.reason).inc()
        self.last_failover.labels(*where).set(record.at)
        if record.carried_over is not None:
            self.carried_over.labels(*where).set(record.carried_over)

    def measured(self, record: Record, phases: Mapping[str, float]) -> None:
        """Time phases. Not by pair: a histogram per pair would be too many series."""
        for phase, duration_s in phases.items():
            self.phases.labels(record.kind, phase).observe(duration_s)
        if Phase.BLACKOUT.value in phases:
            self.last_blackout.labels(record.subnet, record.pair).set(phases[Phase.BLACKOUT.value])

    def history_waits(self, waiting: int, dropped: int) -> None:
        """What of the history is not in ZooKeeper."""
        self.history_waiting.set(waiting)
        self.history_dropped.inc(dropped - self._dropped)
        self._dropped = dropped

    def forget(self, scope: str) -> None:
        """Drop the series of a scope that is gone."""
        super().forget(scope)
        # The recorder's thread adds to them meanwhile.
        for labels in [labels for labels in tuple(self._recorded) if labels[0] == scope]:
            self._recorded.discard(labels)
            with contextlib.suppress(KeyError):
                self.failovers.remove(*labels)
            for series in (self.last_failover, self.last_blackout, self.carried_over):
                with contextlib.suppress(KeyError):
                    series.remove(*labels[:2])


class _NodeCollector:
    """Reads the daemon's view at the scrape."""

    def __init__(self, view: Callable[[], NodeView]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        """Nothing to check at registration: the view needs a running daemon."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families."""
        view = self._view()
        yield from pool_states(view)
        yield blocked_packets(view)
        yield gauge("proxypool_keepalived_up", "Whether keepalived runs.", view.is_keepalived_up)
        yield gauge(
            "proxypool_keepalived_config_valid",
            "Whether keepalived accepted the configuration last written.",
            view.is_keepalived_config_valid,
        )
        yield from member_states(view.members)
        yield from sync_families((member.pair, member.sync) for member in view.members if member.sync is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView(PoolView):
    """What the host agent knows at the scrape."""

    subnets_served: int
    subnets_refused: int
    attachments: int
    paths: int
    retired_paths: int
    havips_silent: int
    havips_dead: int
    connections_cut: int
    silent_pairs: tuple[tuple[str, str], ...] = ()
    """Subnet and pair of each HaVip that is silent."""


class HostMetrics(KernelDaemonMetrics):
    """Metrics of a host agent."""

    def __init__(self, view: Callable[[], HostView]) -> None:
        """`view` is called at every scrape, from the server's thread."""
        super().__init__(Daemon.HOST)
        self.attach_duration = Histogram(
            "proxypool_attach_duration_seconds",
            "From an attach request to its answer: done, refused, or failed (not ready in time, kernel or disk).",
            ("outcome",),
            registry=self.registry,
            buckets=_FAST_BUCKETS,
        )
        self.registry.register(_HostCollector(view))

    def attach_answered(self, outcome: str, duration_s: float) -> None:
        """Time one attach request; `outcome` is done, refused or failed."""
        self.attach_duration.labels(outcome).observe(duration_s)


class _HostCollector:
    def __init__(self, view: Callable[[], HostView]) -> None:
        self._view = view

    def describe(self) -> Iterable[Metric]:
        """Nothing to check at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families."""
        view = self._view()
        yield from pool_states(view)
        yield blocked_packets(view)
        for name, text, value in (
            ("subnets", "Subnets in use on this host.", view.subnets_served),
            ("subnets_refused", "Configured subnets this host cannot serve.", view.subnets_refused),
            ("attachments", "Attachments of instances to subnets.", view.attachments),
            ("paths", "Paths (a pair for each subnet of a group of attachments) with a routing table.", view.paths),
            ("paths_retired", "Paths that only connections from before still take.", view.retired_paths),
            ("havips_silent", "HaVips that answered once and do not now.", view.havips_silent),
            ("havips_dead", "HaVips in use that no living member has, or no pair.", view.havips_dead),
        ):
            yield gauge(f"proxypool_host_{name}", text, value)
        silent = GaugeMetricFamily(
            "proxypool_host_pair_silent",
            "1 for each pair in use here whose HaVip does not answer through the tunnel; no series for the others.",
            labels=("subnet", "pair"),
        )
        for where in view.silent_pairs:
            silent.add_metric(where, 1.0)
        yield silent
        yield CounterMetricFamily(
            "proxypool_host_connections_cut",
            "Connections ended because their pair was gone or their instance detached.",
            value=view.connections_cut,
        )
