"""SIGHUP: the configuration is read again, and taken over whole or not at all. On the main loop.

Nothing is applied before all of it was read, checked and compared. Should applying fail, which it must not, the old one
is applied again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from proxypool.core.config import Config
from proxypool.core.discovery import Daemon
from proxypool.core.errors import ProxypoolError
from proxypool.core.reloading import require_reloadable
from proxypool.daemons.problems import Problems
from proxypool.telemetry import logs
from proxypool.telemetry.daemon_metrics import DaemonMetrics

log = logging.getLogger(__name__)

TOPIC = "configuration"


class Announced(Protocol):
    """What a service manager is told; see `service.Service`."""

    def reloading(self) -> None:
        """It begins."""

    def reloaded(self, refusal: str | None) -> None:
        """It is over: why the old configuration stays in force; None: the new one is."""


class Reloading:
    """Of one daemon."""

    def __init__(
        self,
        role: Daemon,
        config: Config,
        reread: Callable[[], Config],
        problems: Problems,
        metrics: DaemonMetrics,
        manager: Announced,
    ) -> None:
        """`config` is in force.

        Args:
            role: of the daemon.
            config: that it was started with.
            reread: reads the file, with what options and environment override.
            problems: where a refusal is told until the next reload that succeeds.
            metrics: where it is counted.
            manager: the service manager, which is told before and after each attempt.
        """
        self._role, self._config, self._reread = role, config, reread
        self._problems, self._metrics, self._manager = problems, metrics, manager
        metrics.reloaded(ok=True, now=time.time())

    def reload(self, apply: Callable[[Config], None]) -> bool:
        """Read the file and apply it; whether that was done. A refusal is one line of the log, and no error."""
        self._manager.reloading()
        refusal: str | None = "it failed: see the log"
        try:
            refusal = self._attempt(apply)
        finally:
            self._manager.reloaded(refusal)
        return refusal is None

    def _attempt(self, apply: Callable[[Config], None]) -> str | None:
        """Why the old one stays in force, if it does."""
        try:
            new = self._reread()
            keys = require_reloadable(self._config, new, self._role)
        except ProxypoolError as error:
            return self._refuse(str(error))
        try:
            apply(new)
        except Exception as error:
            log.exception("a new configuration could not be applied")
            apply(self._config)
            return self._refuse(f"it could not be applied ({error})")
        if new.log != self._config.log:
            logs.configure(new.log)
        self._config = new
        self._metrics.reloaded(ok=True, now=time.time())
        self._problems.note(TOPIC, None)
        log.info("configuration read again: %s", f"{', '.join(keys)} changed" if keys else "nothing changed")
        return None

    def _refuse(self, why: str) -> str:
        self._metrics.reloaded(ok=False, now=time.time())
        # The same again is news to whoever sent the signal again.
        self._problems.forget(TOPIC)
        refusal = f"the configuration was not read again, the old one stays in force: {why}"
        self._problems.note(TOPIC, refusal)
        return refusal
