"""Runs inside an instance: asks many databases in turn, and tells for each the longest time without an answer.

python -S -m bench.inside_many ADDRESS:PORT[,ADDRESS:PORT…] [--interval-ms MS]

`--interval-ms` is the time between two requests to one of them. Standard library only, as everything inside machines.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from itertools import pairwise

from proxypool.lab.inside.instrument import ANSWERING, Stop, address, arguments, hurry, say


class Asker:
    """One socket for all: requests to each in turn, evenly over the interval."""

    def __init__(self, targets: list[tuple[str, int]], interval_s: float) -> None:
        self.targets, self.pause_s = targets, interval_s / len(targets)
        self.link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.link.setblocking(False)
        self.answers: dict[str, list[float]] = {host: [] for host, _ in targets}
        self.is_told = False

    def run(self, stop: Stop, duration_s: float) -> None:
        """Until told to stop."""
        began = due = time.monotonic()
        number = 0
        while not stop.asked and due < began + duration_s:
            now = time.monotonic()
            while due <= now:
                with contextlib.suppress(OSError):
                    self.link.sendto(bytes(12), self.targets[number % len(self.targets)])
                number += 1
                due += self.pause_s
            self._listen(max(0.0, due - time.monotonic()))

    def _listen(self, wait_s: float) -> None:
        if not select.select([self.link], [], [], wait_s)[0]:
            return
        with contextlib.suppress(OSError):
            while True:
                _, (host, _) = self.link.recvfrom(64)
                self.answers[host].append(time.monotonic())
        if not self.is_told and all(self.answers.values()):
            self.is_told = True
            say(ANSWERING)


def main() -> None:
    """Ask until told to stop, print one document: address → [beginning, end] of its longest silence."""
    options = arguments(__doc__, 20.0).parse_args()
    stop = Stop()
    hurry()
    asker = Asker([address(text) for text in options.target.split(",")], options.interval_ms / 1e3)
    asker.run(stop, options.duration)
    now = time.monotonic()
    found = {}
    for host, times in asker.answers.items():
        edges = [*times, now]
        found[host] = max(pairwise(edges), key=lambda gap: gap[1] - gap[0])
    say(json.dumps(found))


if __name__ == "__main__":
    main()
