"""Gives packets of a netfilter queue back later, each after a time of its own, so that they overtake each other.

python -m proxypool.lab.inside.delayer QUEUE DELAY_MS JITTER_MS

Messages: linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import select
import socket
import struct
import sys
import time

from proxypool.lab.inside.instrument import hurry, say

NETLINK_NETFILTER, QUEUE_SUBSYSTEM = 12, 3
PACKET, VERDICT, CONFIG = 0, 1, 2
CFG_CMD, CFG_PARAMS, CFG_MAXLEN = 1, 2, 3
PACKET_HEADER, VERDICT_HEADER = 1, 2
BIND, COPY_META, ACCEPT = 1, 1, 1
REQUEST = 1
HEADER, GENERAL = struct.Struct("=IHHII"), struct.Struct(">BBH")
LONGEST_QUEUE = 65536


class Delayer:
    """One queue."""

    def __init__(self, queue: int, delay_s: float, jitter_s: float) -> None:
        self.queue, self.delay_s, self.jitter_s = queue, delay_s, jitter_s
        self.dice = random.Random(queue)  # noqa: S311 - jitter, no secret
        self.due: list[tuple[float, int]] = []
        self.link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.link.bind((0, 0))
        self._send(CONFIG, _attribute(CFG_CMD, struct.pack(">BBH", BIND, 0, socket.AF_INET)))
        self._send(CONFIG, _attribute(CFG_PARAMS, struct.pack(">IB", 0, COPY_META)))
        self._send(CONFIG, _attribute(CFG_MAXLEN, struct.pack(">I", LONGEST_QUEUE)))
        self.link.setblocking(False)

    def _send(self, kind: int, body: bytes) -> None:
        payload = GENERAL.pack(socket.AF_UNSPEC, 0, self.queue) + body
        self.link.send(HEADER.pack(HEADER.size + len(payload), QUEUE_SUBSYSTEM << 8 | kind, REQUEST, 0, 0) + payload)

    def run(self) -> None:
        """Until killed; then the kernel drops what is in the queue, and lets everything after it through."""
        while True:
            wait = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            if select.select([self.link], [], [], wait)[0]:
                self._take()
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                _, number = heapq.heappop(self.due)
                self._send(VERDICT, _attribute(VERDICT_HEADER, struct.pack(">II", ACCEPT, number)))

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self.link.recv(1 << 16)
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    continue  # not all of them had room: the kernel dropped some
                now = time.monotonic()
                for number in _packets(data):
                    heapq.heappush(self.due, (now + self.delay_s + self.dice.random() * self.jitter_s, number))


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _packets(data: bytes) -> list[int]:
    """Numbers of the packets in what was received."""
    found, at = [], 0
    while at + HEADER.size <= len(data):
        size, kind, *_ = HEADER.unpack_from(data, at)
        place, end = at + HEADER.size + GENERAL.size, at + size
        while kind == QUEUE_SUBSYSTEM << 8 | PACKET and place + 4 <= end:
            length, name = struct.unpack_from("=HH", data, place)
            if name == PACKET_HEADER:
                found.append(struct.unpack_from(">I", data, place + 4)[0])
                break
            place += length + 3 & ~3
        at += size + 3 & ~3 or len(data)
    return found


def main(queue: int, delay_s: float, jitter_s: float) -> None:
    """Open the queue, say so, go on until killed."""
    delayer = Delayer(queue, delay_s, jitter_s)
    hurry()
    say("ready")
    sys.stdout.close()
    delayer.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) / 1e3, float(sys.argv[3]) / 1e3)
