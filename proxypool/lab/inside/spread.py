"""Many short TCP connections or UDP flows, as fast as possible: whom does the server see, how often?

python -m proxypool.lab.inside.spread ADDRESS:PORT [--count N] [--udp] [--at-once N] [--timeout S] [--duration S]

The server must be our responder. Every flow is new to connection tracking: a TCP connection ends by a reset, so nothing
of it is left; a UDP flow has a source port that no other flow of the run had. Tracking remembers a UDP flow for half a
minute: a second run within that time needs another `--first-port`.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections import Counter, deque

from proxypool.lab.inside.instrument import (
    ANSWERING,
    ATTENTION_S,
    WHOAMI,
    Stop,
    address,
    arguments,
    failure,
    many_files,
    quantile,
    say,
    unpacked,
)

FIRST_PORT, PORTS = 10000, 55000
"""Of UDP flows."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time."""


class Flow:
    """One question and its answer."""

    def __init__(self, target: tuple[str, int], port: int | None) -> None:
        """With a source port over UDP, without one over TCP."""
        self.began = time.monotonic()
        self.is_udp, self.asked = port is not None, False
        self.link = socket.socket(socket.AF_INET, socket.SOCK_STREAM if port is None else socket.SOCK_DGRAM)
        self.link.setblocking(False)
        self.answer = b""
        if port is not None:
            self.link.bind(("", port))
        else:
            self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        try:
            self.link.connect(target)
            self.link.send(WHOAMI)
            self.asked = True
        except BlockingIOError:
            return
        except OSError:
            self.link.close()
            raise

    def go_on(self) -> str:
        """The source that the server saw, when it is known."""
        if not self.asked:
            self.link.send(WHOAMI)
            self.asked = True
            return ""
        data = self.link.recv(len(WHOAMI) - len(self.answer))
        if not data:
            raise ConnectionResetError(0, "closed by the other end")
        self.answer += data
        return unpacked(self.answer)[0] if len(self.answer) == len(WHOAMI) else ""


class Spread:
    """All flows, a few at once."""

    def __init__(self, target: tuple[str, int], count: int, *, first_port: int | None, timeout_s: float) -> None:
        """With a first source port over UDP, without over TCP."""
        self.target, self.count, self.first_port, self.timeout_s = target, count, first_port, timeout_s
        self.poller = select.epoll()
        self.flows: dict[int, Flow] = {}
        self.order: deque[Flow] = deque()
        """Oldest first, for the timeout."""
        self.begun = 0
        self.sources: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.after_s: list[float] = []
        self.took_s = 0.0

    def run(self, stop: Stop, duration_s: float, at_once: int) -> None:
        """Until all flows are over, or the time is."""
        began = now = time.monotonic()
        while not stop.asked and now < began + duration_s and (self.flows or self.begun < self.count):
            while len(self.flows) < at_once and self.begun < self.count:
                self._begin()
            is_first = not self.after_s
            for fd, _ in self.poller.poll(ATTENTION_S):
                self._go_on(fd, self.flows[fd])
            if is_first and self.after_s:
                say(ANSWERING)
            now = time.monotonic()
            self._give_up(now - self.timeout_s)
        self.took_s = now - began

    def _begin(self) -> None:
        port = None if self.first_port is None else FIRST_PORT + (self.first_port - FIRST_PORT + self.begun) % PORTS
        self.begun += 1
        try:
            flow = Flow(self.target, port)
        except OSError as error:
            self.failed[failure(error)] += 1
            return
        self.flows[flow.link.fileno()] = flow
        self.order.append(flow)
        self.poller.register(flow.link.fileno(), select.EPOLLIN if flow.asked else select.EPOLLOUT)

    def _go_on(self, fd: int, flow: Flow) -> None:
        was_asked = flow.asked
        try:
            source = flow.go_on()
        except BlockingIOError:
            return
        except OSError as error:
            self._end(fd, flow)
            self.failed[failure(error)] += 1
            return
        if source:
            self._end(fd, flow)
            self.sources[source] += 1
            self.after_s.append(time.monotonic() - flow.began)
        elif not was_asked:
            self.poller.modify(fd, select.EPOLLIN)

    def _give_up(self, before: float) -> None:
        while self.order and (self.order[0].link.fileno() < 0 or self.order[0].began < before):
            flow = self.order.popleft()
            if (fd := flow.link.fileno()) >= 0:
                self._end(fd, flow)
                self.failed["timeout"] += 1

    def _end(self, fd: int, flow: Flow) -> None:
        del self.flows[fd]
        flow.link.close()

    def result(self) -> dict[str, object]:
        """The document. What was still under way at the end is not in it."""
        answered = sorted(self.after_s)
        return {
            "mode": "tcp" if self.first_port is None else "udp",
            "wanted": self.count,
            "answered": len(answered),
            "failed": dict(self.failed),
            "sources": dict(self.sources),
            "took_s": round(self.took_s, 3),
            "per_s": round(len(answered) / self.took_s, 1) if self.took_s else None,
            "answer_ms": {"p50": quantile(answered, 0.5, 1e3), "p99": quantile(answered, 0.99, 1e3)},
        }


def main() -> None:
    """Parse, measure, print. At normal priority: it would leave nothing to those whom it measures."""
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=20000, help="flows")
    parser.add_argument("--udp", action="store_true", help="UDP flows, not TCP connections")
    parser.add_argument(
        "--first-port", type=int, default=FIRST_PORT, metavar="PORT", help="source of the first UDP flow"
    )
    parser.add_argument("--at-once", type=int, default=64, metavar="N", help="flows under way at the same time")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="S", help="for the answer to one flow")
    options = parser.parse_args()
    stop = Stop()
    many_files()
    first_port = options.first_port if options.udp else None
    spread = Spread(address(options.target), options.count, first_port=first_port, timeout_s=options.timeout)
    spread.run(stop, options.duration, options.at_once)
    say(json.dumps(spread.result()))


if __name__ == "__main__":
    main()
