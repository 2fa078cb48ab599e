"""The lab's data path and failover with GRE, the default tunnel, in a guest whose kernel has it."""

import re

import pytest

from tests.vm.conftest import RunInGuest

_INNER_TIMEOUT_S = 1200
FILES = ("tests/lab/test_datapath.py", "tests/lab/test_failover.py")
"""What of the lab depends on the tunnel. All of it would take a guest an hour."""


@pytest.mark.vm
@pytest.mark.timeout(_INNER_TIMEOUT_S + 60)
def test_datapath_and_failover_with_gre(run_in_guest: RunInGuest) -> None:
    """The tests that run here with VXLAN pass there with GRE."""
    inner = ("-m", "pytest", *FILES, "-m", "datapath or failover", "-p", "no:cacheprovider", "--color=no")
    done = run_in_guest(
        *inner,
        # A system call costs ten times what it costs outside.
        *("-o", "timeout=300"),
        memory="2G",
        timeout_s=_INNER_TIMEOUT_S,
        environment={"PROXYPOOL_LAB_TUNNEL": "gre"},
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode != 0 or not passed or int(passed[1]) == 0:
        pytest.fail(f"status {done.returncode} in the guest:\n{done.stdout}\n{done.stderr}", pytrace=False)
