"""kazoo's threads and sockets, with six things that kazoo lacks.

- The connection can be cut without closing the session: kazoo's own `stop` ends the session and its ephemerals.
- The time of the last word from a server is noted.
- A server that swallows packets must not cost the whole session: kazoo waits one session timeout for each TCP connect,
  and as long for the first answer of a server that accepts connections before it is ready to serve.
- TLS that checks the server's name, and does not wait for the wire while the library has messages already.
- A thread that ends by an error that kazoo did not expect is told of in the log, and is no defect of ours that a daemon
  would have to end for: kazoo says that its client is closed, and `session` makes another.
- `select` by poll(2): kazoo's makes an epoll instance for each of the four calls that one request takes.
"""

from __future__ import annotations

import errno
import logging
import select as select_module
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler

from proxypool.core.errors import ProxypoolError

log = logging.getLogger(__name__)

_READ = select_module.POLLIN | select_module.POLLPRI
_FAILED = select_module.POLLERR | select_module.POLLHUP | select_module.POLLNVAL


class PoolHandler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo is untyped
    """See the module's text."""

    def __init__(
        self,
        connect_timeout_s: float,
        answer_timeout_s: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """How long to wait for a TCP connect, and for the first word of a server after it. `tls`: makes what a
        connection is protected by; None: nothing.
        """
        super().__init__()
        self._tls = tls
        self.tls_problem = ""
        """Why the last connection was not made although the server listens; empty: it was."""
        self._connect_timeout_s, self._answer_timeout_s = connect_timeout_s, answer_timeout_s
        self._socket: socket.socket | None = None
        self._has_spoken = False
        """Whether the server of this connection has sent anything yet."""
        self._is_cut = threading.Event()
        self.last_contact: float | None = None
        """Monotonic time at which a server's last byte could be read; None before the first."""

    def spawn(self, func: Callable[..., object], *args: Any, **kwargs: Any) -> threading.Thread:
        """Start a thread."""

        def run() -> None:
            try:
                func(*args, **kwargs)
            except Exception:
                log.exception("a thread of the ZooKeeper client has ended")

        thread: threading.Thread = super().spawn(run)
        return thread

    def create_connection(self, *args: Any, **kwargs: Any) -> socket.socket:
        """Connect to a server.

        Raises:
            OSError: it cannot be reached in time, or the connection was cut for good.
        """
        if self._is_cut.is_set():
            raise ConnectionAbortedError("the session is being left")
        timeout_s = kwargs.get("timeout")
        kwargs["timeout"] = self._connect_timeout_s if timeout_s is None else min(timeout_s, self._connect_timeout_s)
        began = time.monotonic()
        made: socket.socket = super().create_connection(*args, **kwargs)
        if self._tls is not None:
            made = self._wrapped(made, self._tls, str(kwargs.get("hostname") or ""), began)
        self._socket, self._has_spoken = made, False
        if self._is_cut.is_set():
            self._shut_down()
        return made

    def _wrapped(
        self, plain: socket.socket, tls: Callable[[], ssl.SSLContext], name: str, began: float
    ) -> socket.socket:
        """With TLS. kazoo's own way checks no name; the handshake has the time of a server's first answer."""
        try:
            plain.settimeout(max(0.05, began + self._answer_timeout_s - time.monotonic()))
            wrapped = tls().wrap_socket(plain, server_hostname=name)
        except (OSError, ProxypoolError) as error:
            plain.close()
            self.tls_problem = str(error)
            raise ConnectionAbortedError(str(error)) from error
        self.tls_problem = ""
        return wrapped

    def select(
        self,
        readers: Sequence[Any],
        writers: Sequence[Any],
        _exceptional: Sequence[Any],
        timeout_s: float | None = None,
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """As select.select."""
        # Taken off the wire, and waiting in the library: the descriptor will not tell of it.
        decoded = [item for item in readers if isinstance(item, ssl.SSLSocket) and item.pending()]
        poll = select_module.poll()
        by_descriptor = {}
        for items, events in ((readers, _READ), (writers, select_module.POLLOUT)):
            for item in items:
                descriptor = item.fileno()
                if descriptor < 0:
                    raise OSError(errno.EBADF, "the socket is closed")
                poll.register(descriptor, events)
                by_descriptor[descriptor] = item
        if not self._has_spoken and list(readers) == [self._socket] and timeout_s is not None:
            # The answer to the connect request; kazoo takes a time-out here for a broken connection, and tries again.
            timeout_s = min(timeout_s, self._answer_timeout_s)
        if decoded:
            timeout_s = 0
        ready = poll.poll(None if timeout_s is None else max(0, timeout_s) * 1000)
        readable = [
            by_descriptor[at] for at, events in ready if events & (_READ | _FAILED) and by_descriptor[at] in readers
        ]
        writable = [by_descriptor[at] for at, events in ready if by_descriptor[at] in writers]
        readable += [item for item in decoded if item not in readable]
        if self._socket in readable:
            self.last_contact = time.monotonic()
            self._has_spoken = True
        return readable, writable, []

    def cut(self) -> None:
        """Drop the connection for good, without a word to the server: the session lives on until it times out."""
        self._is_cut.set()
        self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return
