"""What the instruments share."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys

ANSWERING = "answering"
"""The first line of an instrument's output: answers come."""
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


def say(text: str) -> None:
    """One line to whoever started us."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def quantile(ordered: list[float], share: float, factor: float = 1.0) -> float | None:
    """Of sorted values; None when there are none."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * factor, 3) if ordered else None


def arguments(description: str | None, default_interval_ms: float) -> argparse.ArgumentParser:
    """What every instrument takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("target", metavar="ADDRESS:PORT")
    parser.add_argument("--duration", type=float, default=3600.0, metavar="S")
    parser.add_argument("--interval-ms", type=float, default=default_interval_ms)
    return parser
