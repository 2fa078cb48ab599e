"""What every daemon exports: its version, its process, ZooKeeper, what is wrong with it, whether its loop goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Sample
from prometheus_client.metrics_core import Metric

from proxypool import __version__
from proxypool.core.blocking import Blocked
from proxypool.core.discovery import Daemon

_SUBNET = "No subnet: the machine's own namespace."
_RECONCILE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# A second series for every counter, which the text format's readers do not use.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """What every daemon knows of itself and of ZooKeeper at the scrape."""

    is_zookeeper_connected: bool
    zookeeper_silence_s: float
    malformed_documents: int
    problems: tuple[str, ...] = ()
    """Topics of what is wrong with the whole machine; see `daemons.problems`."""
    blocked: Mapping[str, Mapping[Blocked, int]] = field(default_factory=dict)
    """Packets blocked, by subnet and reason; no subnet: in the machine's own namespace."""


class DaemonMetrics:
    """A registry with what every daemon exports."""

    def __init__(self, role: Daemon) -> None:
        """Nothing was counted yet."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        info = Gauge(
            "proxypool_build_info", "Version of proxypool; always 1.", ("version", "role"), registry=self.registry
        )
        info.labels(__version__, role.value).set(1)
        self.loop = Gauge(
            "proxypool_loop_timestamp_seconds",
            "When the daemon's main loop last came round, which it does every second, a controller's every few.",
            registry=self.registry,
        )
        self._reload_success, self._reload_at = (
            Gauge(f"proxypool_config_reload_{name}", text, registry=self.registry)
            for name, text in (
                (
                    "success",
                    "Whether the configuration file was taken over when it was last read; else the old one holds.",
                ),
                ("timestamp_seconds", "When the configuration that is in force was read."),
            )
        )

    def reloaded(self, *, ok: bool, now: float) -> None:
        """The configuration was read, at wall time `now`."""
        self._reload_success.set(ok)
        if ok:
            self._reload_at.set(now)


class KernelDaemonMetrics(DaemonMetrics):
    """And what those that program the kernel do."""

    def __init__(self, role: Daemon) -> None:
        """Nothing was counted yet."""
        super().__init__(role)
        self.ready = Gauge(
            "proxypool_ready_timestamp_seconds",
            "When all this daemon has to serve had been looked at for the first time since it started; 0: not yet.",
            registry=self.registry,
        )
        self.reconcile_duration = Histogram(
            "proxypool_reconcile_duration_seconds",
            "Time to bring one namespace to its desired state.",
            registry=self.registry,
            buckets=_RECONCILE_BUCKETS,
        )
        self.reconcile_errors = Counter(
            "proxypool_reconcile_errors_total",
            f"Rounds of reconciling that failed. {_SUBNET}",
            ("subnet",),
            registry=self.registry,
        )
        self.reconcile_success = Gauge(
            "proxypool_reconcile_last_success_timestamp_seconds",
            f"When a namespace was last seen as it must be. {_SUBNET}",
            ("subnet",),
            registry=self.registry,
        )
        self.operations = Counter(
            "proxypool_kernel_operations_total",
            f"Changes made to the kernel. {_SUBNET}",
            ("subnet",),
            registry=self.registry,
        )
        self.repairs = Counter(
            "proxypool_drift_repairs_total",
            f"Times something of ours had been changed by others and was put right. {_SUBNET}",
            ("subnet",),
            registry=self.registry,
        )

    def reconciled(
        self, scope: str, *, ok: bool, is_repair: bool, operations: int, duration_s: float, now: float
    ) -> None:
        """Count one round. `scope`: a subnet, or a name in brackets for the machine's own namespace."""
        subnet = _subnet_of(scope)
        self.reconcile_duration.observe(duration_s)
        if operations:
            self.operations.labels(subnet).inc(operations)
        if is_repair:
            self.repaired(scope)
        if ok:
            self.reconcile_success.labels(subnet).set(now)
        else:
            self.reconcile_errors.labels(subnet).inc()

    def repaired(self, scope: str) -> None:
        """Something that others had changed was put right, beside the rounds."""
        self.repairs.labels(_subnet_of(scope)).inc()

    def forget(self, scope: str) -> None:
        """Drop the series of a scope that is gone."""
        for metric in (self.reconcile_errors, self.reconcile_success, self.operations, self.repairs):
            with contextlib.suppress(KeyError):
                metric.remove(_subnet_of(scope))


def _subnet_of(scope: str) -> str:
    return "" if scope.startswith("(") else scope


def pool_states(view: PoolView) -> Iterator[Metric]:
    """Of ZooKeeper and of problems."""
    yield gauge(
        "proxypool_zookeeper_connected", "Whether the ZooKeeper session is connected.", view.is_zookeeper_connected
    )
    yield gauge("proxypool_zookeeper_silence_seconds", "Time since ZooKeeper last answered.", view.zookeeper_silence_s)
    yield gauge(
        "proxypool_malformed_documents", "Documents in ZooKeeper that cannot be read.", view.malformed_documents
    )
    topics = GaugeMetricFamily(
        "proxypool_problem",
        "1 for each topic in which something is wrong with the whole machine, as `proxypool status` says in words; no"
        " series for the others.",
        labels=("topic",),
    )
    for topic in view.problems:
        topics.add_metric((topic,), 1.0)
    yield topics


def blocked_packets(view: PoolView) -> CounterMetricFamily:
    """By whoever programs the kernel."""
    family = CounterMetricFamily(
        "proxypool_blocked_packets",
        f"Packets that were dropped or refused because nobody may send them, by reason: docs/isolation.md. {_SUBNET}",
        labels=("subnet", "reason"),
    )
    for subnet, counts in view.blocked.items():
        for why, count in sorted(counts.items()):
            labels = {"subnet": subnet, "reason": why.value}
            family.samples.append(Sample("proxypool_blocked_packets_total", labels, float(count)))
    return family


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """Of a single series."""
    return GaugeMetricFamily(name, text, value=float(value))
