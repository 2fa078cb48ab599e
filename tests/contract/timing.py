"""How long something takes when nobody is in the way."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_ms(call: Callable[[], object], rounds: int = 20) -> float:
    """The quickest of some rounds, in milliseconds of this thread on a CPU: all else measures the neighbours on the machine.

    For what the thread itself does, in the kernel too; what it waits for does not count.
    """
    durations = []
    for _ in range(rounds):
        start = time.thread_time()
        call()
        durations.append(time.thread_time() - start)
    return min(durations) * 1000
