"""The unix socket of the local API, and its threads.

Who may attach is asked of the kernel, for each connection: root, and the users and the group that the configuration
names. A thread for each connection, with a time limit; several requests may follow each other on one. Of those who may
not, a few at a time are told so, and have little time; of all others too there are so many at most.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Collection
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from proxypool import __version__
from proxypool.core.errors import TransientError
from proxypool.daemons.host_api import HostApi, Request
from proxypool.daemons.peers import Guests, Peer, peer_of
from proxypool.web.answers import Answer, problem

log = logging.getLogger(__name__)

IDLE_S = 60.0
"""A connection without a request for so long is closed."""
MAX_BODY_BYTES = 4 << 20
STRANGER_S = 2.0
"""So long a connection of somebody who may not use it is kept, so that they can be told."""
MAX_STRANGERS = 8
MAX_GUESTS = 1024
"""Connections; beyond that the next ones are closed at once. A host has a few runtimes, each with a few."""
_LENGTH_DIGITS = 18
"""Of a length: Python refuses to read numbers of thousands of digits."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server_version = f"proxypool/{__version__}"
    sys_version = ""
    wbufsize = -1
    """Head and body in one write."""
    server: _Server

    def setup(self) -> None:
        """Ask the kernel who it is."""
        self.peer = peer_of(self.request)
        self.is_welcome = self.server.guests.welcome(self.peer)
        super().setup()
        if not self.is_welcome:
            self.connection.settimeout(STRANGER_S)

    def _handle(self) -> None:
        answer = self._read_and_answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle  # noqa: N815 - the base class looks for these names

    def _read_and_answer(self) -> Answer:
        if not self.is_welcome:
            self.close_connection = True
            return _forbidden(self.peer)
        text = self.headers.get("Content-Length", "0")
        if not (text.isascii() and text.isdecimal()) or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            return problem(HTTPStatus.LENGTH_REQUIRED, "invalid", "say how long the body is, with Content-Length")
        if len(text) > _LENGTH_DIGITS or int(text) > MAX_BODY_BYTES:
            self.close_connection = True
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "invalid", f"more than {MAX_BODY_BYTES} bytes")
        length = int(text)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return problem(HTTPStatus.BAD_REQUEST, "invalid", f"the body has {len(body)} bytes instead of {length}")
        return self.server.api.answer(
            Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        )

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "local"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
        log.debug(format, *arguments)


def _forbidden(peer: Peer) -> Answer:
    log.warning("the local API was asked by user %d (pid %d), who may not use it", peer.user, peer.pid)
    detail = (
        f"user {peer.user} may not use this: root may, members of the group host.api_group, and the users of "
        "host.api_users in the agent's configuration"
    )
    return problem(HTTPStatus.FORBIDDEN, "forbidden", detail)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, path: str, api: HostApi, guests: Guests) -> None:
        super().__init__(path, _Handler)
        self.api, self.guests = api, guests
        self._rooms = {
            True: threading.BoundedSemaphore(MAX_GUESTS),
            False: threading.BoundedSemaphore(MAX_STRANGERS),
        }

    def process_request(self, request: Any, client_address: Any) -> None:
        """On a thread of its own, if there is room for one more of its kind."""
        room = self._room_of(request)
        if room is None or not room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # No thread could be started.
            room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its beginning to its end."""
        room = self._room_of(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            if room is not None:
                room.release()

    def _room_of(self, request: Any) -> threading.BoundedSemaphore | None:
        """None: it is gone already."""
        try:
            return self._rooms[self.guests.welcome(peer_of(request))]
        except OSError:
            return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        del request, client_address
        log.debug("a connection to the local API ended early: %s", sys.exc_info()[1])


class ApiServer:
    """Serves a `HostApi` on a socket until closed."""

    def __init__(self, path: Path, api: HostApi, group: str | None, users: Collection[str] = ()) -> None:
        """Bind and serve on a thread of its own. A socket that a predecessor left is replaced.

        Raises:
            PermanentError: there is no such group or user.
            TransientError: the socket cannot be made.
        """
        guests = Guests.named(users, group)
        new = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            before = os.umask(0o177)
            try:
                self._server = _Server(str(new), api, guests)
            finally:
                os.umask(before)
            if guests.group is not None:
                os.chown(new, -1, guests.group)
            os.chmod(new, guests.mode)
            os.rename(new, path)
        except OSError as error:
            raise TransientError(f"cannot serve the local API on {path}: {error.strerror or error}") from error
        self._path = path
        self._inode = os.stat(path).st_ino
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="api", daemon=True)
        self._thread.start()

    def is_reachable(self) -> bool:
        """Whether the socket is still at its place: somebody may have tidied up."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Stop serving. The socket stays: whoever connects is refused at once, and the next agent replaces it."""
        self._server.shutdown()
        self._server.server_close()
