"""Asks many nodes for what their pairs use, all at the same time: `/metrics` of each, only the series that are needed.

One thread and a selector instead of a pool of threads: a node that does not answer holds a socket, not a thread, so
many dead ones delay nobody, and a time limit holds for an exchange as a whole, however slowly its bytes come. HTTP/1.0,
which every server speaks and which has no chunks.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from urllib.parse import urlencode

from proxypool.core.discovery import has_reachable_metrics
from proxypool.core.endpoints import parse_endpoint
from proxypool.core.model import NodeSpec
from proxypool.core.scaling.exposition import NoSeries, PageReader
from proxypool.core.scaling.series import Answer, NodeSample, NodeSeries, Series, Unread

MAX_BYTES = 8 << 20
"""Of an answer. A node of 200 members has 0.3 MB."""
_RECEIVE_BYTES = 1 << 18
_OK = b"200"
_PATH = "/metrics?" + urlencode([("name[]", str(series)) for series in (*Series, *NodeSeries)])


class _Failed(Exception):
    def __init__(self, why: Unread) -> None:
        self.why = why


@dataclass(slots=True)
class _Exchange:
    """With one node."""

    node: str
    link: socket.socket
    unsent: bytes
    opened_at: float
    deadline: float
    received: bytearray
    asked_at: float = 0.0
    is_shaken: bool = True
    """Whether the handshake of TLS is over, or there is none."""


class Scraper:
    """Remembers who did not answer in time, to ask those last. One thread at a time."""

    def __init__(
        self,
        timeout_s: float = 2.0,
        connect_timeout_s: float = 1.0,
        at_once: int = 128,
        max_bytes: int = MAX_BYTES,
        tls: Callable[[], ssl.SSLContext] | None = None,
        token: Callable[[], str] | None = None,
    ) -> None:
        """`timeout_s` for an exchange as a whole, `connect_timeout_s` of it for the connection; so many `at_once`.

        With `tls`, which makes what a connection is protected by, no node is asked without; a `token` is sent only so.
        """
        self._tls, self._token = tls, token
        self._context: ssl.SSLContext | None = None
        self._head = b""
        self._timeout_s, self._connect_timeout_s = timeout_s, connect_timeout_s
        self._at_once, self._max_bytes = at_once, max_bytes
        self._silent: set[str] = set()
        self._readers: dict[str, PageReader] = {}

    def read(self, nodes: Iterable[NodeSpec]) -> dict[str, Answer]:
        """A sample of each node, or why there is none.

        It takes as long as the slowest who answers, but at most `timeout_s` for each `at_once` of those who do not.

        Raises:
            PermanentError: the files for TLS, or the token, cannot be used.
        """
        # Of each round anew: certificates and tokens are replaced.
        self._context = self._tls() if self._tls is not None else None
        self._head = f"Authorization: Bearer {self._token()}\r\n".encode() if self._token is not None else b""
        found: dict[str, Answer] = {}
        waiting = deque(sorted(nodes, key=lambda spec: spec.id in self._silent))
        self._readers = {spec.id: self._readers.get(spec.id) or PageReader() for spec in waiting}
        with selectors.DefaultSelector() as selector:
            while waiting or selector.get_map():
                while waiting and len(selector.get_map()) < self._at_once:
                    spec = waiting.popleft()
                    try:
                        exchange = self._open(spec)
                    except _Failed as failure:
                        found[spec.id] = failure.why
                    else:
                        selector.register(exchange.link, selectors.EVENT_WRITE, exchange)
                self._turn(selector, found)
        self._silent = {node for node, answer in found.items() if answer is Unread.TIMEOUT}
        return found

    def _open(self, spec: NodeSpec) -> _Exchange:
        address = _address_of(spec)
        if spec.metrics_tls is not (self._context is not None):
            # Either it cannot be checked, or it would be asked in the clear by somebody who does not want that.
            raise _Failed(Unread.UNTRUSTED)
        try:
            link = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise _Failed(Unread.UNREACHABLE) from error
        code = link.connect_ex(address)
        if code not in {0, errno.EINPROGRESS}:
            link.close()
            raise _Failed(Unread.UNREACHABLE)
        head = f"GET {_PATH} HTTP/1.0\r\nHost: {spec.metrics}\r\nAccept: text/plain\r\n".encode()
        now = time.monotonic()
        exchange = _Exchange(
            spec.id, link, head + self._head + b"\r\n", now, now + self._connect_timeout_s, bytearray()
        )
        if self._context is not None:
            exchange.is_shaken = False
        return exchange

    def _turn(self, selector: selectors.BaseSelector, found: dict[str, Answer]) -> None:
        """Wait for something to happen, and see to it."""
        open_ones: list[_Exchange] = [key.data for key in selector.get_map().values()]
        nearest = min((exchange.deadline for exchange in open_ones), default=0.0)
        ready = {key.fd for key, _ in selector.select(max(0.0, nearest - time.monotonic()))}
        now = time.monotonic()
        for exchange in open_ones:
            try:
                answer = self._step(exchange, selector, now) if exchange.link.fileno() in ready else None
            except _Failed as failure:
                answer = failure.why
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                if isinstance(wanted, ssl.SSLError):
                    is_read = isinstance(wanted, ssl.SSLWantReadError)
                    selector.modify(exchange.link, selectors.EVENT_READ if is_read else selectors.EVENT_WRITE, exchange)
                answer = None
            except ssl.SSLCertVerificationError:
                answer = Unread.UNTRUSTED
            except OSError:
                answer = Unread.UNREACHABLE
            if answer is None and now >= exchange.deadline:
                answer = Unread.TIMEOUT
            if answer is not None:
                found[exchange.node] = answer
                selector.unregister(exchange.link)
                exchange.link.close()

    def _step(self, exchange: _Exchange, selector: selectors.BaseSelector, now: float) -> Answer | None:
        """None: it is not over."""
        if exchange.unsent:
            code = exchange.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            exchange.deadline = exchange.opened_at + self._timeout_s
            self._shake(exchange, selector)
            exchange.unsent = exchange.unsent[exchange.link.send(exchange.unsent) :]
            if not exchange.unsent:
                exchange.asked_at = now
            is_asked = not exchange.unsent
            selector.modify(exchange.link, selectors.EVENT_READ if is_asked else selectors.EVENT_WRITE, exchange)
            return None
        while True:
            data = exchange.link.recv(_RECEIVE_BYTES)
            if not data:
                return _sample(exchange, self._readers[exchange.node])
            exchange.received += data
            if len(exchange.received) > self._max_bytes:
                raise _Failed(Unread.TOO_LARGE)
            if not (isinstance(exchange.link, ssl.SSLSocket) and exchange.link.pending()):
                return None

    def _shake(self, exchange: _Exchange, selector: selectors.BaseSelector) -> None:
        """Agree on TLS, if need be; raises what says that more must come or go first."""
        if exchange.is_shaken or self._context is None:
            return
        if not isinstance(exchange.link, ssl.SSLSocket):
            plain, host = exchange.link, exchange.link.getpeername()[0]
            selector.unregister(plain)
            exchange.link = self._context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            selector.register(exchange.link, selectors.EVENT_READ, exchange)
        exchange.link.do_handshake()
        exchange.is_shaken = True


def _address_of(spec: NodeSpec) -> tuple[str, int]:
    """An address, not a name: whoever looks names up may wait for long."""
    if not has_reachable_metrics(spec):
        raise _Failed(Unread.NO_ADDRESS)
    host, port = parse_endpoint(spec.metrics, what="metrics")
    try:
        IPv4Address(host)
    except AddressValueError as error:
        raise _Failed(Unread.NO_ADDRESS) from error
    return host, port


def _sample(exchange: _Exchange, reader: PageReader) -> NodeSample:
    """The moment is that of the question: numbers seem older by the time that the answer took, never younger."""
    head, _, body = bytes(exchange.received).partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    words = status.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):  # noqa: PLR2004 - protocol and code
        raise _Failed(Unread.GARBAGE)
    if words[1] != _OK:
        raise _Failed(Unread.REFUSED)
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    length = fields.get(b"content-length")
    if not body.endswith(b"\n") or (length is not None and length != str(len(body)).encode()):
        raise _Failed(Unread.GARBAGE)
    try:
        limits, members = reader.read(body.decode())
    except (UnicodeDecodeError, NoSeries) as error:
        raise _Failed(Unread.GARBAGE) from error
    return NodeSample(exchange.node, exchange.asked_at, limits, members)
