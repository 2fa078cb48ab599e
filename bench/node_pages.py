"""One HTTP server that answers for a thousand nodes: each has an address of its own on the loopback.

A page has what the controller asks a node for (`name[]=…`), in the format in which a node writes it, and numbers that
go on as those of traffic do. What a node needs to make it is not simulated.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address

from bench.big_pool import node_address
from proxypool.core.scaling.series import COUNTERS, PORTS_PER_DESTINATION, NodeSeries, Series

LOOK_S = 2.0
"""A node reads its counters every second tick of a second."""
LIMIT = 262_144
PER_S = {
    Series.CONNECTIONS: 100.0,
    Series.RECEIVED_BYTES: 1e6,
    Series.RECEIVED_PACKETS: 1400.0,
    Series.SENT_BYTES: 1e6,
    Series.SENT_PACKETS: 1400.0,
}
_NODE_LIMITS = {
    NodeSeries.BYTES_LIMIT: 3.125e9,
    NodeSeries.PACKETS_LIMIT: 1e6,
    NodeSeries.CONNECTIONS_LIMIT: 50_000.0,
    NodeSeries.PORTS_INTERVAL: 30.0,
}
_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
_GROWING = (Series.CLOCK, *PER_S)


@dataclass(frozen=True, slots=True)
class Member:
    """Of a pair, on a node."""

    subnet: str
    pair: str
    is_master: bool
    fullness: float
    """Of its connection table; 1.0 is all that it can carry."""


class Pages:
    """See the module's text."""

    def __init__(self) -> None:
        """Listens; nobody is answered before `start`."""
        self.members: dict[int, list[Member]] = defaultdict(list)
        """By node."""
        self.served = 0
        self._listener = socket.create_server(("0.0.0.0", 0), backlog=4096)  # noqa: S104 - see `_accept`
        self.port: int = self._listener.getsockname()[1]
        self._began = time.time()
        self._thread = threading.Thread(target=self._run, name="pages", daemon=True)

    def serve(self, node: int, member: Member) -> None:
        """This node has such a member from now on."""
        self.members[node].append(member)

    def start(self) -> None:
        """On a thread of its own."""
        self._thread.start()

    def page(self, node: int) -> bytes:
        """What this node says now."""
        now = time.time() - self._began
        looked_at = now - now % LOOK_S
        text = [f"{series} {value}\n" for series, value in _NODE_LIMITS.items()]
        growing = tuple(looked_at * rate for rate in (1.0, *PER_S.values()))
        idle = (looked_at, *[0.0] * len(PER_S))
        for member in self.members.get(node, ()):
            values = growing if member.is_master else idle
            text.append(_template(member, self._began) % (*values, now - looked_at))
        return "".join(text).encode()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    link = key.fileobj
                    assert isinstance(link, socket.socket)
                    if link is self._listener:
                        self._accept(selector)
                    else:
                        selector.unregister(link)
                        self._answer(link)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        link, _ = self._listener.accept()
        if not IPv4Address(link.getsockname()[0]).is_loopback:
            # Somebody from outside: it listens on every address because a thousand are too many to listen on each.
            link.close()
            return
        selector.register(link, selectors.EVENT_READ)

    def _answer(self, link: socket.socket) -> None:
        with link:
            try:
                link.recv(1 << 14)
                node = int(IPv4Address(link.getsockname()[0])) - int(node_address(0))
                body = self.page(node)
                link.sendall(_HEAD % len(body) + body)
            except OSError:
                return
        self.served += 1


@cache
def _template(member: Member, since: float) -> str:
    """With places for the numbers that grow, in the order of `_GROWING`, and for their age."""
    labels = f'{{subnet="{member.subnet}",pair="{member.pair}"}}'
    fixed = {
        Series.MASTER: float(member.is_master),
        Series.SINCE: since,
        Series.CONNTRACK: member.fullness * LIMIT if member.is_master else 0.0,
        Series.CONNTRACK_LIMIT: LIMIT,
        Series.ENI_LIMIT: 1.25e9,
        Series.PORTS: 900.0,
        Series.PORTS_LIMIT: PORTS_PER_DESTINATION,
        Series.PORTS_AGE: 5.0,
        Series.PORTS_COST: 0.01,
        **{series: 0.0 for series in COUNTERS if series not in _GROWING},
    }
    lines = [f"{series}{labels} %r\n" for series in _GROWING]
    lines.append(f"{Series.AGE}{labels} %r\n")
    lines += [f"{series}{labels} {value}\n" for series, value in fixed.items()]
    return "".join(lines)
