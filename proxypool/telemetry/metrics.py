"""The metrics of a node and of a host: names, help, and what they are read from. The one owner of prometheus-client.

State is collected at the scrape from what the daemon observed; only things that happen (failovers, repairs) are counted
as they happen. Labels are `subnet`, `pair` and closed enumerations; never a flow, a destination or an instance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from proxypool import __version__
from proxypool.core.history import Phase, Record
from proxypool.core.model import MemberStatus, PairSpec, PairState
from proxypool.core.role import Role
from proxypool.core.sync_supervision import SyncReport
from proxypool.telemetry.sync_metrics import sync_families
from proxypool.telemetry.use_metrics import NodeUse, UseCollector

_FAST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PHASE_BUCKETS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5),
    *(1, 2, 5, 10, 30),
)
"""Detection is tens of milliseconds, a gate one, an election seconds."""
_RECONCILE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# A second series for every counter, which the text format's readers do not use.
disable_created_metrics()  # type: ignore[no-untyped-call]
ROLES = tuple(role.value for role in Role)


@dataclass(frozen=True, slots=True)
class MemberView:
    """What the node daemon knows of one of its members at the scrape."""

    pair: PairSpec
    status: MemberStatus
    is_elected: bool
    sync: SyncReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """What either daemon knows of ZooKeeper at the scrape."""

    is_zookeeper_connected: bool
    zookeeper_silence_s: float
    malformed_documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView(PoolView):
    """What the node daemon knows at the scrape."""

    members: tuple[MemberView, ...]
    is_keepalived_up: bool
    is_keepalived_config_valid: bool


class _Base:
    """What both daemons export."""

    def __init__(self, role: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        info = Gauge(
            "proxypool_build_info", "Version of proxypool; always 1.", ("version", "role"), registry=self.registry
        )
        info.labels(__version__, role).set(1)
        self.ready = Gauge(
            "proxypool_ready_timestamp_seconds",
            "When all this daemon has to serve had been looked at for the first time since it started; 0: not yet.",
            registry=self.registry,
        )
        self.reconcile_duration = Histogram(
            "proxypool_reconcile_duration_seconds",
            "Time to bring one scope (a namespace) to its desired state.",
            registry=self.registry,
            buckets=_RECONCILE_BUCKETS,
        )
        self.reconcile_errors = Counter(
            "proxypool_reconcile_errors_total", "Rounds of reconciling that failed.", ("scope",), registry=self.registry
        )
        self.reconcile_success = Gauge(
            "proxypool_reconcile_last_success_timestamp_seconds",
            "When a scope was last seen as it must be.",
            ("scope",),
            registry=self.registry,
        )
        self.operations = Counter(
            "proxypool_kernel_operations_total", "Changes made to the kernel.", ("scope",), registry=self.registry
        )
        self.repairs = Counter(
            "proxypool_drift_repairs_total",
            "Times something of ours had been changed by others and was put right.",
            ("scope",),
            registry=self.registry,
        )

    def reconciled(
        self, scope: str, *, ok: bool, is_repair: bool, operations: int, duration_s: float, now: float
    ) -> None:
        """Count one round."""
        self.reconcile_duration.observe(duration_s)
        if operations:
            self.operations.labels(scope).inc(operations)
        if is_repair:
            self.repairs.labels(scope).inc()
        if ok:
            self.reconcile_success.labels(scope).set(now)
        else:
            self.reconcile_errors.labels(scope).inc()

    def forget(self, scope: str) -> None:
        """Drop the series of a scope that is gone."""
        for metric in (self.reconcile_errors, self.reconcile_success, self.operations, self.repairs):
            try:
                metric.remove(scope)
            except KeyError:
                continue


class NodeMetrics(_Base):
    """Metrics of a node daemon."""

    def __init__(self, view: Callable[[], NodeView], use: Callable[[], NodeUse]) -> None:
        """Both are called at a scrape, from the server's thread; `use` alone if only its series are asked for."""
        super().__init__("node")
        self._dropped = 0
        self._recorded: set[tuple[str, str]] = set()
        """Pairs that have series of their own."""
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
        self.registry.register(_NodeCollector(view))
        self.registry.register(UseCollector(use))

    def changed(self, record: Record) -> None:
        """Count a change of master."""
        where = (record.subnet, record.pair)
        self._recorded.add(where)
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
        for gauge in (self.last_failover, self.last_blackout, self.carried_over):
            for where in [where for where in self._recorded if where[0] == scope]:
                with contextlib.suppress(KeyError):
                    gauge.remove(*where)


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
        yield from _pool_states(view)
        yield _gauge("proxypool_keepalived_up", "Whether keepalived runs.", view.is_keepalived_up)
        yield _gauge(
            "proxypool_keepalived_config_valid",
            "Whether keepalived accepted the configuration last written.",
            view.is_keepalived_config_valid,
        )
        yield from _member_states(view.members)
        yield _connections_left(view.members)
        yield from sync_families((member.pair, member.sync) for member in view.members if member.sync is not None)


def _pool_states(view: PoolView) -> Iterator[Metric]:
    yield _gauge(
        "proxypool_zookeeper_connected", "Whether the ZooKeeper session is connected.", view.is_zookeeper_connected
    )
    yield _gauge("proxypool_zookeeper_silence_seconds", "Time since ZooKeeper last answered.", view.zookeeper_silence_s)
    yield _gauge(
        "proxypool_malformed_documents", "Documents in ZooKeeper that cannot be read.", view.malformed_documents
    )


def _member_states(members: tuple[MemberView, ...]) -> Iterator[Metric]:
    labels = ("subnet", "pair")
    role = GaugeMetricFamily(
        "proxypool_member_role", "Role of this node in the pair: 1 for the current one.", labels=(*labels, "role")
    )
    draining = GaugeMetricFamily(
        "proxypool_pair_draining", "Whether hosts send the pair no new connections, as it drains.", labels=labels
    )
    paused = GaugeMetricFamily(
        "proxypool_pair_paused", "Whether health and election move nothing, for maintenance.", labels=labels
    )
    probe_up = GaugeMetricFamily(
        "proxypool_egress_probe_up",
        "Whether the probe's target answers through the ENI; no series without a target.",
        labels=labels,
    )
    probe_rtt = GaugeMetricFamily(
        "proxypool_egress_probe_rtt_seconds", "Round trip of the last probe that was answered.", labels=labels
    )
    damped = GaugeMetricFamily(
        "proxypool_member_damped",
        "Whether this node is well but held back, as it was unfit lately.",
        labels=labels,
    )
    families = {
        name: GaugeMetricFamily(f"proxypool_member_{name}", text, labels=labels)
        for name, text in (
            ("elected", "Whether ZooKeeper elected this node."),
            ("gate_open", "Whether the gate (ip_forward of the subnet's namespace) is open, as read from the kernel."),
            ("has_havip", "Whether the HaVip is on this node's underlay interface, as read from the kernel."),
            ("fit", "Whether this node can serve the pair."),
            ("epoch", "Epoch of the election as this node knows it."),
            ("role_since_timestamp_seconds", "When the role last changed."),
        )
    }
    for member in members:
        where = (member.pair.subnet, member.pair.id)
        status = member.status
        for name in ROLES:
            role.add_metric((*where, name), float(status.role == name))
        families["elected"].add_metric(where, float(member.is_elected))
        families["gate_open"].add_metric(where, float(bool(status.gate)))
        families["has_havip"].add_metric(where, float(status.has_havip))
        families["fit"].add_metric(where, float(not status.health))
        families["epoch"].add_metric(where, float(status.epoch))
        families["role_since_timestamp_seconds"].add_metric(where, status.since)
        draining.add_metric(where, float(member.pair.state is PairState.DRAINING))
        paused.add_metric(where, float(member.pair.paused_since is not None))
        damped.add_metric(where, float(status.damped_until is not None))
        if status.probe != "none":
            probe_up.add_metric(where, float(status.probe in {"ok", "doubtful"}))
        if status.probe_ms is not None:
            probe_rtt.add_metric(where, status.probe_ms / 1e3)
    yield role
    yield draining
    yield paused
    yield damped
    yield probe_up
    yield probe_rtt
    yield from families.values()


def _connections_left(members: tuple[MemberView, ...]) -> Metric:
    living = GaugeMetricFamily(
        "proxypool_pair_connections",
        "Connections that are not over, of a pair that drains; counted where this node is its master, else no series.",
        labels=("subnet", "pair"),
    )
    for member in members:
        if member.status.connections is not None:
            living.add_metric((member.pair.subnet, member.pair.id), member.status.connections)
    return living


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


class HostMetrics(_Base):
    """Metrics of a host agent."""

    def __init__(self, view: Callable[[], HostView]) -> None:
        """`view` is called at every scrape, from the server's thread."""
        super().__init__("host")
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
        yield from _pool_states(view)
        for name, text, value in (
            ("subnets", "Subnets in use on this host.", view.subnets_served),
            ("subnets_refused", "Configured subnets this host cannot serve.", view.subnets_refused),
            ("attachments", "Attachments of instances to subnets.", view.attachments),
            ("paths", "Paths (a pair for each subnet of a group of attachments) with a routing table.", view.paths),
            ("paths_retired", "Paths that only connections from before still take.", view.retired_paths),
            ("havips_silent", "HaVips that answered once and do not now.", view.havips_silent),
            ("havips_dead", "HaVips in use that no living member has, or no pair.", view.havips_dead),
        ):
            yield _gauge(f"proxypool_host_{name}", text, value)
        yield CounterMetricFamily(
            "proxypool_host_connections_cut",
            "Connections ended because their pair was gone or their instance detached.",
            value=view.connections_cut,
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
