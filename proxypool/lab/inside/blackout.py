"""A request every millisecond over UDP, an answer each: how long was there no answer?

python -m proxypool.lab.inside.blackout ADDRESS:PORT [--duration S] [--interval-ms MS] [--until-recovered S]
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import time
from array import array
from itertools import pairwise

from proxypool.lab.inside.instrument import ANSWERING, ATTENTION_S, Stop, address, arguments, hurry, quantile, say

REQUEST = struct.Struct("!IQ")
REPORTED_GAP_S = 0.010
LAST_ANSWERS_S = 0.2
"""How long to wait for answers that are on their way when the measurement ends."""


class Blackout:
    """Requests and answers ."""

    def __init__(self, target: tuple[str, int], interval_s: float, stalled_s: float = 0.02) -> None:
        """`stalled_s`: the shortest gap that the end of a measurement waits for."""
        self.link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.link.setblocking(False)
        self.link.connect(target)
        self.interval_s, self.stalled_s = interval_s, stalled_s
        self.sent_at = array("d")
        self.answer_after = array("d")
        """Per request: seconds until its answer; negative: none yet."""
        self.answers = array("d")
        """When answers came, in order."""
        self.own_stall_s = 0.0
        self.gap_seen = False

    def run(self, stop: Stop, duration_s: float, settle_s: float | None) -> None:
        """Measure. With `settle_s`: until answers have come for so long after a gap."""
        began = due = time.monotonic()
        while not stop.asked and due < began + duration_s:
            now = time.monotonic()
            if now >= due:
                self.own_stall_s = max(self.own_stall_s, now - due)
                self._ask(now)
                # Never catch up in a burst: a late prober sends fewer requests.
                due = max(due + self.interval_s, now)
            self._listen(due)
            if settle_s is not None and self._recovered(settle_s):
                break
        end = time.monotonic() + LAST_ANSWERS_S
        while -1.0 in self.answer_after[-1000:] and time.monotonic() < end:
            self._listen(end)

    def _ask(self, now: float) -> None:
        with contextlib.suppress(OSError):  # no route, full queue, a refusal that came back: all count as no answer
            self.link.send(REQUEST.pack(len(self.sent_at), 0))
        self.sent_at.append(now)
        self.answer_after.append(-1.0)

    def _listen(self, until: float) -> None:
        wait = max(0.0, min(ATTENTION_S, until - time.monotonic()))
        if not select.select([self.link], [], [], wait)[0]:
            return
        with contextlib.suppress(OSError):
            while True:
                number, _ = REQUEST.unpack(self.link.recv(64))
                now = time.monotonic()
                if self.answer_after[number] < 0:
                    self.answer_after[number] = now - self.sent_at[number]
                    if not self.answers:
                        say(ANSWERING)
                    elif now - self.answers[-1] > self.stalled_s:
                        self.gap_seen = True
                    self.answers.append(now)

    def _recovered(self, settle_s: float) -> bool:
        if not self.gap_seen:
            return False
        last = self.answers[-1]
        if time.monotonic() - last > self.stalled_s:
            return False
        for index in range(len(self.answers) - 1, 0, -1):
            if self.answers[index] - self.answers[index - 1] > self.stalled_s:
                return last - self.answers[index] >= settle_s
            if last - self.answers[index - 1] >= settle_s:
                return True
        return False

    def result(self) -> dict[str, object]:
        """The document. A gap lies between two answers, or between the first request or last answer and the end.

        It is reported from 10 ms or five intervals on.
        """
        reported_s = max(REPORTED_GAP_S, 5 * self.interval_s)
        answered = sorted(after for after in self.answer_after if after >= 0)
        gaps: list[tuple[float, float]] = []
        if self.sent_at:
            edges = [self.sent_at[0], *self.answers]
            if not self.answers or self.sent_at[-1] - self.answers[-1] > reported_s:
                edges.append(time.monotonic())
            gaps = [(a, b) for a, b in pairwise(edges) if b - a > reported_s]
        longest = max(gaps, key=lambda gap: gap[1] - gap[0], default=None)
        offset = time.time() - time.monotonic()
        return {
            "mode": "udp",
            "interval_ms": self.interval_s * 1e3,
            "sent": len(self.sent_at),
            "received": len(answered),
            "lost": len(self.sent_at) - len(answered),
            "answering_at_end": bool(self.answers) and not (gaps and gaps[-1][1] > self.answers[-1]),
            "round_trip_ms": {"p50": quantile(answered, 0.5, 1e3), "p99": quantile(answered, 0.99, 1e3)},
            "blackout_ms": round((longest[1] - longest[0]) * 1e3, 3) if longest else 0.0,
            "longest": describe(longest, offset) if longest else None,
            "gaps": [describe(gap, offset) for gap in gaps],
            "own_stall_ms": round(self.own_stall_s * 1e3, 3),
        }


def describe(gap: tuple[float, float], offset: float) -> dict[str, float]:
    """A gap for the document."""
    start, end = gap
    return {
        "start": start,
        "end": end,
        "start_wall": round(start + offset, 6),
        "end_wall": round(end + offset, 6),
        "ms": round((end - start) * 1e3, 3),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = arguments(__doc__, 1.0)
    parser.add_argument("--until-recovered", type=float, metavar="S", help="end S seconds after the end of a gap")
    parser.add_argument("--gap-ms", type=float, default=20.0, metavar="MS", help="the shortest one that counts")
    options = parser.parse_args()
    stop = Stop()
    hurry()
    blackout = Blackout(address(options.target), options.interval_ms / 1e3, options.gap_ms / 1e3)
    blackout.run(stop, options.duration, options.until_recovered)
    say(json.dumps(blackout.result()))


if __name__ == "__main__":
    main()
