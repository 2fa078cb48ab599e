"""The main loop of a daemon: one message after the other until it is told to stop."""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

log = logging.getLogger(__name__)
NICE = -10


@dataclass(frozen=True, slots=True)
class Stop:
    """The message that ends a daemon."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The configuration is to be read again."""


M = TypeVar("M")
"""A daemon's messages."""


def stop_on_signals(inbox: queue.SimpleQueue[Any]) -> None:
    """SIGTERM and SIGINT end the loop after the message under way; SIGHUP has the configuration read again."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inbox.put(Stop()))
    signal.signal(signal.SIGHUP, lambda *_: inbox.put(Reload()))


def run_until_stopped(receive: Callable[[], M], dispatch: Callable[[M], None]) -> None:
    """Handle messages. The daemon outlives a defect in the handling of one: traffic and the rest matter more."""
    while not isinstance(message := receive(), Stop):
        try:
            dispatch(message)
        except Exception:
            log.exception("handling %s failed", type(message).__name__)


def hurry() -> None:
    """Have the calling thread go before ordinary processes, such as keepalived's notify lines, if that is allowed.

    Threads and processes that it starts afterwards do the same.
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
