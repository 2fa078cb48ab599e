"""Versions change under traffic, machine by machine, there and back; documents of a later version; reload."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool import __version__
from proxypool.lab import processes
from proxypool.lab.lab import Lab, remove
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections, Prober
from proxypool.lab.topology import PAIR, Topology
from tests.lab.configured import Configured
from tests.lab.observe import (
    PATIENCE,
    PROBE_MS,
    master_of,
    masters,
    metrics,
    open_gates,
    python,
    status,
    tunnel_kind,
    unsettled,
    wait_settled,
    wait_until,
)
from tests.lab.trees import LATER_FIELD, LATER_VALUE, later_tree, later_version

pytestmark = [pytest.mark.root]

TALKS = 50
READ = """
import sys
from kazoo.client import KazooClient
client = KazooClient("192.168.2.1:2181")
client.start()
print(client.get(sys.argv[1])[0].decode())
client.stop()
"""
WRITE = READ.replace("print(client.get(sys.argv[1])[0].decode())", "client.set(sys.argv[1], sys.argv[2].encode())")


def read(lab: Lab, suffix: str) -> dict[str, Any]:
    """A document as it is in ZooKeeper."""
    found: dict[str, Any] = json.loads(python(lab, "zk1", READ, f"/proxypool/lab/{suffix}"))
    return found


def write(lab: Lab, suffix: str, document: dict[str, Any]) -> None:
    """Put a document, as a later version might."""
    python(lab, "zk1", WRITE, f"/proxypool/lab/{suffix}", json.dumps(document))


def wrong(lab: Lab) -> list[str]:
    """What `status` says is wrong."""
    found = status(lab)
    subnets = [*found["subnets"], *(pair for one in found["subnets"] for pair in one["pairs"])]
    return [
        f"{check['code']} {check['subject']}: {check['message']}"
        for one in (found, *subnets)
        for check in one["checks"]
    ]


def restart(lab: Lab, machine: str, version: str, tree: Path | None) -> None:
    """End the daemon and start that of a version; returns when it is ready."""
    process = lab.machine(machine).service_process("daemon")
    assert process is not None
    processes.send(process, signal.SIGTERM)
    wait_until(
        lambda: not any(p.service == "daemon" for p in lab.machine(machine).processes()),
        10.0,
        f"the daemon of {machine} to end",
    )
    began = time.time()
    lab.machine(machine).start("daemon", tree)

    def is_ready() -> bool:
        said = metrics(lab, machine)
        is_right = any(f'version="{version}"' in one for one in said if one.startswith("proxypool_build_info"))
        return is_right and said.get("proxypool_ready_timestamp_seconds", began) >= began

    wait_until(is_ready, 20.0, f"{machine} to be ready with {version}")


def roll(lab: Lab, version: str, tree: Path | None) -> list[str]:
    """Go to a version in the order that `upgrade-check` says, with what it says to do before and after each machine;
    the stages that there were.
    """
    done = lab.proxypool("upgrade-check", "--to", version, "-o", "json", check=False, timeout=60 * PATIENCE)
    plan = json.loads(done.stdout)
    assert plan["is_ready"], plan["findings"]
    stages = []
    for step in plan["order"]:
        stages.append(step["stage"])
        for machine in step["machines"]:
            for command in step["before"]:
                lab.machine("node-a").run(["sh", "-c", command], timeout=60 * PATIENCE)
            restart(lab, machine, version, tree)
            lab.machine("node-a").run(["sh", "-c", step["after"]], timeout=150 * PATIENCE)
    after = json.loads(lab.proxypool("upgrade-check", "--to", version, "-o", "json", timeout=60 * PATIENCE).stdout)
    assert (after["versions"], after["order"]) == ([version], [])
    return stages


@pytest.fixture
def pool() -> Iterator[Lab]:
    """Two nodes that share two pairs with an egress address, a host, a controller."""
    topology = Topology(f"roll-{os.getpid()}", subnets=2, controllers=1, egress=True, tunnel=tunnel_kind())
    try:
        with Lab.up(topology, timeout_s=60 * PATIENCE) as lab:
            wait_settled(lab, 30.0 * PATIENCE)
            for plan in topology.subnet_plans:
                lab.proxypool("scale", "set", plan.id, "--mode", "off", timeout=60 * PATIENCE)
            yield lab
    finally:
        remove(topology.name)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_pool_goes_to_the_next_version_and_back_under_traffic(pool: Lab, tmp_path: Path) -> None:
    """Not one packet is lost and no connection breaks, on either way, with versions mixed at each step. What the later
    version wrote that the earlier one does not know is still there when that has written the documents again.
    """
    later, tree = later_version(), later_tree(tmp_path)
    subnet = pool.topology.subnet_plans[0]
    pair = f"subnets/{subnet.id}/pairs/{PAIR}"
    wait_until(lambda: not wrong(pool), 30.0 * PATIENCE, lambda: f"the pool to be well: {wrong(pool)}")
    with (
        Prober(pool, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober,
        Connections(pool, "pod1", subnet.database_ip, count=TALKS) as talks,
    ):
        stages = roll(pool, later, tree)
        assert stages[0] == "hosts"
        assert stages[-1] == "controllers"
        assert {"masters"} <= set(stages)
        pool.proxypool("pair", "set", subnet.id, PAIR, "--weight", "3", tree=tree, timeout=60 * PATIENCE)
        assert read(pool, pair)[LATER_FIELD] == LATER_VALUE
        pool.proxypool("pair", "set", subnet.id, PAIR, "--weight", "2", timeout=60 * PATIENCE)
        roll(pool, __version__, None)
        mixed = read(pool, pair)
        assert (mixed["weight"], mixed[LATER_FIELD]) == (2, LATER_VALUE)
        assert [member[LATER_FIELD] for member in mixed["members"]] == [LATER_VALUE] * 2
        assert [read(pool, f"nodes/{node}")[LATER_FIELD] for node in pool.topology.node_names] == [LATER_VALUE] * 2
        result, broken = prober.result(), talks.result()
    assert result["lost"] == 0, result["gaps"]
    assert (broken["alive"], broken["broken"], broken["hanging"]) == (TALKS, {}, 0), broken


def test_a_daemon_that_starts_beside_documents_of_a_later_version(lab: Lab, subnet: SubnetPlan) -> None:
    """It leaves the kernel, keepalived and the document as they are, says so, and takes up its work when it can read it."""
    suffix = f"subnets/{subnet.id}/pairs/{PAIR}"
    master, before = master_of(lab, subnet), read(lab, suffix)
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        later = {**before, "v": 2, "members": {"node-a": "in another form"}}
        write(lab, suffix, later)
        try:
            for machine in (master, "host1"):
                process = lab.machine(machine).service_process("daemon")
                assert process is not None
                processes.send(process, signal.SIGKILL)
                wait_until(lambda process=process: not processes.alive(process), 10.0, "it to end")  # type: ignore[misc]
                lab.machine(machine).start("daemon")
            wait_until(
                lambda: all(metrics(lab, name).get("proxypool_malformed_documents") == 1 for name in (master, "host1")),
                20.0 * PATIENCE,
                "both to count it",
            )
            wait_until(lambda: "PP028" in {check["code"] for check in status(lab)["checks"]}, 10.0, "status to name it")
            assert masters(lab, subnet) == open_gates(lab, subnet) == {master}
            refused = lab.proxypool("pair", "set", subnet.id, PAIR, "--weight", "2", check=False, timeout=60 * PATIENCE)
            assert refused.returncode == 1
            assert "upgrade this machine" in refused.stderr
            assert lab.proxypool("upgrade-check", check=False, timeout=60 * PATIENCE).returncode == 3
            assert read(lab, suffix) == later
        finally:
            write(lab, suffix, before)
        # Where starting took longer than a session the other member has taken over: a planned change.
        wait_until(lambda: not unsettled(lab, subnet), 15.0 * PATIENCE, lambda: unsettled(lab, subnet))
    assert prober.result()["blackout_ms"] < 300.0 * PATIENCE, prober.result()["gaps"]


def test_a_nodes_configuration_is_taken_over_whole_or_not_at_all(lab: Lab, subnet: SubnetPlan) -> None:
    """SIGHUP: labels follow; a key that needs a restart, or nonsense, refuses all the rest, and the old one holds."""
    node = Configured(lab, "node-a")

    def labelled(text: str, rack: str) -> str:
        return text.replace("[node.labels]\n", f'[node.labels]\nrack = "{rack}"\n')

    def rack() -> str | None:
        found: str | None = read(lab, "nodes/node-a")["labels"].get("rack")
        return found

    try:
        node.reload(labelled(node.text, "r9"), is_good=True)
        wait_until(lambda: rack() == "r9", 10.0, "the label to be registered")
        for wrong, why in (
            (node.changed('detection = "', 'detection = "fast" #'), "node.detection cannot be changed"),
            (node.text + "\nnonsense = 1\n", "nonsense"),
        ):
            node.reload(labelled(wrong, "r10"), is_good=False)
            wait_until(
                lambda why=why: any(why in check["message"] for check in status(lab, "host1")["checks"]),  # type: ignore[misc]
                10.0 * PATIENCE,
                f"status to say {why}",
            )
            assert rack() == "r9"
    finally:
        node.reload(node.text, is_good=True)
    wait_until(lambda: rack() is None, 10.0, "the label to be gone")


def test_a_hosts_configuration_is_taken_over_whole_or_not_at_all(lab: Lab, subnet: SubnetPlan) -> None:
    """SIGHUP: CIDRs that are opened get rules; a file with a key that needs a restart, or nonsense, opens nothing. The
    host says why, and not one packet is lost.
    """
    host, opened, refused = Configured(lab, "host1"), "203.0.113.0/24", "198.51.100.0/24"

    def rules() -> str:
        return lab.machine("host1").run(["iptables-legacy-save"]).stdout

    def problems() -> str:
        return str([check["message"] for check in status(lab)["checks"] if check["code"] == "PP029"])

    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        try:
            host.reload(host.changed("[host]\n", f'[host]\nopen_cidrs = ["{opened}"]\n'), is_good=True)
            wait_until(lambda: opened in rules(), 10.0, "rules that open it")
            wider = host.changed("[host]\n", f'[host]\nopen_cidrs = ["{opened}", "{refused}"]\n')
            for wrong, why in (
                (wider.replace('underlay = "eth0"', 'underlay = "eth9"'), "host.underlay"),
                (f"{wider}\nnonsense = 1\n", "nonsense"),
            ):
                host.reload(wrong, is_good=False)
                wait_until(lambda why=why: why in problems(), 10.0, f"it to say {why}")  # type: ignore[misc]
                assert (opened in rules(), refused in rules()) == (True, False)
            said = lab.proxypool("explain", "host1", timeout=30 * PATIENCE).stdout
            assert "nonsense" in " ".join(said.split())
        finally:
            host.reload(host.text, is_good=True)
        wait_until(lambda: opened not in rules(), 10.0, "the rules to be gone")
        wait_until(lambda: "stays in force" not in problems(), 10.0, "it to be content")
        result = prober.result()
    assert (result["sent"] > 0, result["lost"]) == (True, 0), result["gaps"]
