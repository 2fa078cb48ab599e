"""ZooKeeper's protocol with hardly any cost of our own: many sessions on one thread, to see what the servers bear.

Only what the measurements need: connect, read with a watch, write, set many watches at once. Not a client: it does not
reconnect or ping, and whatever goes wrong is an error.
"""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from proxypool.lab.errors import LabError

GET, SET, SET_WATCHES = 4, 5, 101
SET_WATCHES_XID, EVENT_XID = -8, -1
_INT, _HEAD, _REPLY = struct.Struct("!i"), struct.Struct("!ii"), struct.Struct("!iqi")
RECEIVE_BYTES = 1 << 16
CONNECT_WITHIN_S = 30.0
ANY_VERSION = -1


def _text(value: bytes) -> bytes:
    return _INT.pack(len(value)) + value


def _frame(body: bytes) -> bytes:
    return _INT.pack(len(body)) + body


def get_request(xid: int, path: str, *, is_watched: bool) -> bytes:
    """Read a node."""
    return _frame(_HEAD.pack(xid, GET) + _text(path.encode()) + bytes([is_watched]))


def set_request(xid: int, path: str, data: bytes) -> bytes:
    """Write a node, whatever its version."""
    return _frame(_HEAD.pack(xid, SET) + _text(path.encode()) + _text(data) + _INT.pack(ANY_VERSION))


def watches_request(paths: Sequence[str], since: int) -> bytes:
    """Watch the data of nodes that did not change since this zxid; those that did are told at once."""
    found = b"".join(_text(path.encode()) for path in paths)
    none = _INT.pack(0)
    body = struct.pack("!q", since) + _INT.pack(len(paths)) + found + none + none
    return _frame(_HEAD.pack(SET_WATCHES_XID, SET_WATCHES) + body)


class Link:
    """A session. Replies are taken by `take`, in the order in which they come."""

    def __init__(self, port: int, timeout_ms: int) -> None:
        """Connect.

        Raises:
            LabError: the server does not answer, or refuses.
        """
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), CONNECT_WITHIN_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.sendall(_frame(struct.pack("!iqiq", 0, 0, timeout_ms, 0) + _text(bytes(16)) + b"\0"))
            (length,) = _INT.unpack(self._exactly(_INT.size))
            body = self._exactly(length)
        except OSError as error:
            raise LabError(f"ZooKeeper at port {port} does not answer: {error}") from error
        if struct.unpack_from("!i", body, 4) == (0,):
            raise LabError(f"ZooKeeper at port {port} gives no session")
        self._rest = b""

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            data = self.socket.recv(count - len(found))
            if not data:
                raise OSError("closed")
            found += data
        return found

    def send(self, data: bytes) -> None:
        """Requests; blocks while the server does not take them."""
        self.socket.sendall(data)

    def take(self) -> list[tuple[int, int]]:
        """What has come, at least something: xid and error of each reply."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise LabError("ZooKeeper closed a session")
        data = self._rest + data
        found, at = [], 0
        while len(data) - at >= _INT.size:
            (length,) = _INT.unpack_from(data, at)
            if len(data) - at - _INT.size < length:
                break
            xid, _, error = _REPLY.unpack_from(data, at + _INT.size)
            found.append((xid, error))
            at += _INT.size + length
        self._rest = data[at:]
        return found

    def close(self) -> None:
        """The server ends the session when its time is over."""
        self.socket.close()


class Swarm:
    """Many sessions, spread over the servers."""

    def __init__(self, ports: Sequence[int], count: int, timeout_ms: int) -> None:
        """All connected one after the other."""
        self.links = [Link(ports[at % len(ports)], timeout_ms) for at in range(count)]
        self._selector = selectors.DefaultSelector()
        for link in self.links:
            self._selector.register(link.socket, selectors.EVENT_READ, link)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for link in self.links:
            link.close()

    def send(self, data: bytes) -> None:
        """The same from all of them."""
        for link in self.links:
            link.send(data)

    def wait(
        self, count: int, xids: Iterable[int], within_s: float, then: Callable[[Link], None] | None = None
    ) -> None:
        """Until so many replies with one of these xids have come; `then` is called with the session of each.

        Raises:
            LabError: not within that time, or one is an error.
        """
        wanted = frozenset(xids)
        while count > 0:
            ready = self._selector.select(within_s)
            if not ready:
                raise LabError(f"{count} replies of ZooKeeper are missing")
            for key, _ in ready:
                link: Link = key.data
                for xid, error in link.take():
                    if error:
                        raise LabError(f"ZooKeeper answers {error}")
                    if xid in wanted:
                        count -= 1
                        if then is not None:
                            then(link)
