"""Whether this computer's processors stood still: a hypervisor takes them away for tens of milliseconds now and then.

A master is dead after 50 ms without its advertisements. What a processor that stood still for as long did to a pair, or to
the one who looks at it, says nothing of the product: a trial is made again then, and that is told.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import NamedTuple, Self

LONG_S = 0.02
"""A shorter one is not told: a master is dead after 50 ms, and a few of them are the loop's own pauses."""
_WATCH = f"""
import json, os, signal, sys, time
os.sched_setaffinity(0, {{int(sys.argv[1])}})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))
seen, going = [], [True]
signal.signal(signal.SIGTERM, lambda *_: going.clear())
print(flush=True)
before = time.monotonic()
while going:
    time.sleep(0.002)
    now = time.monotonic()
    if now - before > {LONG_S}:
        seen.append((before, now))
    before = now
print(json.dumps(seen))
"""


class MachineStalled(AssertionError):
    """A processor stood still while something was held to a time."""


class Stall(NamedTuple):
    """Of one processor; times of the monotonic clock."""

    cpu: int
    start: float
    end: float

    def __str__(self) -> str:
        return f"processor {self.cpu} for {(self.end - self.start) * 1e3:.0f} ms"


class Stalls:
    """Looked at in the block, by a process on each processor that goes before everything else."""

    def __init__(self) -> None:
        self.seen: tuple[Stall, ...] = ()
        self._watches: dict[int, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        for cpu in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, "-S", "-c", _WATCH, str(cpu)]
            self._watches[cpu] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for watch in self._watches.values():
            assert watch.stdout is not None
            watch.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        found: list[Stall] = []
        for cpu, watch in self._watches.items():
            watch.send_signal(signal.SIGTERM)
            out, _err = watch.communicate(timeout=30.0)
            found += [Stall(cpu, *span) for span in json.loads(out)]
        self.seen = tuple(sorted(found, key=lambda stall: stall.start))

    def within(self, start: float, end: float) -> tuple[Stall, ...]:
        """Those that overlap with a time."""
        return tuple(stall for stall in self.seen if stall.start <= end and stall.end >= start)
