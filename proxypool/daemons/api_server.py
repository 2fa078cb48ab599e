"""The unix socket of the local API, and its threads.

Whoever may write to the socket may attach: root, and the group that the configuration names. A thread for each
connection, with a time limit; several requests may follow each other on one.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from proxypool import __version__
from proxypool.core.errors import PermanentError, TransientError
from proxypool.daemons.host_api import HostApi, Request
from proxypool.web.answers import Answer, problem

log = logging.getLogger(__name__)

IDLE_S = 60.0
"""A connection without a request for so long is closed."""
MAX_BODY_BYTES = 4 << 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server_version = f"proxypool/{__version__}"
    sys_version = ""
    wbufsize = -1
    """Head and body in one write."""
    server: _Server

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
        text = self.headers.get("Content-Length", "0")
        if not text.isdecimal() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            return problem(HTTPStatus.LENGTH_REQUIRED, "invalid", "say how long the body is, with Content-Length")
        length = int(text)
        if length > MAX_BODY_BYTES:
            self.close_connection = True
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "invalid", f"more than {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(length)
        return self.server.api.answer(
            Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        )

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "local"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
        log.debug(format, *arguments)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, path: str, api: HostApi) -> None:
        super().__init__(path, _Handler)
        self.api = api

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        del request, client_address
        log.debug("a connection to the local API ended early: %s", sys.exc_info()[1])


class ApiServer:
    """Serves a `HostApi` on a socket until closed."""

    def __init__(self, path: Path, api: HostApi, group: str | None) -> None:
        """Bind and serve on a thread of its own. A socket that a predecessor left is replaced.

        Raises:
            PermanentError: there is no such group.
            TransientError: the socket cannot be made.
        """
        group_id = _group_id(group)
        new = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            before = os.umask(0o177)
            try:
                self._server = _Server(str(new), api)
            finally:
                os.umask(before)
            if group_id is not None:
                os.chown(new, -1, group_id)
                os.chmod(new, 0o660)
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


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise PermanentError(
            f"host.api_group: there is no group {group!r}; create it with `groupadd {group}`"
        ) from error
