# ruff: noqa: INP001 - tools are no package
"""A page of `/metrics` of every daemon with everything on it: no metric lacks a series, no label a value.

What is written about the metrics (docs/reference/metrics.md) and what is checked of them (names, number of series, time
of a scrape, what alerts and dashboards ask for) is taken from these.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface

from prometheus_client.metrics_core import Metric

from proxypool.core.blocking import Blocked
from proxypool.core.discovery import Daemon
from proxypool.core.health import Reason as Unfit
from proxypool.core.history import Phase, Reason, Record, kind_of
from proxypool.core.model import MemberSpec, MemberStatus, PairSpec, PairState
from proxypool.core.role import Role
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.scaling.model import Cause, Signal
from proxypool.core.scaling.series import NodeSeries, Sample, Series, Unread
from proxypool.core.state_sync import SyncCounts
from proxypool.core.sync_supervision import SyncReport, SyncState
from proxypool.telemetry.controller_metrics import ControllerMetrics, ControllerView, PoolContents, SubnetSize
from proxypool.telemetry.daemon_metrics import DaemonMetrics
from proxypool.telemetry.member_metrics import MemberView
from proxypool.telemetry.metrics import HostMetrics, HostView, NodeMetrics, NodeView
from proxypool.telemetry.use_metrics import NodeUse

AT = 1_700_000_000.0
"""A moment, seconds since the epoch."""
TOPICS = ("zookeeper", "keepalived")
SAMPLE: Sample = {series: float(1000 + number) for number, series in enumerate(Series)}
LIMITS: Sample = dict.fromkeys(NodeSeries, 1e9)
OF_SUBNET = (Blocked.CUSTOMER, Blocked.HOST, Blocked.REDIRECT, Blocked.LINK, Blocked.SOURCE)
OF_HOST = (
    *(Blocked.STRANGER, Blocked.UNASKED, Blocked.PLATFORM, Blocked.TUNNEL),
    *(Blocked.FLOOD, Blocked.REFUSED),
)
FAILOVER_REASONS = (Reason.SILENT, Reason.GAVE_UP, Reason.SWITCHOVER, Reason.COLD_START)


def pages() -> dict[Daemon, DaemonMetrics]:
    """One of each daemon."""
    return {Daemon.NODE: node_page(1), Daemon.HOST: host_page(), Daemon.CONTROLLER: controller_page(1)}


def families() -> Iterator[tuple[Daemon, Metric]]:
    """Every metric that there is, with samples."""
    for daemon, page in pages().items():
        yield from ((daemon, family) for family in page.registry.collect())


def exported() -> dict[str, frozenset[str]]:
    """Name of every series of every daemon, as queries use it, and its labels (but for `le`)."""
    found: dict[str, frozenset[str]] = {}
    for _, family in families():
        for sample in family.samples:
            labels = frozenset(sample.labels) - {"le"}
            found[sample.name] = found.get(sample.name, frozenset()) | labels
    return found


def series_of(page: DaemonMetrics) -> int:
    """How many series it has."""
    return sum(len(family.samples) for family in page.registry.collect())


def node_page(subnets: int) -> NodeMetrics:
    """A node that is in one pair of each of so many subnets, each of which has failed over."""
    members = tuple(_member(number) for number in range(subnets))
    use = NodeUse(LIMITS, 30.0, {(member.pair.subnet, member.pair.id): SAMPLE for member in members})
    metrics = NodeMetrics(
        lambda: NodeView(
            members=members,
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.5,
            is_keepalived_up=True,
            is_keepalived_config_valid=True,
            malformed_documents=0,
            problems=TOPICS,
            blocked={
                "": dict.fromkeys((Blocked.STRANGER, Blocked.SYNC, Blocked.VRRP), 7),
                **{member.pair.subnet: dict.fromkeys(OF_SUBNET, 7) for member in members},
            },
        ),
        lambda: use,
    )
    for member in members:
        _live(metrics, member.pair)
    metrics.reconciled("(node)", ok=True, is_repair=True, operations=2, duration_s=0.01, now=AT)
    metrics.history_waits(0, 0)
    metrics.ready.set(AT)
    metrics.loop.set(AT)
    metrics.adverts_timed.set(1)
    return metrics


def _member(number: int) -> MemberView:
    pair = PairSpec(
        id="p1",
        subnet=f"subnet-{number}",
        members=tuple(
            MemberSpec(node=node, eni=f"eni{number}", address=IPv4Interface(f"172.16.0.{host}/24"))
            for node, host in (("node1", 11), ("node2", 12))
        ),
        havip=IPv4Address("192.168.4.100") + number,
        vrid=1 + number % 255,
        egress_address=IPv4Address("172.16.0.9"),
        state=PairState.DRAINING,
        draining_since=AT,
        paused_since=AT,
    )
    status = MemberStatus(
        node="node1",
        role=Role.MASTER,
        vrrp="master",
        gate=True,
        has_havip=True,
        epoch=4711 + number,
        health=(Unfit.GATEWAY_UNREACHABLE.value,),
        since=AT,
        connections=12,
        answers_egress=True,
        probe="ok",
        probe_ms=0.4,
        damped_until=AT,
    )
    counts = SyncCounts(entries=500, messages_sent=1_000)
    return MemberView(pair, status, is_elected=True, sync=SyncReport(state=SyncState.OK, counts=counts))


def _live(metrics: NodeMetrics, pair: PairSpec) -> None:
    """What such a node has counted."""
    phases = {phase.value: 0.05 for phase in Phase}
    for reason in FAILOVER_REASONS:
        record = Record(
            kind=kind_of(reason).value,
            reason=reason.value,
            subnet=pair.subnet,
            pair=pair.id,
            to_node="node1",
            at=AT,
            phases=phases,
            carried_over=5,
        )
        metrics.changed(record)
        metrics.measured(record, phases)
    for ok in (True, False):
        metrics.reconciled(pair.subnet, ok=ok, is_repair=True, operations=3, duration_s=0.02, now=AT)


def host_page(attachments: int = 2, subnets: int = 1) -> HostMetrics:
    """A host with so many attachments to so many subnets, none of whose HaVips answers."""
    metrics = HostMetrics(
        lambda: HostView(
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.5,
            malformed_documents=0,
            problems=TOPICS,
            subnets_served=subnets,
            subnets_refused=0,
            attachments=attachments,
            paths=subnets,
            retired_paths=1,
            havips_silent=subnets,
            havips_dead=0,
            connections_cut=3,
            silent_pairs=tuple((f"subnet-{number}", "p1") for number in range(subnets)),
            blocked={"": dict.fromkeys(OF_HOST, 7)},
        )
    )
    for outcome in ("done", "refused", "failed"):
        metrics.attach_answered(outcome, 0.001)
    for ok in (True, False):
        metrics.reconciled("(host)", ok=ok, is_repair=True, operations=3, duration_s=0.02, now=AT)
    metrics.ready.set(AT)
    metrics.loop.set(AT)
    return metrics


def controller_page(subnets: int, pairs: int = 1, nodes: int = 2) -> ControllerMetrics:
    """A leader of a pool of so many subnets with so many pairs each, all of them scaled."""
    names = [f"subnet-{number}" for number in range(subnets)]
    size = SubnetSize(
        active=pairs,
        wanted=pairs,
        least=1,
        most=8,
        is_blocked=False,
        asked=pairs,
        cause=Cause.LOAD,
        load={signal.value: 0.7 for signal in Signal},
    )
    contents = PoolContents(
        pairs=tuple((name, f"p{pair + 1}", PairState.ACTIVE.value) for name in names for pair in range(pairs)),
        nodes={f"node{number + 1}": True for number in range(nodes)},
        hosts=100,
    )
    view = ControllerView(
        is_leader=True,
        epoch=42,
        is_zookeeper_connected=True,
        zookeeper_silence_s=0.5,
        problems=TOPICS,
        evaluated_at=AT,
        actions=1,
        subnets=dict.fromkeys(names, size),
        contents=contents,
    )
    metrics = ControllerMetrics(lambda: view)
    metrics.rounds.observe(0.05)
    metrics.loop.set(AT)
    metrics.read([Unread.TIMEOUT])
    metrics.called("acquire-card", "ok")
    metrics.decided(Cause.LOAD, 1)
    action = Action(
        id="1",
        kind=ActionKind.ADD,
        subnet="subnet-0",
        pair="p2",
        step=Step.DONE,
        reason="load",
        began=AT,
        step_since=AT,
    )
    metrics.ended(action, AT + 4)
    return metrics
