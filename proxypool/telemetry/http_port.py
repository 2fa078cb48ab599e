"""A port on which a daemon serves HTTP: `/metrics`, the status page. Slow and idle clients hold up nobody.

A thread for each connection and one request on each. There are so many at most; when all are taken, the one that has
been asking for longest without having said what it wants makes room. Reading a request, all of it together with the
TLS handshake, has a time limit, and so has writing the answer.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from proxypool.core.endpoints import parse_endpoint
from proxypool.core.errors import TransientError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
REQUEST_S = 10.0
"""A request must be there after this, however busily its client sends."""
ANSWER_S = 30.0
"""And each part of the answer must have been taken after this."""
ROOM_S = 0.5
"""So long a connection waits for the place of another one that was told to go."""
POLL_S = 0.2
_Stamp: TypeAlias = tuple[tuple[int, int], ...]


class Certificate:
    """What a port shows of itself with TLS. Files that are renewed are read again."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both.

        Raises:
            TransientError: they cannot be read, or do not fit.
        """
        self._files = (certificate, key)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._stamp = self._look()
            self._context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise TransientError(f"cannot use {certificate} with the key {key} for TLS: {error}") from error

    def _look(self) -> _Stamp:
        return tuple((found.st_mtime_ns, found.st_ino) for found in map(os.stat, self._files))

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection with TLS; nothing is sent or awaited yet."""
        try:
            if (now := self._look()) != self._stamp:
                self._stamp = now
                self._context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            log.warning("the certificate %s was changed and cannot be used: %s", self._files[0], error)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    """Not five: of more who come at once the others would try again a second later."""

    def __init__(self, host: str, port: int, certificate: Certificate | None) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self._certificate = certificate
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._asking: dict[socket.socket, None] = {}
        """Connections whose request is not there yet, oldest first."""
        super().__init__((host.strip("[]"), port), _Handler)

    def server_bind(self) -> None:
        """Without the base class' look at the name service, which may take its time."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment] # an address is a name
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; with TLS the handshake is its own thread's."""
        connection, address = super().get_request()
        return (connection if self._certificate is None else self._certificate.wrap(connection)), address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve it on a thread of its own, if there is room or somebody can be told to go."""
        if not self._room.acquire(blocking=False):
            self._send_somebody_away()
            if not self._room.acquire(timeout=ROOM_S):
                self.shutdown_request(request)
                return
        self._asking[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # No thread could be started.
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its beginning to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: socket.socket) -> None:
        self.has_asked(request)
        self._room.release()

    def has_asked(self, request: socket.socket) -> None:
        """The request was read, or will not be."""
        self._asking.pop(request, None)

    def _send_somebody_away(self) -> None:
        oldest = next(iter(tuple(self._asking)), None)
        if oldest is not None:
            self.has_asked(oldest)
            with suppress(OSError):
                # Not SSLSocket's own, which takes the connection apart under the thread that reads from it.
                socket.socket.shutdown(oldest, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was sent, is no news."""
        del request
        log.debug("a connection of %s ended early: %s", client_address, sys.exc_info()[1])


class _Timed(io.RawIOBase):
    """What a connection sends until a moment of the monotonic clock."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """What has come.

        Raises:
            TimeoutError: the time is over.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Handler(WSGIRequestHandler):
    server: _Server

    def setup(self) -> None:
        """Agree on TLS, and read what comes."""
        deadline = time.monotonic() + REQUEST_S
        self.request.settimeout(REQUEST_S)
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()
        self.rfile = io.BufferedReader(_Timed(self.request, deadline))

    def parse_request(self) -> bool:
        """The request, all of it; from here on the time is the answer's."""
        is_valid = super().parse_request()
        self.server.has_asked(self.request)
        self.request.settimeout(ANSWER_S)
        return is_valid

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
        log.debug(format, *arguments)


class HttpPort:
    """Serves an application until closed."""

    def __init__(self, listen: str, app: WSGIApplication, *, what: str, certificate: Certificate | None = None) -> None:
        """Bind to `address:port` and serve on a thread of its own. `what`: what is served, for people.

        Raises:
            TransientError: the address cannot be bound.
        """
        host, port = parse_endpoint(listen, what=what)
        try:
            self._server = _Server(host, port, certificate)
        except OSError as error:
            raise TransientError(f"cannot serve {what} on {listen}: {error.strerror or error}") from error
        self._server.set_app(app)
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        """Without the haste of the thread that opened it, which a node's main loop is in: packets wait for that one."""
        with suppress(OSError):
            own = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, own, max(0, os.getpriority(os.PRIO_PROCESS, own)))
        self._server.serve_forever(POLL_S)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
