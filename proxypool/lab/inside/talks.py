"""Many TCP connections that talk all the time: how many lived, how long did they stall, whom does the server see?

python -m proxypool.lab.inside.talks ADDRESS:PORT [--count N] [--rate R] [--lifetime S] [--replace] [--duration S]

The server must be our responder: each connection first asks it who it is. Behind a pair it is the ENI of the pair's
master, so the answer says which pair carries the connection.
"""

from __future__ import annotations

import argparse
import errno
import heapq
import json
import os
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass

from proxypool.lab.inside.instrument import (
    ANSWERING,
    ATTENTION_S,
    WHOAMI,
    Stop,
    address,
    arguments,
    failure,
    hurry,
    many_files,
    quantile,
    say,
    unpacked,
)

CONNECTING = (0, errno.EINPROGRESS)
"""What `connect_ex` returns for a connection that is on its way."""
LATE_S = 0.1
"""Connections that should have been opened this long ago are opened at once; older ones are not made up for."""


class Talk:
    """One TCP connection: asks who it is, then sends a number, waits for it to come back, sends the next."""

    def __init__(self, target: tuple[str, int], number: int) -> None:
        self.number = number
        self.link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.setblocking(False)
        self.fd = self.link.fileno()
        self.opened_at = time.monotonic()
        self.established_at: float | None = None
        self.over_at: float | None = None
        self.over = ""
        """`ended` by us, or why it broke."""
        self.source: tuple[str, int] | None = None
        self.waiting_since: float | None = self.opened_at
        self.longest_wait = 0.0
        self.answer = b""
        self.round = 0
        code = self.link.connect_ex(target)
        if code not in CONNECTING:
            self.fail(OSError(code, os.strerror(code)))

    @property
    def broken(self) -> bool:
        """Whether it is over, and not by our will."""
        return self.over not in ("", "ended")

    def fail(self, error: OSError) -> None:
        """The kernel said that the connection is over."""
        self._close(failure(error))

    def end(self) -> None:
        """It has talked long enough."""
        self._close("ended")

    def ask(self, now: float) -> None:
        """Send the next number; first of all the question."""
        self.answer = b""
        self.waiting_since = now
        try:
            self.link.send(self.round.to_bytes(len(WHOAMI), "big") if self.round else WHOAMI)
        except OSError as error:
            self.fail(error)
        self.round += 1

    def hear(self, now: float) -> bool:
        """Read; whether a round, or the connecting, is complete."""
        try:
            if self.established_at is not None:
                data = self.link.recv(len(WHOAMI) - len(self.answer) or 1)
            elif code := self.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.fail(OSError(code, os.strerror(code)))
                return False
            else:
                self.established_at, self.waiting_since = now, None
                return True
        except BlockingIOError:
            return False
        except OSError as error:
            self.fail(error)
            return False
        if not data:
            self.fail(OSError(0, "closed by the other end"))
            return False
        self.answer += data
        if len(self.answer) < len(WHOAMI):
            return False
        self.source = self.source or unpacked(self.answer)
        self._waited(now)
        return True

    def state(self, now: float, alive_within_s: float) -> str:
        """`alive`, `hanging`, `ended`, or why it broke."""
        if self.over:
            return self.over
        waits = now - self.waiting_since if self.waiting_since is not None else 0.0
        return "alive" if self.established_at is not None and waits <= alive_within_s else "hanging"

    def stall(self, now: float) -> float:
        """Its longest wait for an answer, in s. One that still waits has stalled until now."""
        waits = now - self.waiting_since if self.waiting_since is not None and not self.broken else 0.0
        return max(self.longest_wait, waits)

    def _waited(self, now: float) -> None:
        if self.waiting_since is not None:
            self.longest_wait = max(self.longest_wait, now - self.waiting_since)
            self.waiting_since = None

    def _close(self, why: str) -> None:
        self.over, self.over_at = why, time.monotonic()
        self.link.close()


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    target: tuple[str, int]
    count: int
    interval_s: float
    alive_within_s: float = 2.0
    rate: float = 0.0
    """Connections opened per second; 0: all at once."""
    lifetime_s: float | None = None
    """How long a connection talks before we end it."""
    replace: bool = False
    """Open another connection for each that broke or ended."""
    ready: int | None = None
    """Say that answers come when so many connections have had one, or broke before; None: all."""


class Talks:
    """All connections, one poller."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.talks: list[Talk] = []
        self.by_fd: dict[int, Talk] = {}
        self.poller = select.epoll()
        self.timers: list[tuple[float, int]] = []
        """When it is the turn of which talk, by its number."""
        self.open_at = time.monotonic()
        self.started = 0
        """Connections that have had an answer, or broke before."""

    def run(self, stop: Stop, duration_s: float) -> None:
        """Talk until the time is over."""
        end, answering = time.monotonic() + duration_s, False
        ready = self.plan.count if self.plan.ready is None else self.plan.ready
        while not stop.asked and (now := time.monotonic()) < end:
            self._open_due(now)
            while self.timers and self.timers[0][0] <= now:
                self._ask(self.talks[heapq.heappop(self.timers)[1]], now)
            due = min(end, now + ATTENTION_S, self.timers[0][0] if self.timers else end)
            if self._may_open():
                due = min(due, self.open_at)
            for fd, _ in self.poller.poll(max(0.0, due - now)):
                self._hear(self.by_fd[fd], time.monotonic())
            if not answering and self.started >= ready:
                answering = True
                say(ANSWERING)

    def _may_open(self) -> bool:
        return len(self.by_fd if self.plan.replace else self.talks) < self.plan.count

    def _open_due(self, now: float) -> None:
        while self._may_open() and self.open_at <= now:
            talk = Talk(self.plan.target, len(self.talks))
            self.talks.append(talk)
            if self.plan.rate:
                self.open_at = max(self.open_at + 1 / self.plan.rate, now - LATE_S)
            if talk.over:
                self.started += 1
                continue
            self.by_fd[talk.fd] = talk
            self.poller.register(talk.fd, select.EPOLLOUT)

    def _ask(self, talk: Talk, now: float) -> None:
        if talk.over:
            return
        if self.plan.lifetime_s is not None and now - talk.opened_at >= self.plan.lifetime_s:
            talk.end()
        else:
            talk.ask(now)
        self._forget_closed(talk)

    def _hear(self, talk: Talk, now: float) -> None:
        was_established, was_known = talk.established_at is not None, talk.source is not None
        if talk.hear(now):
            # The first question comes at once: a connection is of use when it is known whom it talks through.
            heapq.heappush(self.timers, (now + self.plan.interval_s if talk.source else now, talk.number))
            if not was_established:
                self.poller.modify(talk.fd, select.EPOLLIN)
        if not was_known and (talk.source or talk.over):
            self.started += 1
        self._forget_closed(talk)

    def _forget_closed(self, talk: Talk) -> None:
        """A closed descriptor has left the poller by itself, and its number may be used again."""
        if talk.over:
            self.by_fd.pop(talk.fd, None)

    def result(self) -> dict[str, object]:
        """The document. A connection that waits at the end has stalled until then; too long, and it hangs."""
        now = time.monotonic()
        states = Counter(talk.state(now, self.plan.alive_within_s) for talk in self.talks)
        stalls = sorted(talk.stall(now) for talk in self.talks if talk.established_at is not None)
        connects = sorted(talk.established_at - talk.opened_at for talk in self.talks if talk.established_at)
        return {
            "mode": "tcp",
            "wanted": self.plan.count,
            "opened": len(self.talks),
            "established": len(connects),
            "alive": states.pop("alive", 0),
            "hanging": states.pop("hanging", 0),
            "ended": states.pop("ended", 0),
            "broken": dict(states),
            "sources": dict(Counter(talk.source[0] for talk in self.talks if talk.source)),
            "stall_ms": _quantiles(stalls),
            "connect_ms": _quantiles(connects),
            "connections": [self._record(talk, now) for talk in self.talks],
        }

    def _record(self, talk: Talk, now: float) -> dict[str, object]:
        """One connection."""
        return {
            "opened": round(talk.opened_at, 6),
            "established": round(talk.established_at, 6) if talk.established_at is not None else None,
            "over": round(talk.over_at, 6) if talk.over_at is not None else None,
            "state": talk.state(now, self.plan.alive_within_s),
            "source": talk.source[0] if talk.source else None,
            "stall_ms": round(talk.stall(now) * 1e3, 3),
        }


def _quantiles(ordered_s: list[float]) -> dict[str, float | None]:
    return {name: quantile(ordered_s, share, 1e3) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def main() -> None:
    """Parse, measure, print."""
    options = _options()
    stop = Stop()
    hurry()
    many_files()
    plan = Plan(
        address(options.target),
        options.count,
        options.interval_ms / 1e3,
        options.alive_within,
        options.rate,
        options.lifetime,
        options.replace,
        options.ready,
    )
    talks = Talks(plan)
    talks.run(stop, options.duration)
    say(json.dumps(talks.result()))


def _options() -> argparse.Namespace:
    parser = arguments(__doc__, 50.0)
    parser.add_argument("--count", type=int, default=100, help="connections at the same time")
    parser.add_argument("--alive-within", type=float, default=2.0, metavar="S", help="or else a connection hangs")
    parser.add_argument("--rate", type=float, default=0.0, metavar="R", help="opened per second; default: all at once")
    parser.add_argument("--lifetime", type=float, metavar="S", help="end each connection after so long")
    parser.add_argument("--replace", action="store_true", help="open another one for each that broke or ended")
    parser.add_argument("--ready", type=int, metavar="N", help="so many have an answer when we say that answers come")
    options = parser.parse_args()
    if options.replace and not options.rate:
        parser.error("--replace needs a --rate: else it would open connections as fast as they are refused")
    return options


if __name__ == "__main__":
    main()
