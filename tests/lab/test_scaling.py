"""The pool grows and shrinks by itself, under real traffic, and no connection notices."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool.core.addressing import namespace_of
from proxypool.lab import processes
from proxypool.lab.configs import CONNECTIONS_PER_S, SESSION_TIMEOUT_S, STABLE_S
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab, remove
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections
from proxypool.lab.topology import Topology
from tests.lab.observe import PATIENCE, tunnel_kind, wait_until

pytestmark = [pytest.mark.root, pytest.mark.timeout(400)]

LONG_LIVED = 500
OVERLOAD = 2.3
"""In pairs: with one in reserve that takes four."""
ADDED_WITHIN_S = 10.0
"""From the beginning of an overload."""
UNREACHABLE = 6
"""Exit code of a command that does not reach ZooKeeper: its servers elect a leader."""


@pytest.fixture(scope="module")
def scaled() -> Iterator[Lab]:
    """Eight nodes, one subnet of one pair, cards and addresses for three more, two controllers, three ZooKeepers."""
    topology = Topology(
        f"scale-{os.getpid()}", nodes=8, hosts=1, pods=2, subnets=1, zk=3, pairs=4, controllers=2, tunnel=tunnel_kind()
    )
    try:
        with Lab.up(topology, timeout_s=60 * PATIENCE) as lab:
            yield lab
    finally:
        remove(topology.name)


@pytest.fixture
def subnet(scaled: Lab) -> SubnetPlan:
    """The one that is scaled."""
    return scaled.topology.subnet_plans[0]


def scale(lab: Lab) -> dict[str, Any]:
    """The subnet in `proxypool scale status -o json`."""
    done = lab.proxypool("scale", "status", "-o", "json", timeout=30 * PATIENCE)
    document: dict[str, Any] = json.loads(done.stdout)
    return {**document["subnets"][0], "controller": document["controller"]}


def wait_size(lab: Lab, wanted: Callable[[dict[str, Any]], bool], within_s: float, what: str) -> dict[str, Any]:
    """Until the subnet is as wanted."""
    seen: list[dict[str, Any]] = [{}]

    def look() -> dict[str, Any]:
        try:
            seen[0] = scale(lab)
        except subprocess.CalledProcessError as error:
            if error.returncode != UNREACHABLE:
                raise
            return {}
        return seen[0] if wanted(seen[0]) else {}

    return wait_until(look, within_s, lambda: f"{what}; it is {seen[0]}", interval_s=0.2)


def is_still(size: dict[str, Any]) -> bool:
    """Nothing comes or goes."""
    return not size["actions"] and not size["coming"] and not size["draining"]


def leader(lab: Lab) -> str:
    """The controller that leads."""
    found = scale(lab)["controller"]["leader"]
    return str(found).partition(":")[0]


def kill_leader(lab: Lab) -> str:
    """SIGKILL; the name of the one that is gone."""
    name = leader(lab)
    processes.send(next(one for one in lab.machine(name).processes() if one.service == "daemon"), signal.SIGKILL)
    return name


def left_over(lab: Lab, subnet: SubnetPlan) -> list[str]:
    """Namespaces and keepalived files of the subnet on nodes that are in none of its pairs."""
    document = json.loads(lab.proxypool("status", "-o", "json", timeout=30 * PATIENCE).stdout)
    pairs = next(one for one in document["subnets"] if one["id"] == subnet.id)["pairs"]
    members = {member["node"] for pair in pairs for member in pair["members"]}
    found = []
    for node in sorted(set(lab.topology.node_names) - members):
        root = Path(f"/proc/{lab.machine(node).pid}/root")
        found += [f"{node}: {name}" for name in os.listdir(root / "run/netns") if name == namespace_of(subnet.id)]
        found += [f"{node}: {name}" for name in os.listdir(root / "etc/keepalived/conf.d") if subnet.id in name]
    return found


@contextlib.contextmanager
def long_lived(lab: Lab, subnet: SubnetPlan) -> Iterator[Connections]:
    """Connections that talk twice a second; none of them may break. Opened slowly: they are no load."""
    with Connections(
        lab, "pod1", subnet.database_ip, count=LONG_LIVED, interval_ms=500.0, rate=CONNECTIONS_PER_S / 4,
        alive_within_s=3.0 * PATIENCE, answer_timeout_s=60.0 * PATIENCE,
    ) as running:  # fmt: skip
        yield running
        result = running.result()
    assert (result["alive"], result["broken"], result["hanging"]) == (LONG_LIVED, {}, 0), result


def test_pairs_come_with_the_load_and_go_when_it_is_over(
    scaled: Lab, subnet: SubnetPlan, measured: Callable[[str, float], None]
) -> None:
    """Within ten seconds of an overload there are as many as it takes; what is told of it is true; afterwards they go,
    one after the other, and leave nothing. Not one of 500 connections breaks.
    """
    with long_lived(scaled, subnet):
        before = wait_size(scaled, lambda size: size["active"] == 2 and is_still(size), 60.0, "two pairs")
        rate = OVERLOAD * CONNECTIONS_PER_S
        began = time.monotonic()
        with Connections(
            scaled, "pod1-2", subnet.database_ip, count=round(rate / 4), rate=rate, lifetime_s=0.25, replace=True, ready=1
        ) as load:  # fmt: skip
            size = wait_size(scaled, lambda size: size["active"] >= 4, 3 * ADDED_WITHIN_S, "four pairs")
            took_s = time.monotonic() - began
            measured("added after ms", took_s * 1e3)
            assert took_s < ADDED_WITHIN_S * PATIENCE
            # What a new pair bears is not known before it was looked at twice.
            size = wait_size(scaled, lambda size: size["load"]["connections"] is not None, 10.0, "a load that is known")
            assert (size["signal"], size["asked"]) == ("connections", 4), size
            assert size["load"]["connections"] == pytest.approx(OVERLOAD, rel=0.25)
            sources = load.result()["sources"]
        assert len(sources) == 4, "each pair has its share of the new connections"
        assert before["active"] == 2
        ended = time.monotonic()
        wait_size(scaled, lambda size: size["active"] == 2, 6 * STABLE_S, "two pairs again")
        measured("drained after ms", (time.monotonic() - ended) * 1e3)
    wait_size(scaled, lambda size: size["active"] <= 2 and is_still(size), 4 * STABLE_S, "rest")
    wait_until(lambda: not left_over(scaled, subnet), 20.0, lambda: f"nothing left over: {left_over(scaled, subnet)}")
    records = json.loads(scaled.proxypool("scale", "history", "-o", "json", timeout=30 * PATIENCE).stdout)["items"]
    kinds = [record["kind"] for record in records]
    assert {"scale-out", "scale-in"} <= set(kinds), records
    assert all(not record["error"] for record in records), records


@pytest.mark.long
@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.5])
def test_a_controller_that_is_killed_in_the_middle_changes_nothing(
    scaled: Lab, subnet: SubnetPlan, after_s: float
) -> None:
    """Of an add and of a drain: another one goes on where it stood."""
    wait_size(scaled, is_still, 4 * STABLE_S, "rest")
    start = scale(scaled)["active"]
    with long_lived(scaled, subnet):
        scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "3", timeout=30 * PATIENCE)
        time.sleep(after_s)
        dead = kill_leader(scaled)
        wait_size(scaled, lambda size: size["active"] >= 3 and is_still(size), 60.0, "three pairs")
        wait_until(lambda: leader(scaled) != dead, 15.0, "another leader")
        scaled.machine(dead).start("daemon")
        scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)
        wait_size(scaled, lambda size: bool(size["draining"]), 4 * STABLE_S, "a pair that drains")
        time.sleep(after_s)
        dead = kill_leader(scaled)
    wait_size(scaled, lambda size: size["active"] <= max(2, start) and is_still(size), 6 * STABLE_S, "what there was")
    scaled.machine(dead).start("daemon")
    wait_until(lambda: not left_over(scaled, subnet), 20.0, lambda: f"nothing left over: {left_over(scaled, subnet)}")


@pytest.mark.long
def test_the_leader_of_zookeeper_dies_during_an_add(scaled: Lab, subnet: SubnetPlan) -> None:
    """The add is finished by whoever leads then."""
    wait_size(scaled, is_still, 4 * STABLE_S, "rest")
    with long_lived(scaled, subnet):
        scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "3", timeout=30 * PATIENCE)
        servers = [name for name in scaled.machines if name.startswith("zk")]
        chief = next(name for name in servers if "leader" in scaled.zookeeper_mode(name))
        scaled.fault(Fault.POWER_OFF, chief)
        try:
            wait_size(
                scaled, lambda size: size["active"] >= 3 and is_still(size), 60.0 + 2 * SESSION_TIMEOUT_S, "three pairs"
            )
        finally:
            scaled.fault(Fault.POWER_ON, chief)
    scaled.proxypool("scale", "set", subnet.id, "--min-pairs", "1", timeout=30 * PATIENCE)
