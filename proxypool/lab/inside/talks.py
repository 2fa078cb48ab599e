"""Many TCP connections that talk all the time: how many lived, how long did they stall?

python -m proxypool.lab.inside.talks ADDRESS:PORT [--count N] [--duration S] [--interval-ms MS] [--alive-within S]
"""

from __future__ import annotations

import errno
import heapq
import json
import os
import select
import socket
import time

from proxypool.lab.inside.instrument import ANSWERING, ATTENTION_S, Stop, address, arguments, hurry, quantile, say


class Talk:
    """One TCP connection: sends a number, waits for it to come back, sends the next."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.setblocking(False)
        self.established = False
        self.broken = ""
        self.waiting_since: float | None = time.monotonic()
        self.longest_wait = 0.0
        self.missing = 0
        self.round = 0
        code = self.link.connect_ex(target)
        if code not in (0, errno.EINPROGRESS):
            self.fail(OSError(code, os.strerror(code)))

    def fail(self, error: OSError) -> None:
        """The kernel said that the connection is over."""
        if error.errno in (errno.ECONNRESET, errno.EPIPE):
            self.broken = "reset"
        elif error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
            self.broken = "timeout"
        else:
            self.broken = errno.errorcode.get(error.errno or 0, "closed").lower()
        self.link.close()

    def ask(self, now: float) -> None:
        """Send the next number."""
        self.round += 1
        self.missing = 8
        self.waiting_since = now
        try:
            self.link.send(self.round.to_bytes(8, "big"))
        except OSError as error:
            self.fail(error)

    def hear(self, now: float) -> bool:
        """Read; whether a round, or the connecting, is complete."""
        try:
            if self.established:
                data = self.link.recv(self.missing or 1)
            elif code := self.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.fail(OSError(code, os.strerror(code)))
                return False
            else:
                self.established = True
                self.waiting_since = None
                return True
        except BlockingIOError:
            return False
        except OSError as error:
            self.fail(error)
            return False
        if not data:
            self.fail(OSError(0, "closed by the other end"))
            return False
        self.missing -= len(data)
        if self.missing:
            return False
        self._waited(now)
        return True

    def _waited(self, now: float) -> None:
        if self.waiting_since is not None:
            self.longest_wait = max(self.longest_wait, now - self.waiting_since)
            self.waiting_since = None


class Talks:
    """All connections, one poller."""

    def __init__(self, target: tuple[str, int], count: int, interval_s: float, alive_within_s: float) -> None:
        self.interval_s, self.alive_within_s = interval_s, alive_within_s
        self.talks = [Talk(target) for _ in range(count)]
        self.by_fd = {talk.link.fileno(): talk for talk in self.talks if not talk.broken}
        self.poller = select.epoll()
        for fd in self.by_fd:
            self.poller.register(fd, select.EPOLLOUT)
        self.timers: list[tuple[float, int]] = []

    def run(self, stop: Stop, duration_s: float) -> None:
        """Talk until the time is over."""
        end, answering = time.monotonic() + duration_s, False
        while not stop.asked and (now := time.monotonic()) < end:
            while self.timers and self.timers[0][0] <= now:
                self._ask(heapq.heappop(self.timers)[1], now)
            due = min(end, now + ATTENTION_S, self.timers[0][0] if self.timers else end)
            for fd, _ in self.poller.poll(max(0.0, due - now)):
                self._hear(fd, time.monotonic())
            if not answering and all(talk.broken or talk.round > 1 for talk in self.talks):
                answering = True
                say(ANSWERING)

    def _ask(self, fd: int, now: float) -> None:
        if talk := self.by_fd.get(fd):
            talk.ask(now)
            self._forget_broken(fd, talk)

    def _hear(self, fd: int, now: float) -> None:
        talk = self.by_fd[fd]
        was_established = talk.established
        if talk.hear(now):
            heapq.heappush(self.timers, (now + self.interval_s, fd))
            if not was_established:
                self.poller.modify(fd, select.EPOLLIN)
        self._forget_broken(fd, talk)

    def _forget_broken(self, fd: int, talk: Talk) -> None:
        """A closed descriptor has left the poller by itself, and its number may be used again."""
        if talk.broken:
            self.by_fd.pop(fd, None)

    def result(self) -> dict[str, object]:
        """The document. A connection that still waits at the end has stalled until then; too long, and it hangs."""
        now = time.monotonic()
        broken: dict[str, int] = {}
        alive = hanging = 0
        for talk in self.talks:
            waits = now - talk.waiting_since if talk.waiting_since is not None else 0.0
            if talk.broken:
                broken[talk.broken] = broken.get(talk.broken, 0) + 1
                continue
            talk.longest_wait = max(talk.longest_wait, waits)
            if talk.established and waits <= self.alive_within_s:
                alive += 1
            else:
                hanging += 1
        stalls = sorted(talk.longest_wait for talk in self.talks if talk.established)
        return {
            "mode": "tcp",
            "wanted": len(self.talks),
            "established": sum(talk.established for talk in self.talks),
            "alive": alive,
            "hanging": hanging,
            "broken": broken,
            "stall_ms": {
                "p50": quantile(stalls, 0.5, 1e3),
                "p99": quantile(stalls, 0.99, 1e3),
                "max": quantile(stalls, 1.0, 1e3),
            },
        }


def main() -> None:
    """Parse, measure, print."""
    parser = arguments(__doc__, 50.0)
    parser.add_argument("--count", type=int, default=100, help="connections")
    parser.add_argument("--alive-within", type=float, default=2.0, metavar="S", help="or else a connection hangs")
    options = parser.parse_args()
    stop = Stop()
    hurry()
    talks = Talks(address(options.target), options.count, options.interval_ms / 1e3, options.alive_within)
    talks.run(stop, options.duration)
    say(json.dumps(talks.result()))


if __name__ == "__main__":
    main()
