"""The status page and the API of a daemon: the port, and who may see them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from proxypool import __version__
from proxypool.adapters.runbooks import find_runbook
from proxypool.core.config import WebConfig
from proxypool.core.errors import TransientError
from proxypool.daemons.port import Port
from proxypool.daemons.problems import Problems
from proxypool.daemons.shown_node import ShownNode
from proxypool.daemons.shown_pool import ShownPool
from proxypool.telemetry.http_port import Certificate, HttpPort
from proxypool.web.page import Face
from proxypool.web.site import Site
from proxypool.web.wsgi import application

MIN_TOKEN = 16
"""Characters; less can be guessed."""
MAX_TOKEN = 4096
_FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        TransientError: it cannot be read, others could read it, or it is too short to be one.
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            token = file.read(MAX_TOKEN).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise TransientError(f"cannot read the token file {path}: {why}") from error
    if found.st_mode & _FORBIDDEN or found.st_uid not in {0, os.geteuid()}:
        raise TransientError(
            f"the token file {path} can be read or written by others (mode {stat.S_IMODE(found.st_mode):o}, owner "
            f"{found.st_uid}): `chown root {path}; chmod 600 {path}`"
        )
    if len(token) < MIN_TOKEN:
        raise TransientError(
            f"the token in {path} has {len(token)} characters and needs {MIN_TOKEN} or more: "
            f"`head -c 32 /dev/urandom | base64 > {path}`"
        )
    return token


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
        token = read_token(Path(config.token_file)) if config.token_file else ""
        certificate = (
            Certificate(Path(config.tls_cert), Path(config.tls_key)) if config.tls_cert and config.tls_key else None
        )
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
