"""What a node exports of its members."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client import generate_latest

from proxypool.core.model import MemberStatus, PairSpec, PairState
from proxypool.telemetry.metrics import MemberView, NodeMetrics, NodeView
from tests.unit.builders import pair


def exported(*members: tuple[PairSpec, int | None]) -> str:
    """The text of `/metrics` of a node with these pairs and counts."""
    views = tuple(
        MemberView(
            spec,
            MemberStatus(node="n1", role="master", vrrp="master", gate=True, has_havip=True, connections=connections),
            is_elected=True,
        )
        for spec, connections in members
    )
    metrics = NodeMetrics(
        lambda: NodeView(
            members=views,
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.0,
            is_keepalived_up=True,
            is_keepalived_config_valid=True,
            malformed_documents=0,
        )
    )
    return generate_latest(metrics.registry).decode()


def test_a_drain_shows() -> None:
    """One series for each pair; connections of those that are counted only."""
    text = exported((pair("p1", state=PairState.DRAINING), 17), (pair("p2"), None))
    series = [line for line in text.splitlines() if line.startswith("proxypool_pair_")]
    assert series == [
        'proxypool_pair_draining{pair="p1",subnet="s1"} 1.0',
        'proxypool_pair_draining{pair="p2",subnet="s1"} 0.0',
        'proxypool_pair_paused{pair="p1",subnet="s1"} 0.0',
        'proxypool_pair_paused{pair="p2",subnet="s1"} 0.0',
        'proxypool_pair_connections{pair="p1",subnet="s1"} 17.0',
    ]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_has_nothing_to_say() -> None:
    """Names, units and help texts."""
    text = exported((pair("p1", state=PairState.DRAINING), 17))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
