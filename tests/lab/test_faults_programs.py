"""A program of a member is killed, or stopped for longer than its session lives."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from tests.lab.observe import said, wait_until
from tests.lab.trial import Trial

pytestmark = [pytest.mark.root, pytest.mark.faults]

Measured = Callable[[str, float], None]
STOPPED_S = SESSION_TIMEOUT_S + 2.0


@pytest.mark.parametrize("who", ["master", pytest.param("backup", marks=pytest.mark.long)])
@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=pytest.mark.long)])
def test_a_daemon_that_does_nothing_disturbs_nobody(
    lab: Lab, subnet: SubnetPlan, how: str, who: str, measured: Measured
) -> None:
    """Its session ends. Traffic goes on, through the same member; a change when it is back is a planned one."""
    with Trial(lab, subnet) as trial:
        victim = getattr(trial, who)
        trial.fault(f"{how}-daemon", victim)
        time.sleep(STOPPED_S)
        trial.wait_master(trial.master, 1.0)
        trial.fault("start-services" if how == "kill" else "continue-all", victim)
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)
    assert trial.lost <= 20


def test_a_master_is_powered_off_while_the_backups_daemon_is_stopped(
    lab: Lab, subnet: SubnetPlan, measured: Measured
) -> None:
    """keepalived's notify line opens the gate."""
    with Trial(lab, subnet) as trial:
        trial.fault("stop-daemon", trial.backup)
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
        trial.fault("continue-all", trial.backup)
        wait_until(lambda: (now := said(lab, trial.backup, subnet)) and now.elected, 10.0, "the survivor to be elected")
    measured("blackout ms", trial.blackout_ms)


def test_the_masters_keepalived_is_stopped(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """Its kernel goes on answering for the HaVip, and nobody hears of an end: its daemon takes the HaVip away as soon as
    it hears the other member say that it is master. Continued, keepalived finds out and is backup.
    """
    with Trial(lab, subnet) as trial:
        trial.fault("stop-keepalived", trial.master)
        trial.wait_master(trial.backup)
        wait_until(
            lambda: (now := said(lab, trial.master, subnet)) and not now.fit, 3.0, "the member to say it cannot serve"
        )
        time.sleep(STOPPED_S)
        trial.fault("continue-all", trial.master)
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.parametrize("how", ["kill", pytest.param("stop", marks=pytest.mark.long)])
def test_keepalived_is_lost_on_the_only_member(lab: Lab, subnet: SubnetPlan, how: str) -> None:
    """Nobody else says that it is master, so what keepalived left goes on serving."""
    with Trial(lab, subnet) as trial:
        trial.fault("power-off", trial.backup)
        trial.fault(f"{how}-keepalived", trial.master)
        time.sleep(3.0)
        trial.wait_master(trial.master, 0.5)
    assert trial.lost == 0


@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=pytest.mark.long)])
def test_the_backups_keepalived_is_lost(lab: Lab, subnet: SubnetPlan, how: str) -> None:
    """Nobody notices; the pair says that nobody could take over."""
    with Trial(lab, subnet) as trial:
        trial.fault(f"{how}-keepalived", trial.backup)
        wait_until(
            lambda: (now := said(lab, trial.backup, subnet)) and not now.fit, 3.0, "the member to say it cannot serve"
        )
        trial.fault("start-services" if how == "kill" else "continue-all", trial.backup)
        trial.wait_settled()
    trial.assert_undisturbed()


@pytest.mark.long
def test_all_of_a_masters_processes_are_stopped(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """A stall of a whole machine, whose kernel goes on: nobody is left there to give the HaVip up, but the announcements
    of the new master lead traffic to it. When it goes on there is one master again.
    """
    with Trial(lab, subnet) as trial:
        trial.fault("pause", trial.master)
        time.sleep(STOPPED_S)
        trial.fault("resume", trial.master)
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.parametrize("who", ["master", pytest.param("backup", marks=pytest.mark.long)])
def test_a_storm_of_sighups(lab: Lab, subnet: SubnetPlan, who: str, measured: Measured) -> None:
    """keepalived reads its files forty times in a second, and keeps its state."""
    with Trial(lab, subnet) as trial:
        trial.fault("storm-keepalived", getattr(trial, who))
        time.sleep(1.0)
        trial.wait_settled()
    measured("blackout ms", trial.blackout_ms)
    assert trial.blackout_ms < 300
