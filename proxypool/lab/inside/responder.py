"""The server in a customer's subnet: sends back whatever comes, over UDP and TCP, and tells who asks `WHOAMI`.

python -m proxypool.lab.inside.responder [PORT]
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys

from proxypool.lab.inside.instrument import WHOAMI, hurry, many_files, packed

PORT = 7007
CHUNK = 65536
ACCEPTED_AT_ONCE = 16


def answer(data: bytes, client: tuple[str, int]) -> bytes:
    """To what came in one piece."""
    return packed(client) if data == WHOAMI else data


def echo_datagrams(server: socket.socket) -> None:
    """Answer everything that is queued."""
    with contextlib.suppress(OSError):
        while True:
            data, sender = server.recvfrom(CHUNK)
            server.sendto(answer(data, sender), sender)


class Connection:
    """One TCP client. What cannot be sent at once is kept; nothing more is read meanwhile."""

    def __init__(self, selector: selectors.BaseSelector, link: socket.socket, client: tuple[str, int]) -> None:
        self.selector, self.link, self.client, self.pending = selector, link, client, b""
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.events = selectors.EVENT_READ
        selector.register(link, self.events, self)

    def ready(self) -> None:
        """Read or write, whichever is due; close when the client has gone."""
        try:
            if not self.pending:
                data = self.link.recv(CHUNK)
                if not data:
                    raise ConnectionError
                self.pending = answer(data, self.client)
            self.pending = self.pending[self.link.send(self.pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self.selector.unregister(self.link)
            self.link.close()
            return
        events = selectors.EVENT_WRITE if self.pending else selectors.EVENT_READ
        if events != self.events:
            self.events = events
            self.selector.modify(self.link, events, self)


def accept_waiting(selector: selectors.BaseSelector, listener: socket.socket) -> None:
    """Accept the clients that wait, but not so many that others have to."""
    with contextlib.suppress(OSError):
        for _ in range(ACCEPTED_AT_ONCE):
            Connection(selector, *listener.accept())


def main(port: int) -> None:
    """Serve until killed."""
    hurry()
    many_files()
    selector = selectors.DefaultSelector()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", port))
    datagrams.setblocking(False)
    listener = socket.create_server(("0.0.0.0", port), backlog=4096, reuse_port=True)
    listener.setblocking(False)
    selector.register(datagrams, selectors.EVENT_READ, "datagrams")
    selector.register(listener, selectors.EVENT_READ, "listener")
    while True:
        for key, _ in selector.select():
            if isinstance(key.data, Connection):
                key.data.ready()
            elif key.data == "datagrams":
                echo_datagrams(datagrams)
            else:
                accept_waiting(selector, listener)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PORT)
