"""A real Prometheus finds the daemons through a controller, by the project's own configuration, and its rules work."""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab, remove
from proxypool.lab.machine import Machine, end
from proxypool.lab.topology import Topology
from tests.contract.shipped_prometheus import quick_configuration
from tests.lab.observe import PATIENCE, tunnel_kind, wait_until

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus"),
]

PORT = 9090


class Prometheus:
    """One that runs on a machine of the lab."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of an instant query; none while it does not answer."""
        url = f"http://127.0.0.1:{PORT}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        done = self.machine.run(["curl", "-s", "--max-time", "5", url], check=False)
        if not done.stdout:
            return []
        found: list[dict[str, Any]] = json.loads(done.stdout)["data"]["result"]
        return found

    def labels(self, query: str, *names: str) -> set[tuple[str, ...]]:
        """Of the series, only these labels."""
        return {tuple(one["metric"].get(name, "") for name in names) for one in self.ask(query)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes, a host, a controller."""
    topology = Topology(f"prom-{os.getpid()}", controllers=1, tunnel=tunnel_kind())
    try:
        with Lab.up(topology, timeout_s=60 * PATIENCE) as made:
            yield made
    finally:
        remove(topology.name)


@pytest.fixture(scope="module")
def prometheus(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """On the controller's machine, where its discovery listens."""
    directory = tmp_path_factory.mktemp("prometheus")
    machine = lab.machine("ctl1")
    process = machine.popen(
        [
            "prometheus",
            f"--config.file={quick_configuration(directory)}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{PORT}",
        ]
    )
    try:
        yield Prometheus(machine)
    finally:
        end(process)


def test_it_finds_and_scrapes_every_daemon(lab: Lab, prometheus: Prometheus) -> None:
    """Nodes, host and controller, by the names they registered; no list of them was written by anybody."""
    expected = {("node", "node-a"), ("node", "node-b"), ("host", "host1"), ("controller", "ctl1")}
    wait_until(
        lambda: prometheus.labels('up{job="proxypool"} == 1', "role", "node") == expected,
        20.0,
        lambda: f"up: {prometheus.labels('up', 'role', 'node', 'instance')}",
        interval_s=0.3,
    )
    assert prometheus.labels('up{job="proxypool"}', "pool") == {("lab",)}
    # A role of the metric's own, beside that of the target.
    roles = prometheus.labels("proxypool_member_role == 1", "role")
    assert roles == {("master",), ("backup",)}


def test_recording_rules_have_values(prometheus: Prometheus) -> None:
    """One master, two fit members."""
    for rule, value in (("proxypool:pair_masters:sum", "1"), ("proxypool:pair_fit:sum", "2")):
        wait_until(
            lambda rule=rule, value=value: [one["value"][1] for one in prometheus.ask(rule)] == [value],  # type: ignore[misc]
            15.0,
            f"{rule} is {value}",
            interval_s=0.3,
        )


def test_a_node_that_is_off_becomes_an_alert(lab: Lab, prometheus: Prometheus) -> None:
    """Pending at once, with its name; nothing fires about the pair's master, as the other member took over."""
    lab.fault(Fault.POWER_OFF, "node-a")
    try:
        wait_until(
            lambda: ("node-a",) in prometheus.labels('ALERTS{alertname="DaemonDown"}', "node"),
            15.0,
            lambda: f"alerts: {prometheus.labels('ALERTS', 'alertname', 'node')}",
            interval_s=0.3,
        )
        wait_until(
            lambda: [one["value"][1] for one in prometheus.ask("proxypool:pair_masters:sum")] == ["1"],
            15.0,
            "the other member is the master, for Prometheus too",
            interval_s=0.3,
        )
        assert prometheus.labels('ALERTS{alertname="NoMaster", alertstate="firing"}', "pair") == set()
    finally:
        lab.fault(Fault.POWER_ON, "node-a")
