"""The status page and the API of a daemon: the port, and who may see them."""

from __future__ import annotations

from proxypool import __version__
from proxypool.adapters.runbooks import find_runbook
from proxypool.core.config import WebConfig
from proxypool.daemons.doors import certificate_of, token_of
from proxypool.daemons.port import Port
from proxypool.daemons.problems import Problems
from proxypool.daemons.shown_node import ShownNode
from proxypool.daemons.shown_pool import ShownPool
from proxypool.telemetry.http_port import HttpPort
from proxypool.web.page import Face
from proxypool.web.site import Site
from proxypool.web.wsgi import application


class StatusSite:
    """Serves one of these; the main loop looks in every `BEAT_S`."""

    def __init__(
        self,
        daemon: ShownPool | ShownNode,
        role: str,
        name: str,
        pool: str,
        config: WebConfig,
        listen: str,
        problems: Problems,
    ) -> None:
        """Nothing is opened yet. `listen`: where, unless the configuration says otherwise."""
        self._daemon, self._config = daemon, config
        self._listen = listen if config.listen is None else config.listen
        self._pool = pool
        self._face = Face(role, name, __version__, config.runbooks or "")
        self._port = Port("web", problems, self._serve) if self._listen else None
        self._is_started = False

    def _serve(self) -> HttpPort:
        config = self._config
        token, certificate = token_of(config.token_file), certificate_of(config.tls_cert, config.tls_key)
        site = Site(self._daemon, self._pool, self._face, find_runbook, token)
        return HttpPort(self._listen, application(site), what="the status page", certificate=certificate)

    def look(self, now: float) -> None:
        """The main loop goes round; open the port if it is not open."""
        self._daemon.pulse.beat(now)
        if self._port is None:
            return
        if not self._is_started:
            self._is_started = True
            self._daemon.reading.start()
        self._port.look(now)

    def close(self) -> None:
        """Serve no more."""
        if self._port is not None:
            self._port.close()
            self._daemon.reading.stop()
