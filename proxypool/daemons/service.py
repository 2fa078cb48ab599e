"""A daemon as a service: what the service manager knows of it, told from the main loop and from nowhere else.

So the signs of life cease with a loop that hangs, and it ends and restarts the daemon: after the watchdog's time, or,
before the daemon is ready, when the time to start is over, which each sign of life extends. Traffic does not wait for
either: kernel and keepalived go on.
"""

from __future__ import annotations

import logging
import time

from proxypool.adapters.systemd import MICROSECONDS, Notifier, notifier_of
from proxypool.core.discovery import Daemon
from proxypool.daemons.pulse import DEAD_S
from proxypool.daemons.reload_request import Answers

log = logging.getLogger(__name__)

SIGN_S = 2.0
"""How often it is told that the loop goes round; a loop looks in every `pulse.BEAT_S` seconds."""
CALLS = 3
"""Calls to ZooKeeper that one turn of a loop may wait for in vain, each for the session's time."""
MAX_STATUS = 500
"""Characters of a status: it is one line of `systemctl status`."""


class Service:
    """Of one daemon. On its main loop."""

    def __init__(self, notifier: Notifier, session_timeout_s: float, answers: Answers) -> None:
        """Nothing is told.

        Args:
            notifier: the way to the service manager.
            session_timeout_s: how long one call to ZooKeeper may keep the loop.
            answers: to `systemctl reload`.
        """
        self._notifier, self._answers = notifier, answers
        self._dead_after_s = DEAD_S + CALLS * session_timeout_s
        self._due = 0.0
        self._status, self._told_status = "", ""
        self._is_ready = self._is_ready_told = False

    @classmethod
    def of_this_process(cls, role: Daemon, session_timeout_s: float) -> Service:
        """As the environment says.

        Raises:
            InvalidInput: the environment names a socket that cannot be one.
        """
        service = cls(notifier_of(), session_timeout_s, Answers.of_this_process(role.value))
        service.begin()
        return service

    def begin(self) -> None:
        """Before the loop: where its turns may take longer than the unit's watchdog allows, have that allow more."""
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is not None and watchdog_s < self._dead_after_s:
            self._notifier.tell(WATCHDOG_USEC=int(self._dead_after_s * MICROSECONDS))

    def goes_round(self, now: float) -> None:
        """The main loop has come by, at a moment of the monotonic clock."""
        if self._is_ready and not self._is_ready_told:
            self._is_ready_told = self._notifier.tell(READY=1)
        if now < self._due:
            return
        self._due = now + SIGN_S
        if self._is_ready_told:
            self._notifier.tell(WATCHDOG=1)
        else:
            self._notifier.tell(EXTEND_TIMEOUT_USEC=int(self._dead_after_s * MICROSECONDS))
        if self._status != self._told_status and self._notifier.tell(STATUS=self._status):
            self._told_status = self._status

    def say(self, status: str) -> None:
        """One sentence for `systemctl status`; told with the next sign of life."""
        self._status = " ".join(status.split())[:MAX_STATUS]

    def ready(self) -> None:
        """It has adopted what it found, and what must be there is there; said as often as one likes."""
        if not self._is_ready:
            self._is_ready, self._due = True, 0.0

    def reloading(self) -> None:
        """It reads its configuration again; `reloaded` must follow."""
        self._notifier.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def reloaded(self, refusal: str | None) -> None:
        """With the new configuration, or still with the old one and why. The manager waits for both words of it."""
        self._is_ready_told = self._is_ready and self._notifier.tell(READY=1)
        self._answers.give(refusal)

    def stopping(self) -> None:
        """It ends now, and leaves what it programmed."""
        self._notifier.tell(STOPPING=1, STATUS="stopping; traffic goes on")
