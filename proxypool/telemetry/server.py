"""The `/metrics` endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry

from proxypool.core.bearer import CHALLENGE, knows_token
from proxypool.telemetry.exposition import application
from proxypool.telemetry.http_port import Certificate, HttpPort

Registry: TypeAlias = CollectorRegistry
Application: TypeAlias = Callable[[dict[str, Any], Callable[..., object]], list[bytes]]


class MetricsServer(HttpPort):
    """Serves a registry until closed."""

    def __init__(
        self, listen: str, registry: Registry, certificate: Certificate | None = None, token: str = ""
    ) -> None:
        """Bind to `address:port` and serve on a thread of its own: by TLS, if there is a certificate, and to whoever
        knows the token, if there is one.

        Raises:
            TransientError: the address cannot be bound.
        """
        app = application(registry)
        super().__init__(listen, guarded(app, token) if token else app, what="metrics", certificate=certificate)


def guarded(app: Application, token: str) -> Application:
    """The same for those who know the token, and nothing for all others."""

    def respond(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        if knows_token(environ.get("HTTP_AUTHORIZATION", ""), token):
            return app(environ, start_response)
        body = b"say who you are: the token, as a bearer's or as a password\n"
        start_response(
            "401 Unauthorized", [CHALLENGE, ("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        )
        return [body]

    return respond
