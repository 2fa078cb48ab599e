"""What the ports of a daemon are kept with: tokens and certificates, from the files that the configuration names.

Read when a port is opened, which is tried again until it succeeds: errors are those of something that may pass.
"""

from __future__ import annotations

from collections.abc import Callable

from proxypool.adapters.secret_file import path_of, read_secret, require_private
from proxypool.core.config import MetricsConfig
from proxypool.core.errors import AccessDenied, TransientError
from proxypool.telemetry.http_port import Certificate
from proxypool.telemetry.server import MetricsServer, Registry


def token_of(name: str | None) -> str:
    """The token in a file; empty: there is none.

    Raises:
        TransientError: it cannot be read, others could read it, or it is too short to be one.
    """
    if name is None:
        return ""
    try:
        return read_secret(name, may_group_read=True)
    except AccessDenied as error:
        raise TransientError(str(error)) from error


def certificate_of(certificate: str | None, key: str | None) -> Certificate | None:
    """What is shown of us by TLS; None: no TLS.

    Raises:
        TransientError: the files cannot be used, or others could read the key.
    """
    if certificate is None or key is None:
        return None
    try:
        return Certificate(path_of(certificate), require_private(key, may_group_read=True))
    except AccessDenied as error:
        raise TransientError(str(error)) from error


def metrics_server(config: MetricsConfig, usual: str, registry: Registry) -> Callable[[], MetricsServer]:
    """Opens the port of `/metrics`; at `usual`, unless the configuration says where."""

    def serve() -> MetricsServer:
        certificate = certificate_of(config.tls_cert, config.tls_key)
        return MetricsServer(config.listen or usual, registry, certificate, token_of(config.token_file))

    return serve
