"""The lab's data path, failover and egress addresses with GRE, the default tunnel, in a guest whose kernel has it."""

import re

import pytest

from tests.vm.conftest import RunInGuest

_INNER_TIMEOUT_S = 1200
_LAB = "tests/lab/test_"
SAME_WITH_ANY_TUNNEL = "zookeeper or keepalived or survivors_daemon or backup_is_not_noticed"
"""Tests of failover that say nothing of the tunnel: those with VXLAN are enough for every day."""


@pytest.mark.vm
@pytest.mark.timeout(_INNER_TIMEOUT_S + 60)
def test_datapath_and_failover_with_gre(run_in_guest: RunInGuest) -> None:
    """The tests that run here with VXLAN pass there with GRE."""
    _pass_with_gre(run_in_guest, f"{_LAB}datapath.py", f"{_LAB}failover.py", "-k", f"not ({SAME_WITH_ANY_TUNNEL})")


@pytest.mark.vm
@pytest.mark.long
@pytest.mark.timeout(_INNER_TIMEOUT_S + 60)
def test_egress_addresses_and_connections_with_gre(run_in_guest: RunInGuest) -> None:
    """And so do those of egress addresses and of connections that survive; all of the lab would take a guest an hour."""
    _pass_with_gre(run_in_guest, f"{_LAB}failover.py", f"{_LAB}egress.py", f"{_LAB}survival.py")


def _pass_with_gre(run_in_guest: RunInGuest, *which: str) -> None:
    done = run_in_guest(
        *("-m", "pytest", *which, "-m", "datapath or failover", "-p", "no:cacheprovider", "--color=no"),
        # A system call costs ten times what it costs outside.
        *("-o", "timeout=300"),
        memory="2G",
        timeout_s=_INNER_TIMEOUT_S,
        environment={"PROXYPOOL_LAB_TUNNEL": "gre"},
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode != 0 or not passed or int(passed[1]) == 0:
        pytest.fail(f"status {done.returncode} in the guest:\n{done.stdout}\n{done.stderr}", pytrace=False)
