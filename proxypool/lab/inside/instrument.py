"""What the instruments share."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import resource
import signal
import socket
import struct
import sys

ANSWERING = "answering"
"""The first line of an instrument's output: answers come."""
WHOAMI = b"whoami?\n"
"""The question to the responder from which address and port it hears us; the answer is as long, see `packed`."""
_ADDRESS = struct.Struct("!4sH2x")
ATTENTION_S = 0.2
"""The longest wait in one go: Python resumes an interrupted wait, so a signal alone would not end it."""


class Stop:
    """Set by SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def hurry() -> None:
    """Ask for real-time priority: what is measured is the network, not the scheduler.

    Not on a single CPU (a guest): there an instrument and the server it talks to would leave nothing to the others.
    """
    if len(os.sched_getaffinity(0)) > 1:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            return
    with contextlib.suppress(OSError):
        os.nice(-10)


def address(text: str) -> tuple[str, int]:
    """ADDRESS:PORT."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def packed(place: tuple[str, int]) -> bytes:
    """An address and a port in the eight bytes of the answer to `WHOAMI`."""
    return _ADDRESS.pack(socket.inet_aton(place[0]), place[1])


def unpacked(answer: bytes) -> tuple[str, int]:
    """The inverse of `packed`."""
    host, port = _ADDRESS.unpack(answer)
    return socket.inet_ntoa(host), port


def many_files() -> None:
    """As many open connections as the system allows; services start with room for a thousand."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def failure(error: OSError) -> str:
    """Why the kernel says that a connection is over, in a word."""
    match error.errno:
        case errno.ECONNRESET | errno.EPIPE:
            return "reset"
        case errno.ECONNREFUSED:
            return "refused"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return "unreachable"
        case errno.ETIMEDOUT:
            return "timeout"
        case _:
            return errno.errorcode.get(error.errno or 0, "closed").lower()


def say(text: str) -> None:
    """One line to whoever started us."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def quantile(ordered: list[float], share: float, factor: float = 1.0) -> float | None:
    """Of sorted values; None when there are none."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * factor, 3) if ordered else None


def arguments(description: str | None, default_interval_ms: float | None = None) -> argparse.ArgumentParser:
    """What every instrument takes; without a default interval, one that has no interval."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("target", metavar="ADDRESS:PORT")
    parser.add_argument("--duration", type=float, default=3600.0, metavar="S")
    if default_interval_ms is not None:
        parser.add_argument("--interval-ms", type=float, default=default_interval_ms)
    return parser
