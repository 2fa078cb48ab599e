"""kazoo's client, which takes Ctrl-C for a closed connection.

It hands a request to its thread by a byte on a socket, and whatever is raised meanwhile is told as the request's error:
a KeyboardInterrupt there is lost (one in sixteen, with requests one after another), and the caller tries again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kazoo.client import KazooClient

ENDING = (signal.SIGINT, signal.SIGTERM)
"""The signals by which a person ends a command."""


class InterruptibleClient(KazooClient):  # type: ignore[misc]  # kazoo is untyped
    """See the module's text."""

    def _call(self, request: Any, async_object: Any) -> Any:
        with signals_deferred():
            return super()._call(request, async_object)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end, not meanwhile.

    Only Python's own handler raises it; and only in the main thread, in all others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def remember(number: int, _: Any) -> None:
        seen.append(number)

    raising = [number for number in ENDING if signal.getsignal(number) is signal.default_int_handler]
    for number in raising:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number in raising:
            signal.signal(number, signal.default_int_handler)
        if seen:
            raise KeyboardInterrupt
