"""The watch thread: waits on kernel files and ticks, and turns each into a message. It decides nothing.

Callbacks run on this thread and must be short: the gate waits for the fifo's lines.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from typing import Protocol

from proxypool.daemons.mainloop import hurry

log = logging.getLogger(__name__)


class Readable(Protocol):
    """Anything a selector can wait for."""

    def fileno(self) -> int:
        """The descriptor."""


class Watcher:
    """Owner of the thread."""

    def __init__(self, tick_s: float, on_tick: Callable[[], None], *, is_urgent: bool = False) -> None:
        """`on_tick` is called about every `tick_s` seconds. `is_urgent`: see `hurry`."""
        self._is_urgent = is_urgent
        self._tick_s, self._on_tick = tick_s, on_tick
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, self._drain_wake)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def native_id(self) -> int:
        """The kernel's id of the thread, once it was started."""
        return self._thread.native_id or 0

    def stop(self) -> None:
        """End it."""
        self._is_stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout=5)

    def add(self, source: Readable, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever the source can be read."""
        with self._lock:
            self._selector.register(source, selectors.EVENT_READ, on_readable)
        os.eventfd_write(self._wake, 1)

    def remove(self, source: Readable) -> None:
        """Stop watching; an unknown source is fine."""
        with self._lock:
            try:
                self._selector.unregister(source)
            except (KeyError, ValueError):
                return

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def _run(self) -> None:
        if self._is_urgent:
            hurry()
        next_tick = time.monotonic()
        while not self._is_stopping:
            now = time.monotonic()
            if now >= next_tick:
                self._guarded(self._on_tick)
                next_tick = now + self._tick_s
            for key, _ in self._selector.select(max(0.0, next_tick - time.monotonic())):
                self._guarded(key.data)

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("a watch callback failed")
