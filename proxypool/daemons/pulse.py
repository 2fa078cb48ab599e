"""Whether a daemon's main loop goes round, for those who ask from outside."""

from __future__ import annotations

import time

BEAT_S = 2.0
"""How often the main loop is to look in."""
DEAD_S = 15.0
"""A loop that has not looked in for so long hangs."""


class Pulse:
    """Whether a main loop goes round."""

    def __init__(self, dead_after_s: float = DEAD_S) -> None:
        """It goes round now."""
        self._dead_after_s, self._at = dead_after_s, time.monotonic()

    def beat(self, now: float) -> None:
        """It has come by, at a moment of the monotonic clock."""
        self._at = now

    def is_alive(self) -> bool:
        """Whether it came by lately."""
        return time.monotonic() - self._at < self._dead_after_s
