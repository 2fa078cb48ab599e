"""A host agent that knows nothing but `POST /v1/cni`, on a real unix socket, for the plug-in to call."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

from proxypool.daemons.cni import handle
from tests.unit.cni_calls import FakeAttachments

Answer = tuple[int, str, bytes]
"""Status, content type, body."""


class Agent(ThreadingUnixStreamServer):
    """Serves until closed. `answer` may be replaced by what an agent of another kind does."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path
        self.attachments = FakeAttachments()
        self.answer: Callable[[Mapping[str, str], bytes], Answer] = self._carry_out
        self.paths: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def _carry_out(self, headers: Mapping[str, str], body: bytes) -> Answer:
        status, answer = handle(headers, body, self.attachments)
        return status, "application/json", answer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop serving; the socket's file stays, as after a crash."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Agent

    def do_POST(self) -> None:  # the base class' name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        status, kind, answer = self.server.answer({name.lower(): value for name, value in self.headers.items()}, body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
        """Quiet."""

    def address_string(self) -> str:
        return "local"
