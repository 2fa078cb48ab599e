"""Reads again and again what the nodes' pairs use, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from proxypool.adapters.prometheus_api import TIMEOUT_S, PrometheusApi
from proxypool.adapters.scrape import Scraper
from proxypool.adapters.secret_file import read_secret
from proxypool.adapters.tls import client_context
from proxypool.core.config import FROM_NODES, ControllerConfig
from proxypool.core.errors import ProxypoolError
from proxypool.core.model import NodeSpec
from proxypool.core.scaling.series import Answer
from proxypool.daemons.controller_messages import Message, NodesRead

log = logging.getLogger(__name__)

PROMETHEUS_INTERVAL_S = 15.0


class Source(Protocol):
    """Of samples: the nodes themselves, or a Prometheus server."""

    def read(self, nodes: Iterable[NodeSpec]) -> Mapping[str, Answer]:
        """A sample of each node, or why there is none. Blocking, for seconds at most."""


def source_of(config: ControllerConfig) -> Source:
    """What the configuration names.

    Raises:
        InvalidInput: neither the nodes nor the URL of a Prometheus server.
    """
    if config.source == FROM_NODES:
        authorities, token = config.nodes_ca, config.nodes_token_file
        return Scraper(
            timeout_s=config.source_timeout_s or max(1.0, config.interval_s),
            tls=partial(client_context, authorities) if authorities is not None else None,
            token=partial(read_secret, token, may_group_read=True) if token is not None else None,
        )
    return PrometheusApi(config.source, config.source_timeout_s or TIMEOUT_S, config.source_token_file)


def source_interval_s(config: ControllerConfig) -> float:
    """How often the source reads the nodes."""
    usual_s = config.interval_s if config.source == FROM_NODES else PROMETHEUS_INTERVAL_S
    return usual_s if config.source_interval_s is None else config.source_interval_s


class Scraping:
    """Owner of the thread."""

    def __init__(
        self,
        source: Source,
        nodes: Callable[[], Iterable[NodeSpec]],
        post: Callable[[Message], None],
        interval_s: float,
    ) -> None:
        """Nothing is started. `nodes`: those to ask now; empty while nobody needs to know."""
        self._source, self._nodes, self._post, self._interval_s = source, nodes, post, interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scraping", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it; a round under way is left behind."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                nodes = tuple(self._nodes())
                if nodes:
                    self._post(NodesRead(self._source.read(nodes)))
            except ProxypoolError as error:
                self._post(NodesRead({}, f"what pairs use is not known: {error}"))
            except Exception:
                # The thread must live: without it nothing would ever be known again.
                log.exception("cannot read what pairs use")
            self._stopping.wait(max(0.0, began + self._interval_s - time.monotonic()))
