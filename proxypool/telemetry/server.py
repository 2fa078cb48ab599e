"""The `/metrics` endpoint: a thread a connection with a time limit, so that an idle or slow client blocks nobody."""

from __future__ import annotations

import logging
import socket
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry

from proxypool.core.config import parse_endpoint
from proxypool.core.errors import TransientError
from proxypool.telemetry.exposition import application

log = logging.getLogger(__name__)
CLIENT_TIMEOUT_S = 10.0


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    """Not five: of more who come at once the others would try again a second later."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
        log.debug(format, *arguments)


class MetricsServer:
    """Serves a registry until closed."""

    def __init__(self, listen: str, registry: CollectorRegistry) -> None:
        """Bind to `address:port` and serve on a thread of its own.

        Raises:
            TransientError: the address cannot be bound.
        """
        host, port = parse_endpoint(listen, what="metrics.listen")
        try:
            self._server = make_server(host, port, application(registry), _Server, _Handler)
        except (OSError, socket.gaierror) as error:
            raise TransientError(f"cannot serve metrics on {listen}: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
