"""ZooKeeper: slow, partly or wholly gone, out of reach of one member."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from tests.lab.conftest import Keeper, keep, lend
from tests.lab.observe import said, wait_until
from tests.lab.trial import Trial

pytestmark = [pytest.mark.root, pytest.mark.faults]

Measured = Callable[[str, float], None]
TOTAL_LOSS_S = 600.0


@pytest.fixture(scope="module")
def ensemble_keeper() -> Iterator[Keeper]:
    """For the lab with three servers."""
    yield from keep(Keeper(f"ensemble-{os.getpid()}", hosts=1, zk=3))


@pytest.fixture
def ensemble(ensemble_keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """As `lab`, with three ZooKeeper servers."""
    yield from lend(ensemble_keeper, request)


def test_the_masters_session_ends(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """ZooKeeper alone is out of its reach: the other is elected, and traffic does not suffer."""
    with Trial(lab, subnet) as trial:
        trial.fault("cut-zookeeper", trial.master)
        wait_until(
            lambda: (now := said(lab, trial.backup, subnet)) and now.elected, 10.0, f"{trial.backup} to be elected"
        )
        time.sleep(1.0)
        trial.fault("heal-underlay", trial.master)
        trial.wait_settled()
    measured("moves", trial.moves)
    measured("blackout ms", trial.blackout_ms)
    assert trial.blackout_ms < 300


@pytest.mark.long
def test_a_slow_disk(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """The server answers only a tenth of the time; nobody loses a packet, and a dead master is replaced."""
    with Trial(lab, subnet) as trial:
        trial.fault("slow-zookeeper", "zk1")
        time.sleep(5.0)
    assert trial.lost == 0
    with Trial(lab, subnet) as trial:
        trial.fault("slow-zookeeper", "zk1")
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
    measured("blackout ms", trial.blackout_ms)
    lab.fault("continue-all", "zk1")


@pytest.mark.long
@pytest.mark.parametrize("which", ["leader", "follower"])
@pytest.mark.parametrize("how", ["power-off", "pause"])
def test_one_server_of_three_is_lost(ensemble: Lab, how: str, which: str, measured: Measured) -> None:
    """The others serve on."""
    subnet = ensemble.topology.subnet_plans[0]
    names = [f"zk{number}" for number in (1, 2, 3)]
    victim = next(name for name in names if ensemble.zookeeper_mode(name) == which)
    with Trial(ensemble, subnet) as trial:
        trial.fault(how, victim)
        time.sleep(2 * SESSION_TIMEOUT_S)
    assert trial.lost == 0
    with Trial(ensemble, subnet) as trial:
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.long
@pytest.mark.parametrize("how", ["power-off", "pause"])
def test_the_quorum_is_lost(ensemble: Lab, how: str, measured: Measured) -> None:
    """One server is left, which may decide nothing: as if there were none."""
    subnet = ensemble.topology.subnet_plans[0]
    with Trial(ensemble, subnet) as trial:
        for name in ("zk1", "zk2"):
            trial.fault(how, name)
        time.sleep(2 * SESSION_TIMEOUT_S)
    assert trial.lost == 0
    with Trial(ensemble, subnet) as trial:
        trial.fault(how, "zk1")
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
    measured("blackout ms", trial.blackout_ms)


@pytest.mark.long
@pytest.mark.timeout(TOTAL_LOSS_S + 200)
def test_ten_minutes_without_zookeeper(ensemble: Lab, measured: Measured) -> None:
    """Not one packet is lost, and a master that loses its power at the end of them is replaced."""
    subnet = ensemble.topology.subnet_plans[0]
    with Trial(ensemble, subnet) as trial:
        for name in ("zk1", "zk2", "zk3"):
            trial.fault("power-off", name)
        time.sleep(TOTAL_LOSS_S)
    assert trial.lost == 0
    with Trial(ensemble, subnet) as trial:
        for name in ("zk1", "zk2", "zk3"):
            trial.fault("power-off", name)
        trial.fault("power-off", trial.master)
        trial.wait_master(trial.backup)
    measured("blackout ms", trial.blackout_ms)
