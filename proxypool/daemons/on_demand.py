"""Something that is read while somebody looks at it, on a thread of its own, and not more often than it is worth.

However many ask, and however often: there is one read at a time, and a pause after each that grows with what it took.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from proxypool.adapters.zookeeper import PoolSession
from proxypool.core.errors import ProxypoolError, TransientError
from proxypool.core.role import Coordinator

T = TypeVar("T")
log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""From one read to the next, at least."""
SHARE = 5.0
"""And so many times as long as a read took."""
FRESH_S = 5.0
"""Who asks when what is known is older waits a little for something newer."""
PATIENCE_S = 1.0
"""So long at most."""
STOP_S = 1.0


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What was read, and when by the monotonic clock."""

    value: T
    at: float


class OnDemand(Generic[T]):
    """See the module's text."""

    def __init__(self, what: str, read: Callable[[], T]) -> None:
        """Nothing is read before somebody asks. `read` runs on the thread, which is named `what`."""
        self._read = read
        self._change = threading.Condition()
        self._is_wanted = self._is_stopping = False
        self._reads = 0
        """Reads that have ended, well or not."""
        self._last: Reading[T] | None = None
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def start(self) -> None:
        """Read from now on, when somebody asks."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        with self._change:
            self._is_stopping = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def latest(self) -> tuple[Reading[T] | None, str]:
        """What was read last, and why there is nothing newer, if that is so. Has it read again, for the next one."""
        with self._change:
            self._is_wanted = True
            self._change.notify_all()
            if self._last is None or time.monotonic() - self._last.at > FRESH_S:
                before = self._reads
                self._change.wait_for(lambda: self._reads != before or self._is_stopping, PATIENCE_S)
            return self._last, self._problem

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._is_wanted or self._is_stopping)
                if self._is_stopping:
                    return
                self._is_wanted = False
            began = time.monotonic()
            self._try()
            pause_s = max(PAUSE_S, SHARE * (time.monotonic() - began))
            with self._change:
                if self._change.wait_for(lambda: self._is_stopping, pause_s):
                    return

    def _try(self) -> None:
        found, problem = None, ""
        try:
            # What is read was so when the read began, or later.
            found = Reading(at=time.monotonic(), value=self._read())
        except ProxypoolError as error:
            problem = str(error)
        except Exception as error:
            log.exception("cannot read for the status page")
            problem = f"a defect: {type(error).__name__}"
        with self._change:
            self._last = found or self._last
            self._problem = problem
            self._reads += 1
            self._change.notify_all()


def require_connected(session: PoolSession) -> None:
    """Spare the wait for an answer that cannot come.

    Raises:
        TransientError: ZooKeeper does not answer.
    """
    if session.state is not Coordinator.CONNECTED:
        raise TransientError("ZooKeeper does not answer: what others do is not known until it does.")
