"""The underlay and the ENIs: cut one way, lossy, late, gone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from tests.lab.observe import masters, wait_until
from tests.lab.trial import Trial

pytestmark = [pytest.mark.root, pytest.mark.faults]

Measured = Callable[[str, float], None]


@pytest.mark.parametrize("direction", ["in", "out"])
def test_the_masters_underlay_is_cut_one_way(lab: Lab, subnet: SubnetPlan, direction: str, measured: Measured) -> None:
    """Cut off from what it sends, it is missed. Cut off from what it gets, it goes on telling that it is master, and has
    to find out by itself that no packet reaches it.
    """
    with Trial(lab, subnet) as trial:
        trial.fault(f"cut-underlay-{direction}", trial.master)
        wait_until(lambda: trial.backup in masters(lab, subnet), 6.0, f"{trial.backup} to take over")
        time.sleep(1.0)
        trial.fault("heal-underlay", trial.master)
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.parametrize("direction", ["out", pytest.param("in", marks=pytest.mark.long)])
def test_heartbeats_of_the_master_are_lost_one_way(
    lab: Lab, subnet: SubnetPlan, direction: str, measured: Measured
) -> None:
    """Lost on the way out, the backup claims the HaVip too, and stands aside when the election says so. Lost on the way
    in, nothing happens: a backup sends none.
    """
    with Trial(lab, subnet) as trial:
        trial.fault(f"cut-vrrp-{direction}", trial.master)
        time.sleep(SESSION_TIMEOUT_S + 2.0)
        trial.wait_master(trial.master, 0.5)
        trial.fault("heal-underlay", trial.master)
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)
    assert trial.blackout_ms < 1000


@pytest.mark.parametrize("percent", [5.0, pytest.param(30.0, marks=pytest.mark.long)])
def test_heartbeats_are_lost_now_and_then(lab: Lab, subnet: SubnetPlan, percent: float, measured: Measured) -> None:
    """A false alarm is a planned change too many, never an outage."""
    with Trial(lab, subnet) as trial:
        trial.fault("lose-vrrp", trial.master, percent=percent)
        time.sleep(10.0 if percent > 10 else 5.0)
        trial.fault("heal-underlay", trial.master)
        trial.wait_settled()
    measured("moves", trial.moves)
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.long
def test_heartbeats_are_late_and_out_of_order(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """By 10 to 30 ms each: the master is not missed."""
    with Trial(lab, subnet) as trial:
        trial.fault("delay-vrrp", trial.backup, delay_ms=10.0, jitter_ms=20.0)
        time.sleep(4.0)
        trial.fault("heal-underlay", trial.backup)
        trial.wait_settled()
    measured("moves", trial.moves)
    assert trial.lost == 0


@pytest.mark.long
@pytest.mark.parametrize("percent", [5.0, pytest.param(30.0, marks=pytest.mark.long)])
def test_packets_of_all_kinds_are_lost(lab: Lab, subnet: SubnetPlan, percent: float, measured: Measured) -> None:
    """Each way on the master's cable."""
    with Trial(lab, subnet) as trial:
        trial.fault("lose-underlay", trial.master, percent=percent)
        time.sleep(10.0)
        trial.fault("heal-underlay", trial.master)
        trial.wait_settled()
    measured("moves", trial.moves)
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.parametrize("kind", ["cut", pytest.param("delete", marks=pytest.mark.long)])
def test_the_masters_eni_is_lost(lab: Lab, subnet: SubnetPlan, kind: str, measured: Measured) -> None:
    """Without a carrier, or gone: the other member serves. When it is back the member is whole again."""
    with Trial(lab, subnet) as trial:
        trial.fault(f"{kind}-eni", trial.master, subnet=subnet.id)
        trial.wait_master(trial.backup)
        trial.fault("heal-eni", trial.master, subnet=subnet.id)
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.parametrize("kind", ["cut", pytest.param("delete", marks=pytest.mark.long)])
def test_the_backups_eni_is_lost(lab: Lab, subnet: SubnetPlan, kind: str) -> None:
    """Nobody notices."""
    with Trial(lab, subnet) as trial:
        trial.fault(f"{kind}-eni", trial.backup, subnet=subnet.id)
        time.sleep(2.0)
        trial.fault("heal-eni", trial.backup, subnet=subnet.id)
        trial.wait_settled()
    trial.assert_undisturbed()


@pytest.mark.long
def test_both_are_cut_off_from_the_underlay(lab: Lab, subnet: SubnetPlan) -> None:
    """Nothing can be served; when the cables are back one of them does."""
    with Trial(lab, subnet) as trial:
        for node in (trial.master, trial.backup):
            trial.fault("cut-underlay", node)
        time.sleep(SESSION_TIMEOUT_S + 2.0)
        for node in (trial.master, trial.backup):
            trial.fault("heal-underlay", node)
        trial.wait_settled(30.0)
