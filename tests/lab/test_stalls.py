"""The watch over this computer's processors."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.lab.stalls import LONG_S, Stalls

pytestmark = [pytest.mark.root]


def test_a_processor_that_stands_still_is_seen() -> None:
    """Which is the same to the watch as being stopped itself."""
    with Stalls() as stalls:
        cpu, watch = next(iter(stalls._watches.items()))
        began = time.monotonic()
        os.kill(watch.pid, signal.SIGSTOP)
        time.sleep(3 * LONG_S)
        os.kill(watch.pid, signal.SIGCONT)
        ended = time.monotonic()
    found = [stall for stall in stalls.within(began, ended) if stall.cpu == cpu]
    assert any(stall.end - stall.start > 2 * LONG_S for stall in found)
    assert stalls.within(began - 60.0, began - 50.0) == ()
