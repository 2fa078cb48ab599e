"""A machine runs out of something, its rules are flushed, its clock jumps, both start at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from proxypool.lab.faults import Options
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from tests.lab.observe import sysctl, unsettled
from tests.lab.trial import Trial

pytestmark = [pytest.mark.root, pytest.mark.faults]

Measured = Callable[[str, float], None]


@pytest.mark.long
def test_the_nodes_connection_table_is_full(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """Not a customer's, but the node's own: VRRP, ZooKeeper and the tunnels' packets are not tracked, so nothing happens,
    and a failover works.
    """
    with Trial(lab, subnet) as trial:
        for node in (trial.master, trial.backup):
            trial.fault("fill-conntrack", node)
            count, limit = (
                int(sysctl(lab.machine(node), None, f"netfilter/nf_conntrack_{w}")) for w in ("count", "max")
            )
            assert count >= limit
        time.sleep(2.0)
        assert not unsettled(lab, subnet)
    trial.assert_undisturbed()
    with Trial(lab, subnet) as trial:
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
    measured("blackout ms", trial.blackout_ms)
    lab.fault("empty-conntrack", trial.backup)


@pytest.mark.parametrize("who", ["master", pytest.param("backup", marks=pytest.mark.long)])
def test_rules_are_flushed(lab: Lab, subnet: SubnetPlan, who: str, measured: Measured) -> None:
    """All rules of all tables, in the subnets' namespaces and in the node's own: the daemon puts them back within a
    second or so. Meanwhile nothing leaves the ENI without NAT: its own filter is out of a flush's reach (invariant 4).
    """
    with Trial(lab, subnet) as trial:
        trial.fault("flush-iptables", getattr(trial, who))
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.parametrize("who", ["master", pytest.param("backup", marks=pytest.mark.long)])
def test_a_disk_is_full(lab: Lab, subnet: SubnetPlan, who: str, measured: Measured) -> None:
    """/run has no byte left on a member: nobody notices, and a failover to it, or from it, works."""
    with Trial(lab, subnet) as trial:
        trial.fault("fill-disk", getattr(trial, who))
        time.sleep(3.0)
        trial.wait_settled()
    trial.assert_undisturbed()
    with Trial(lab, subnet) as trial:
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
    measured("blackout ms", trial.blackout_ms)
    for node in lab.topology.node_names:
        if lab.machine(node).is_on:
            lab.fault("free-disk", node)


def shared_memory() -> set[str]:
    """What is shared on this computer, outside of its machines."""
    return set(os.listdir("/dev/shm"))  # noqa: S108 - nothing is made there


@pytest.mark.parametrize("seconds", [3600.0, pytest.param(-3600.0, marks=pytest.mark.long)])
def test_a_clock_jumps(lab: Lab, subnet: SubnetPlan, seconds: float, measured: Measured) -> None:
    """Of the daemon of the master, by an hour: its timers run by another clock. What tells it the time, and is killed with
    it in the end, leaves nothing on this computer.
    """
    shared = shared_memory()
    with Trial(lab, subnet) as trial:
        trial.fault("jump-clock", trial.master, seconds=0.0)
        trial.wait_settled()
        trial.fault("jump-clock", trial.master, seconds=seconds)
        time.sleep(3.0)
        trial.wait_settled()
    trial.assert_undisturbed()
    with Trial(lab, subnet) as trial:
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
    measured("blackout ms", trial.blackout_ms)
    assert shared_memory() <= shared


def test_both_members_start_at_once(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """After a power cut of the whole site there is one master, and never two."""
    with Trial(lab, subnet) as trial:
        for node in (trial.master, trial.backup):
            trial.fault("power-off", node)
        began = time.monotonic()
        for node in (trial.master, trial.backup):
            trial.fault("power-on", node)
        trial.wait_settled(30.0)
        measured("all well after ms", (time.monotonic() - began) * 1e3)


@pytest.mark.long
def test_the_customers_connection_table_is_full(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """On the master only: what is new fails there, so the other member takes over."""
    with Trial(lab, subnet) as trial:
        trial.fault("fill-conntrack", trial.master, subnet=subnet.id)
        try:
            trial.wait_master(trial.backup, 7.0)
        finally:
            lab.fault("empty-conntrack", trial.master, options=Options(subnet.id))
    measured("blackout ms", trial.blackout_ms)
