"""Real-time scheduling for a moment. While HaVips move, packets wait for two threads of the node daemon: the one that
hears of it and the one that opens the gates. Each gate is a millisecond's work, but a thread that waits (for the
interpreter's lock, for a file) goes behind whatever else may run; and when a node of a hundred pairs dies keepalived
starts a hundred notify lines at once. With nice -10 the last gate came 0.5 to 1 s after its claim, so 90 ms.

Not for good: what the daemon does at other times may take long, and packets are forwarded by threads of the kernel that
a real-time one keeps waiting.
"""

from __future__ import annotations

import logging
import os
from collections import deque

log = logging.getLogger(__name__)

HASTE_S = 0.5
"""A hundred pairs are claimed within some 0.2 s."""
MANY = 5
"""So many addresses that move within that time are a crowd; one or two are served as soon without."""
PRIORITY = 1
"""Below keepalived's."""


class Haste:
    """Of some threads of this process. Called on one thread only."""

    def __init__(self) -> None:
        self.threads: tuple[int, ...] = ()
        """Their native ids; replaced whole."""
        self._until: float | None = None
        self._is_allowed = True
        self._moved: deque[float] = deque(maxlen=MANY)

    def moved(self, now: float) -> None:
        """An address moved at monotonic time `now`. With the fifth in a row hurry for `HASTE_S` seconds; what comes
        meanwhile makes it no longer.
        """
        self._moved.append(now)
        is_crowd = len(self._moved) == MANY and now - self._moved[0] < HASTE_S
        if is_crowd and self._until is None and self._is_allowed:
            self._until = now + HASTE_S
            # What a thread starts, say a process, is an ordinary one.
            self._schedule(os.SCHED_RR | os.SCHED_RESET_ON_FORK, PRIORITY)

    def end_if_due(self, now: float) -> None:
        """Be as before once the time is over."""
        if self._until is not None and now >= self._until:
            self._until = None
            self._schedule(os.SCHED_OTHER, 0)

    def _schedule(self, policy: int, priority: int) -> None:
        for thread in self.threads:
            try:
                os.sched_setscheduler(thread, policy, os.sched_param(priority))
            except ProcessLookupError:
                continue
            except PermissionError as error:
                log.info("no real-time scheduling while HaVips move: %s", error)
                self._is_allowed = False
                return
