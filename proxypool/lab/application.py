"""What an application in an instance sees: a client that counts in the customer's Redis, one step after the other.

It does what applications do: one connection, an answer within a second or the connection is given up, then a new one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from proxypool.lab.machine import Machine
from proxypool.lab.namespaces import in_network_of
from proxypool.lab.processes import wait_until

REQUEST_TIMEOUT_S = 1.0
PAUSE_S = 0.01
COUNT = b"INCR proxypool-demo\r\n"


@dataclass
class Seen:
    """What happened to the client so far."""

    answers: int = 0
    connections: int = 0
    resets: int = 0
    timeouts: int = 0
    longest_wait_s: float = 0.0
    last_answer: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "answers": self.answers,
            "connections": self.connections,
            "resets": self.resets,
            "timeouts": self.timeouts,
            "longest_wait_ms": round(self.longest_wait_s * 1e3, 1),
        }


class Application:
    """Runs in a thread of this process, with sockets made in the instance's network namespace."""

    def __init__(self, instance: Machine, server: tuple[str, int]) -> None:
        self.seen = Seen()
        self._pid, self._server = instance.pid, server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="application", daemon=True)

    def wait_answers(self, more: int, timeout_s: float) -> None:
        """Until so many more answers have come."""
        goal = self.seen.answers + more
        wait_until(lambda: self.seen.answers >= goal, timeout_s, "answers from Redis to the application")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        self.seen.last_answer = time.monotonic()
        while not self._stop.is_set():
            try:
                with in_network_of(
                    self._pid, lambda: socket.create_connection(self._server, REQUEST_TIMEOUT_S)
                ) as link:
                    self.seen.connections += 1
                    self._talk(link)
            except TimeoutError:
                self.seen.timeouts += 1
            except OSError:
                self.seen.resets += 1
                self._stop.wait(PAUSE_S)

    def _talk(self, link: socket.socket) -> None:
        with contextlib.closing(link.makefile("rb")) as answers:
            while not self._stop.wait(PAUSE_S):
                link.sendall(COUNT)
                if not answers.readline().startswith(b":"):
                    raise ConnectionResetError
                now = time.monotonic()
                # The pause is ours, not the network's.
                self.seen.longest_wait_s = max(self.seen.longest_wait_s, now - self.seen.last_answer - PAUSE_S)
                self.seen.answers, self.seen.last_answer = self.seen.answers + 1, now
