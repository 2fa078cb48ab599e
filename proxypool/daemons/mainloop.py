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
from functools import partial
from typing import Any, TypeVar

log = logging.getLogger(__name__)
NICE = -10


@dataclass(frozen=True, slots=True)
class Stop:
    """The message that ends a daemon."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The configuration is to be read again."""


@dataclass(frozen=True, slots=True)
class ThreadEnded:
    """The message that ends a daemon because an error that nobody expected has ended one of its threads."""

    name: str


M = TypeVar("M")
"""A daemon's messages."""


def stop_on_signals(inbox: queue.SimpleQueue[Any]) -> None:
    """SIGTERM and SIGINT end the loop after the message under way; SIGHUP has the configuration read again.

    So does the unexpected end of any thread: without it a daemon would go on with what it knew last and nobody would
    see that. Whoever started us starts us again, and what there is in the kernel is adopted.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inbox.put(Stop()))
    signal.signal(signal.SIGHUP, lambda *_: inbox.put(Reload()))
    threading.excepthook = partial(_thread_ended, inbox)


def _thread_ended(inbox: queue.SimpleQueue[Any], ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is SystemExit:
        return
    name = ended.thread.name if ended.thread is not None else "?"
    error = ended.exc_value or ended.exc_type()
    log.critical("thread %s has ended by a defect: ending, to be started again", name, exc_info=error)
    inbox.put(ThreadEnded(name))


def run_until_stopped(receive: Callable[[], M], dispatch: Callable[[M], None]) -> int:
    """Handle messages; the exit status. The daemon outlives a defect in the handling of one: traffic and the rest
    matter more.
    """
    while not isinstance(message := receive(), Stop | ThreadEnded):
        try:
            dispatch(message)
        except Exception:
            log.exception("handling %s failed", type(message).__name__)
    return 1 if isinstance(message, ThreadEnded) else 0


def hurry() -> None:
    """Have the calling thread go before ordinary processes, such as keepalived's notify lines, if that is allowed.

    Threads and processes that it starts afterwards do the same.
    """
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
