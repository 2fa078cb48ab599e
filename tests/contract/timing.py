"""How long something takes when nobody is in the way."""

from __future__ import annotations

import time
from collections.abc import Callable


def best_ms(call: Callable[[], object], rounds: int = 20) -> float:
    """The quickest of some rounds in milliseconds: the others measure the neighbours on the machine."""
    durations = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return min(durations) * 1000
