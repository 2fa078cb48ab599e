"""The server in a customer's subnet: sends back whatever comes, over UDP and TCP.

python -m proxypool.lab.inside.responder [PORT]
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys

from proxypool.lab.inside.instrument import hurry

PORT = 7007
CHUNK = 65536


def echo_datagrams(server: socket.socket) -> None:
    """Answer everything that is queued."""
    with contextlib.suppress(OSError):
        while True:
            data, sender = server.recvfrom(CHUNK)
            server.sendto(data, sender)


class Connection:
    """One TCP client. What cannot be sent at once is kept; nothing more is read meanwhile."""

    def __init__(self, selector: selectors.BaseSelector, link: socket.socket) -> None:
        self.selector, self.link, self.pending = selector, link, b""
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(link, selectors.EVENT_READ, self)

    def ready(self) -> None:
        """Read or write, whichever is due; close when the client has gone."""
        try:
            if not self.pending:
                self.pending = self.link.recv(CHUNK)
                if not self.pending:
                    raise ConnectionError
            self.pending = self.pending[self.link.send(self.pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self.selector.unregister(self.link)
            self.link.close()
            return
        self.selector.modify(self.link, selectors.EVENT_WRITE if self.pending else selectors.EVENT_READ, self)


def main(port: int) -> None:
    """Serve until killed."""
    hurry()
    selector = selectors.DefaultSelector()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", port))
    datagrams.setblocking(False)
    listener = socket.create_server(("0.0.0.0", port), backlog=1024, reuse_port=True)
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
                with contextlib.suppress(OSError):
                    Connection(selector, listener.accept()[0])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PORT)
