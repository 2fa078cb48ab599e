"""Real-time scheduling for a moment, as the kernel sees it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from proxypool.daemons.haste import HASTE_S, Haste

pytestmark = pytest.mark.root
POLICY_OF_CHILD = "import os; print(os.sched_getscheduler(0))"
WITHOUT_THE_RIGHT = """
import os, threading
from proxypool.daemons.haste import Haste
haste = Haste()
haste.threads = (threading.get_native_id(),)
haste.begin(10.0)
haste.end_if_due(20.0)
haste.begin(30.0)
print(os.sched_getscheduler(0))
"""


@pytest.fixture
def haste() -> Iterator[Haste]:
    """Of the thread of this test."""
    haste = Haste()
    haste.threads = (threading.get_native_id(),)
    yield haste
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def policy() -> int:
    return os.sched_getscheduler(threading.get_native_id()) & ~os.SCHED_RESET_ON_FORK


def test_it_begins_at_once_and_ends_by_itself(haste: Haste) -> None:
    """What comes meanwhile makes it no longer, so that it never becomes a habit."""
    assert policy() == os.SCHED_OTHER
    haste.begin(10.0)
    assert policy() == os.SCHED_RR
    haste.begin(10.0 + HASTE_S / 2)
    haste.end_if_due(10.0 + HASTE_S * 0.9)
    assert policy() == os.SCHED_RR
    haste.end_if_due(10.0 + HASTE_S)
    assert policy() == os.SCHED_OTHER
    haste.begin(11.0)
    assert policy() == os.SCHED_RR


def test_what_is_started_meanwhile_is_in_no_hurry(haste: Haste) -> None:
    """A process; and the nice value is what it was."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    haste.begin(10.0)
    done = subprocess.run([sys.executable, "-c", POLICY_OF_CHILD], capture_output=True, text=True, check=True)
    assert int(done.stdout) == os.SCHED_OTHER
    haste.end_if_due(11.0)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_thread_that_has_ended_is_no_error(haste: Haste) -> None:
    """The others hurry."""
    gone = threading.Thread(target=lambda: None)
    gone.start()
    gone.join()
    haste.threads = (gone.native_id or 0, *haste.threads)
    haste.begin(10.0)
    assert policy() == os.SCHED_RR


def test_where_it_is_not_allowed_all_goes_on_as_before() -> None:
    """Without CAP_SYS_NICE."""
    command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", sys.executable, "-c", WITHOUT_THE_RIGHT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == os.SCHED_OTHER
