"""Real-time scheduling for a moment, as the kernel sees it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from proxypool.daemons.haste import HASTE_S, MANY, Haste

pytestmark = pytest.mark.root
POLICY_OF_CHILD = "import os; print(os.sched_getscheduler(0))"
WITHOUT_THE_RIGHT = """
import os, threading
from proxypool.daemons.haste import Haste
haste = Haste()
haste.threads = (threading.get_native_id(),)
for moment in (10.0, 10.0, 10.0, 10.0, 10.0):
    haste.moved(moment)
haste.end_if_due(20.0)
for moment in (30.0, 30.0, 30.0, 30.0, 30.0):
    haste.moved(moment)
print(os.sched_getscheduler(0))
"""


@pytest.fixture
def haste() -> Iterator[Haste]:
    """Of the thread of this test."""
    haste = Haste()
    haste.threads = (threading.get_native_id(),)
    yield haste
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def crowd(haste: Haste, now: float) -> None:
    """Just so many addresses move that they are one."""
    for _ in range(MANY):
        haste.moved(now)


def policy() -> int:
    return os.sched_getscheduler(threading.get_native_id()) & ~os.SCHED_RESET_ON_FORK


def test_it_begins_at_once_and_ends_by_itself(haste: Haste) -> None:
    """What comes meanwhile makes it no longer, so that it never becomes a habit."""
    assert policy() == os.SCHED_OTHER
    crowd(haste, 10.0)
    assert policy() == os.SCHED_RR
    crowd(haste, 10.0 + HASTE_S / 2)
    haste.end_if_due(10.0 + HASTE_S * 0.9)
    assert policy() == os.SCHED_RR
    haste.end_if_due(10.0 + HASTE_S)
    assert policy() == os.SCHED_OTHER
    crowd(haste, 11.0)
    assert policy() == os.SCHED_RR


def test_a_few_addresses_are_no_reason_to_hurry(haste: Haste) -> None:
    """Nor are many that move one after the other."""
    for number in range(3 * MANY):
        haste.moved(10.0 + number * HASTE_S / (MANY - 2))
        assert policy() == os.SCHED_OTHER


def test_what_is_started_meanwhile_is_in_no_hurry(haste: Haste) -> None:
    """A process; and the nice value is what it was."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    crowd(haste, 10.0)
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
    crowd(haste, 10.0)
    assert policy() == os.SCHED_RR


def test_where_it_is_not_allowed_all_goes_on_as_before() -> None:
    """Without CAP_SYS_NICE."""
    command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", sys.executable, "-c", WITHOUT_THE_RIGHT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == os.SCHED_OTHER
