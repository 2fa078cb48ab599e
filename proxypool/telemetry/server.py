"""The `/metrics` endpoint."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from proxypool.telemetry.exposition import application
from proxypool.telemetry.http_port import HttpPort


class MetricsServer(HttpPort):
    """Serves a registry until closed."""

    def __init__(self, listen: str, registry: CollectorRegistry) -> None:
        """Bind to `address:port` and serve on a thread of its own.

        Raises:
            TransientError: the address cannot be bound.
        """
        super().__init__(listen, application(registry), what="metrics")
