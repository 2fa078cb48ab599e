"""What a node exports of its members."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry, generate_latest

from proxypool.core.history import Record
from proxypool.core.model import MemberStatus, PairSpec, PairState
from proxypool.core.scaling.series import NodeSeries, Sample, Series
from proxypool.telemetry.member_metrics import MemberView
from proxypool.telemetry.metrics import NodeMetrics, NodeView, _NodeCollector
from proxypool.telemetry.use_metrics import NodeUse, UseCollector
from tests.unit.builders import pair

NOTHING_USED = NodeUse()
SAMPLE: Sample = {series: float(number) for number, series in enumerate(Series)}
LIMITS: Sample = dict.fromkeys(NodeSeries, 1000.0)


def node_metrics(*members: tuple[PairSpec, int | None], use: NodeUse = NOTHING_USED) -> NodeMetrics:
    """Of a node with these pairs and counts."""
    views = tuple(
        MemberView(
            spec,
            MemberStatus(node="n1", role="master", vrrp="master", gate=True, has_havip=True, connections=connections),
            is_elected=True,
        )
        for spec, connections in members
    )
    return NodeMetrics(
        lambda: NodeView(
            members=views,
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.0,
            is_keepalived_up=True,
            is_keepalived_config_valid=True,
            malformed_documents=0,
        ),
        lambda: use,
    )


def text_of(metrics: NodeMetrics) -> str:
    """The text of `/metrics`."""
    return generate_latest(metrics.registry).decode()


def test_a_drain_shows() -> None:
    """One series for each pair; connections of those that are counted only."""
    text = text_of(node_metrics((pair("p1", state=PairState.DRAINING), 17), (pair("p2"), None)))
    series = [line for line in text.splitlines() if line.startswith("proxypool_pair_")]
    assert series == [
        'proxypool_pair_draining{pair="p1",subnet="s1"} 1.0',
        'proxypool_pair_draining{pair="p2",subnet="s1"} 0.0',
        'proxypool_pair_paused{pair="p1",subnet="s1"} 0.0',
        'proxypool_pair_paused{pair="p2",subnet="s1"} 0.0',
        'proxypool_pair_connections{pair="p1",subnet="s1"} 17.0',
    ]


def failover(metrics: NodeMetrics) -> None:
    """A failover of s1/p1, as the recorder tells it: at once, and when the election has confirmed it."""
    phases = {"detection": 0.045, "gate": 0.0008, "blackout": 0.0458}
    record = Record(
        kind="failover", reason="silent", subnet="s1", pair="p1", to_node="n1", at=7.0, phases=phases, carried_over=5
    )
    metrics.changed(record)
    metrics.measured(record, phases)
    metrics.measured(record, {"election": 3.0})
    metrics.history_waits(2, 3)


def test_a_failover_is_counted_and_timed_by_phase() -> None:
    """By pair and reason; the histogram by kind only. What is known of the last one goes with its pair."""
    metrics = node_metrics()
    failover(metrics)
    text = text_of(metrics)
    where = 'pair="p1",subnet="s1"'
    for line in (
        'proxypool_failovers_total{kind="failover",pair="p1",reason="silent",subnet="s1"} 1.0',
        'proxypool_failover_phase_duration_seconds_bucket{kind="failover",le="0.04",phase="blackout"} 0.0',
        'proxypool_failover_phase_duration_seconds_bucket{kind="failover",le="0.05",phase="blackout"} 1.0',
        'proxypool_failover_phase_duration_seconds_count{kind="failover",phase="election"} 1.0',
        f"proxypool_failover_last_timestamp_seconds{{{where}}} 7.0",
        f"proxypool_failover_last_blackout_seconds{{{where}}} 0.0458",
        f"proxypool_failover_carried_connections{{{where}}} 5.0",
        "proxypool_history_waiting_records 2.0",
        "proxypool_history_dropped_records_total 3.0",
    ):
        assert line in text.splitlines()
    metrics.forget("s1")
    assert "proxypool_failover_last_timestamp_seconds{" not in text_of(metrics)


def test_what_is_not_known_has_no_series() -> None:
    """No zero, and no NaN."""
    use = NodeUse({}, 30.0, {("s1", "p1"): {Series.MASTER: 1.0, Series.CONNTRACK: 7.0}, ("s2", "p1"): {}})
    text = text_of(node_metrics(use=use))
    names = {*Series, *NodeSeries}
    series = [line for line in text.splitlines() if re.split("[{ ]", line)[0] in names]
    assert series == [
        'proxypool_member_master{pair="p1",subnet="s1"} 1.0',
        'proxypool_conntrack_entries{pair="p1",subnet="s1"} 7.0',
        "proxypool_snat_ports_interval_seconds 30.0",
    ]


def test_a_scrape_of_signals_alone_looks_at_nothing_else() -> None:
    """The controller asks every few seconds, and a node may have hundreds of members."""

    def unwanted() -> NodeView:
        raise AssertionError

    registry = CollectorRegistry()
    registry.register(UseCollector(lambda: NodeUse({}, 30.0, {("s1", "p1"): SAMPLE})))
    registry.register(_NodeCollector(unwanted))
    text = generate_latest(registry.restricted_registry([*Series, *NodeSeries])).decode()
    assert {line.split("{")[0] for line in text.splitlines() if "{" in line} == set(Series)
