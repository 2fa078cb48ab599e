"""What the product says of its own failovers, against what is seen from outside."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import Any

import pytest

from proxypool.lab import processes
from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import PAIR
from tests.lab.observe import (
    PATIENCE,
    PROBE_MS,
    kill_daemon,
    master_of,
    masters,
    metrics,
    open_gates,
    other_of,
    said,
    status,
    undone,
    unsettled,
    wait_until,
)

pytestmark = pytest.mark.root

SLACK_MS = 15.0 * PATIENCE
"""Between what two clocks on one busy computer say."""
NOISE = 1.5
"""The daemon may be late on a busy computer, and what it measures with it."""


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The one that is watched."""
    return lab.topology.subnet_plans[0]


def history(lab: Lab, subnet: SubnetPlan, since: float, *, on: str) -> list[dict[str, Any]]:
    """What `proxypool history` has of a pair since a wall time."""
    done = lab.proxypool("history", f"{subnet.id}/{PAIR}", "-o", "json", on=on, timeout=30 * PATIENCE)
    return [item for item in json.loads(done.stdout)["items"] if item["at"] >= since]


def wait_history(lab: Lab, subnet: SubnetPlan, since: float, *, on: str, within_s: float = 5.0) -> list[dict[str, Any]]:
    """The same, once there is any."""
    return wait_until(lambda: history(lab, subnet, since, on=on), within_s, "a record in the history", interval_s=0.2)


def advert_interval_s(lab: Lab, node: str) -> float:
    """As keepalived is told on a node."""
    text = lab.machine(node).run(["sh", "-c", "cat /etc/keepalived/conf.d/proxypool-*.conf"]).stdout
    return float(text.partition("advert_int ")[2].split()[0])


def power_off(lab: Lab, subnet: SubnetPlan, node: str) -> dict[str, Any]:
    """What a prober sees of it from outside."""
    with Prober(
        lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS, until_recovered_s=0.3, answer_timeout_s=10.0 * PATIENCE
    ) as prober:
        lab.fault("power-off", node)
        prober.wait(30.0 * PATIENCE)
    return prober.result()


@pytest.mark.timed
def test_a_power_off_is_told_as_it_was(lab: Lab, subnet: SubnetPlan, record_property: Any) -> None:
    """One record with detection and blackout. Its blackout is that which is seen from outside, at most: it begins up to
    an interval before the end of the old master, and ends when the daemon has written the gate, which keepalived's
    notify line may have done before. The same stands in the status, the metrics and the log. Its election, seconds
    later, is added to the same record.
    """
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    interval_ms = 1e3 * advert_interval_s(lab, survivor)
    began = time.time()
    outside = power_off(lab, subnet, master)
    (found,) = wait_history(lab, subnet, began, on=survivor)
    assert (found["kind"], found["reason"], found["from"], found["to"], found["by"]) == (
        *("failover", "silent", master),
        *(survivor, survivor),
    )
    detection_ms, blackout_ms = (1e3 * found["phases"][name] for name in ("detection", "blackout"))
    record_property("blackout outside ms", outside["blackout_ms"])
    record_property("blackout inside ms", blackout_ms)
    assert 2.5 * interval_ms < detection_ms < blackout_ms < detection_ms + 50 * PATIENCE
    assert outside["blackout_ms"] - SLACK_MS < blackout_ms < NOISE * (outside["blackout_ms"] + interval_ms) + SLACK_MS
    late_ms = 1e3 * (found["at"] + found["phases"]["gate"] - outside["longest"]["end_wall"])
    record_property("gate in the record after the first answer ms", late_ms)
    assert -SLACK_MS < late_ms < 5 * SLACK_MS
    assert found["carried_over"] == 0
    labels = f'pair="{PAIR}",reason="silent",subnet="{subnet.id}"'
    assert metrics(lab, survivor)[f'proxypool_failovers_total{{kind="failover",{labels}}}'] == 1.0
    assert f"failover {subnet.id}/{PAIR}: {master} -> {survivor}: silent; detection" in lab.machine(survivor).log(
        "daemon"
    )

    def is_confirmed() -> dict[str, Any]:
        (again,) = history(lab, subnet, began, on=survivor)
        return again if "election" in again["phases"] else {}

    again = wait_until(is_confirmed, 2 * SESSION_TIMEOUT_S, "the election in the record", interval_s=0.3)
    assert again["at"] == found["at"]
    assert again["epoch"] > found["epoch"]
    assert 0.5 < again["phases"]["election"] < 2 * SESSION_TIMEOUT_S
    assert metrics(lab, survivor)[f'proxypool_failovers_total{{kind="failover",{labels}}}'] == 1.0
    pairs = {
        pair["id"]: pair for one in status(lab, survivor)["subnets"] if one["id"] == subnet.id for pair in one["pairs"]
    }
    member = next(member for member in pairs[PAIR]["members"] if member["node"] == survivor)
    assert (member["change_reason"], 1e3 * member["blackout_s"]) == ("silent", pytest.approx(blackout_ms))


def test_a_switchover_and_a_daemon_restart(lab: Lab, subnet: SubnetPlan) -> None:
    """The one has somebody's name to it and next to no blackout; the other is not even a record, on either member."""
    master = master_of(lab, subnet)
    other = other_of(subnet, master)
    began = time.time()
    lab.proxypool(
        *("pair", "switchover", subnet.id, PAIR, "--timeout", "60", "--reason", "new kernel"),
        on=master,
        timeout=60 * PATIENCE,
    )
    (found,) = wait_history(lab, subnet, began, on=other)
    assert (found["kind"], found["reason"], found["from"], found["to"]) == ("switchover", "switchover", master, other)
    assert (found["who"].endswith(f"@{master}"), found["note"]) == (True, "new kernel")
    assert "detection" not in found["phases"]
    assert found["phases"]["blackout"] < 0.1 * PATIENCE
    wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    for node in (other, master):
        kill_daemon(lab, node)
        lab.fault("power-on", node)
        wait_until(lambda node=node: said(lab, node, subnet), 15.0, f"the daemon of {node} to be back")  # type: ignore[misc]
    wait_until(lambda: not unsettled(lab, subnet), 15.0, lambda: unsettled(lab, subnet))

    def says_why() -> bool:
        pairs = [pair for one in status(lab)["subnets"] if one["id"] == subnet.id for pair in one["pairs"]]
        return any(member["change_reason"] == "switchover" for pair in pairs for member in pair["members"])

    wait_until(says_why, 5.0, "the new daemon of the master to say why it is master", interval_s=0.2)
    assert [each["at"] for each in history(lab, subnet, began, on=other)] == [found["at"]]


def test_a_takeover_that_no_daemon_saw(lab: Lab, subnet: SubnetPlan) -> None:
    """keepalived took over. The daemon that comes later tells that it happened, and that it does not know more."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    kill_daemon(lab, survivor)
    began = time.time()
    power_off(lab, subnet, master)
    lab.fault("power-on", survivor)
    (found,) = wait_history(lab, subnet, began, on=survivor, within_s=20.0)
    assert (found["reason"], found["from"], found["to"], found["phases"]) == ("unseen", master, survivor, {})


def test_two_masters_that_do_not_hear_each_other(lab: Lab, subnet: SubnetPlan) -> None:
    """The one that claims says why it did, and when it stands aside, that. The other one noticed neither."""
    master = master_of(lab, subnet)
    other = other_of(subnet, master)
    began = time.time()
    with contextlib.ExitStack() as deaf:
        for member in subnet.members:
            rule = ["-p", "112", "-j", "DROP"]
            deaf.enter_context(
                undone(
                    lab,
                    member.node,
                    ["iptables-legacy", "-I", "INPUT", *rule],
                    ["iptables-legacy", "-D", "INPUT", *rule],
                )
            )
        wait_until(lambda: open_gates(lab, subnet) == {master, other}, 5.0, "both to be master")
        wait_until(lambda: open_gates(lab, subnet) == {master}, SESSION_TIMEOUT_S + 3.0, f"{other} to stand aside")
        wait_until(lambda: len(history(lab, subnet, began, on=master)) == 2, 5.0, "two records", interval_s=0.2)
    wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    assert [
        (each["reason"], each["from"], each["to"], each["by"]) for each in history(lab, subnet, began, on=master)
    ] == [
        ("silent", master, other, other),
        ("tie-break", other, master, other),
    ]


def test_a_failover_while_zookeeper_is_away(lab: Lab, subnet: SubnetPlan) -> None:
    """It is written when ZooKeeper is back, as it was."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    lab.fault("power-off", "zk1")
    began = time.time()
    outside = power_off(lab, subnet, master)
    assert masters(lab, subnet) == open_gates(lab, subnet) == {survivor}
    wait_until(
        lambda: metrics(lab, survivor).get("proxypool_history_waiting_records", 0.0) >= 1.0, 3.0, "a record to wait"
    )
    lab.fault("power-on", "zk1")
    (found,) = wait_history(lab, subnet, began, on=survivor, within_s=20.0)
    assert (found["reason"], found["from"], found["to"]) == ("silent", master, survivor)
    assert found["at"] == pytest.approx(outside["longest"]["end_wall"], abs=0.1 * PATIENCE)
    wait_until(lambda: metrics(lab, survivor)["proxypool_history_waiting_records"] == 0.0, 3.0, "nothing to wait")


def test_a_master_that_says_goodbye(lab: Lab, subnet: SubnetPlan) -> None:
    """keepalived ends in order: it gives up, and is not missed."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    began = time.time()
    process = lab.machine(master).service_process("keepalived")
    assert process is not None
    processes.send(process, signal.SIGTERM)
    wait_until(lambda: masters(lab, subnet) == {survivor}, 5.0, f"{survivor} to take over")
    wait_until(lambda: not lab.machine(master).service_running("keepalived"), 10.0, "keepalived to end")
    (found,) = wait_history(lab, subnet, began, on=survivor)
    assert (found["kind"], found["reason"], found["from"], found["to"]) == ("failover", "gave-up", master, survivor)
    assert found["phases"]["detection"] < 2.5 * advert_interval_s(lab, survivor)
