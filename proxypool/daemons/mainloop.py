"""The main loop of a daemon: one message after the other until it is told to stop."""

from __future__ import annotations

import logging
import queue
import signal
from collections.abc import Callable

from proxypool.daemons.messages import Message, Stop

log = logging.getLogger(__name__)


def stop_on_signals(inbox: queue.SimpleQueue[Message]) -> None:
    """SIGTERM and SIGINT end the loop after the message under way."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inbox.put(Stop()))


def run_until_stopped(receive: Callable[[], Message], dispatch: Callable[[Message], None]) -> None:
    """Handle messages. The daemon outlives a defect in the handling of one: traffic and the rest matter more."""
    while not isinstance(message := receive(), Stop):
        try:
            dispatch(message)
        except Exception:
            log.exception("handling %s failed", type(message).__name__)
