"""A port of a daemon that may be in use: opened as soon as it is free, and told of until then."""

from __future__ import annotations

from collections.abc import Callable

from proxypool.daemons.problems import Problems
from proxypool.telemetry.http_port import HttpPort

RETRY_S = 2.0


class Port:
    """On the main loop, which looks at it every second or so."""

    def __init__(self, topic: str, problems: Problems, serve: Callable[[], HttpPort]) -> None:
        """Nothing is opened before the first look."""
        self._topic, self._problems, self._serve = topic, problems, serve
        self._port: HttpPort | None = None
        self.due = 0.0
        """When it is to be looked at again, of the monotonic clock; infinite once it is open."""

    def look(self, now: float) -> None:
        """Open it if it is time to try."""
        if self._port is not None or now < self.due:
            return
        self._port = self._problems.attempt(self._topic, self._serve)
        if self._port is None:
            self.due = now + RETRY_S
        else:
            self.due = float("inf")
            self._problems.note(self._topic, None)

    def close(self) -> None:
        """Stop serving."""
        if self._port is not None:
            self._port.close()
