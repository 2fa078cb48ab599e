"""How old a number may be: three rounds of reading, as long as those really take. Pure.

In a pool so large that the nodes cannot be read as often as was configured, numbers would else be stale before the next
ones are there: nothing would be known of any subnet, and what is not known adds no pair.
"""

from __future__ import annotations

from collections import deque

from proxypool.core.scaling.figures import ROUNDS

STALE_FLOOR_S = 6.0
"""What is younger is never stale: a node reads its counters every second or two."""
STALE_CEILING_S = 30.0
"""What is older says nothing of now, however slowly the nodes are read; of an interval of more than ten seconds, what
is older than three of them.
"""
_READINGS = 3


class Freshness:
    """Of one reader. Times are monotonic seconds."""

    def __init__(self, round_s: float) -> None:
        """`round_s`: how often the nodes are to be read."""
        self._usual_s = stale_after(round_s)
        self._last: float | None = None
        self._spans: deque[float] = deque(maxlen=_READINGS)

    def read(self, now: float) -> float:
        """All nodes have been asked; how old a number may be from now on, seconds."""
        if self._last is not None:
            self._spans.append(now - self._last)
        self._last = now
        slowly_s = ROUNDS * max(self._spans, default=0.0)
        return max(self._usual_s, min(slowly_s, STALE_CEILING_S))


def stale_after(round_s: float) -> float:
    """How old a number may be, of a source that is read, or that reads its nodes itself, every `round_s`."""
    return max(STALE_FLOOR_S, ROUNDS * round_s)
