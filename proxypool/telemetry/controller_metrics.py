"""Metrics of a controller. Only the leader has those of the pool: of another one they would be of another time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxypool.core.discovery import Daemon
from proxypool.core.scaling.documents import Action
from proxypool.core.scaling.series import Answer, Unread
from proxypool.telemetry.daemon_metrics import DaemonMetrics, PoolView, gauge, pool_states

ROUND_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ACTION_BUCKETS = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


@dataclass(frozen=True, slots=True)
class SubnetSize:
    """Of one subnet that is scaled."""

    active: int
    wanted: int
    least: int
    most: int
    is_blocked: bool
    asked: int = 0
    cause: str = ""
    """As `scaling.model.Cause`."""
    is_paused: bool = False
    is_enforced: bool = False
    load: Mapping[str, float | None] = field(default_factory=dict)
    """In pairs, by signal."""


@dataclass(frozen=True, slots=True)
class PoolContents:
    """What there is in the pool, by its documents."""

    pairs: tuple[tuple[str, str, str], ...] = ()
    """Subnet, pair, state."""
    nodes: Mapping[str, bool] = field(default_factory=dict)
    """Name, and whether it is alive."""
    hosts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerView(PoolView):
    """What there is to export now."""

    is_zookeeper_connected: bool = False
    zookeeper_silence_s: float = 0.0
    malformed_documents: int = 0

    is_leader: bool = False
    epoch: int = 0
    evaluated_at: float = 0.0
    """Wall time of the end of the last round; 0: there was none."""
    actions: int = 0
    subnets: Mapping[str, SubnetSize] = field(default_factory=dict)
    contents: PoolContents = PoolContents()


class ControllerMetrics(DaemonMetrics):
    """A registry, and what is counted."""

    def __init__(self, view: Callable[[], ControllerView]) -> None:
        """`view` is called at each scrape, on the server's thread."""
        super().__init__(Daemon.CONTROLLER)
        self.registry.register(_Collector(view))
        self.rounds = Histogram(
            "proxypool_controller_round_duration_seconds",
            "How long one look at the whole pool took.",
            buckets=ROUND_BUCKETS,
            registry=self.registry,
        )
        self._actions = Counter(
            "proxypool_controller_actions_total",
            "Actions that are over, by kind, reason and whether they did what they were to do.",
            ("kind", "reason", "result"),
            registry=self.registry,
        )
        self._durations = Histogram(
            "proxypool_controller_action_duration_seconds",
            "From the beginning to the end of an action that did what it was to do.",
            ("kind",),
            buckets=ACTION_BUCKETS,
            registry=self.registry,
        )
        self._calls = Counter(
            "proxypool_provider_calls_total",
            "Calls to the provider, by how they ended: ok, or the kind of error.",
            ("call", "result"),
            registry=self.registry,
        )
        self._decisions = Counter(
            "proxypool_controller_decisions_total",
            "Decisions that asked for another number of pairs than there is, by cause.",
            ("cause", "direction"),
            registry=self.registry,
        )

        self._unread = Gauge(
            "proxypool_controller_unread_nodes",
            "Nodes whose use was not read the last time, by what stood in the way; of a leader that scales.",
            ("reason",),
            registry=self.registry,
        )

    def read(self, answers: Iterable[Answer]) -> None:
        """The nodes were asked what their pairs use."""
        found = [answer for answer in answers if isinstance(answer, Unread)]
        for reason in Unread:
            self._unread.labels(reason.value).set(found.count(reason))

    def ended(self, action: Action, now: float) -> None:
        """An action is over, at wall time `now`."""
        self._actions.labels(action.kind.value, action.reason, "failed" if action.error else "done").inc()
        if not action.error:
            self._durations.labels(action.kind.value).observe(max(0.0, now - action.began))

    def called(self, call: str, result: str) -> None:
        """A call to the provider is over."""
        self._calls.labels(call, result).inc()

    def decided(self, cause: str, more: int) -> None:
        """The policy asks for so many more pairs, or fewer, than before."""
        self._decisions.labels(cause, "out" if more > 0 else "in").inc()


class _Collector(Collector):
    def __init__(self, view: Callable[[], ControllerView]) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        view = self._view()
        yield _gauge("leader", "Whether this controller leads; the sum over all of them is 1.", view.is_leader)
        yield _gauge("epoch", "Of our lead; 0 without it.", view.epoch)
        yield from pool_states(view)
        yield _gauge("last_evaluation_timestamp_seconds", "When the last round ended.", view.evaluated_at)
        yield _gauge("actions_under_way", "Pairs that are being added, drained or replaced.", view.actions)
        yield from _sizes(view.subnets)
        yield from _contents(view.contents)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return gauge(f"proxypool_controller_{name}", text, value)


def _contents(pool: PoolContents) -> Iterator[Metric]:
    pairs = GaugeMetricFamily(
        "proxypool_pool_pair_state",
        "1 for each pair of the pool, in the state it is in: active, draining or preparing.",
        labels=("subnet", "pair", "state"),
    )
    for where in pool.pairs:
        pairs.add_metric(where, 1.0)
    yield pairs
    nodes = GaugeMetricFamily(
        "proxypool_pool_node_alive",
        "Whether the daemon of a registered node has a ZooKeeper session; the label node is that node's name.",
        labels=("node",),
    )
    for name, is_alive in pool.nodes.items():
        nodes.add_metric((name,), float(is_alive))
    yield nodes
    yield gauge("proxypool_pool_hosts", "Registered function hosts.", pool.hosts)


def _sizes(subnets: Mapping[str, SubnetSize]) -> Iterator[Metric]:
    kinds: tuple[tuple[str, str, Callable[[SubnetSize], float]], ...] = (
        ("pairs_ready", "Pairs that take new connections.", lambda one: one.active),
        ("pairs_wanted", "Pairs that the policy wants.", lambda one: one.wanted),
        ("pairs_min", "As few as may be.", lambda one: one.least),
        ("pairs_max", "As many as may be.", lambda one: one.most),
        ("pairs_asked", "Pairs that the load alone asks for, one in reserve included.", lambda one: one.asked),
        ("paused", "Whether scaling of the subnet is paused: no pair comes or goes.", lambda one: one.is_paused),
        (
            "enforced",
            "Whether pairs come and go by what the policy wants; else it is only told.",
            lambda one: one.is_enforced,
        ),
        ("blocked", "Whether an action that is needed cannot begin or go on.", lambda one: one.is_blocked),
    )
    for name, text, value in kinds:
        family = GaugeMetricFamily(f"proxypool_scaling_{name}", text, labels=("subnet",))
        for subnet, size in subnets.items():
            family.add_metric((subnet,), float(value(size)))
        yield family
    causes = GaugeMetricFamily(
        "proxypool_scaling_cause",
        "1 for why the policy wants so many pairs: load, panic, min-pairs, max-pairs or no-data; no series for the"
        " others.",
        labels=("subnet", "cause"),
    )
    for subnet, size in subnets.items():
        if size.cause:
            causes.add_metric((subnet, size.cause), 1.0)
    yield causes
    load = GaugeMetricFamily(
        "proxypool_scaling_load_pairs",
        "What the load comes to, in pairs; no series where it is not known.",
        labels=("subnet", "signal"),
    )
    for subnet, size in subnets.items():
        for signal, pairs in size.load.items():
            if pairs is not None:
                load.add_metric((subnet, signal), pairs)
    yield load
