"""Keeps keepalived's files and process in step with what the node serves. Runs on the dataplane thread.

Reloads are spaced: keepalived re-reads everything on each, and a burst of changes needs only the last one. A
configuration that keepalived refused is tried again only when it changed or after a pause.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

from proxypool.adapters.keepalived import Keepalived
from proxypool.core.errors import PermanentError, ProxypoolError, TransientError
from proxypool.core.keepalived import STARTUP_DELAY_S
from proxypool.daemons.messages import KeepalivedSynced

log = logging.getLogger(__name__)
RELOAD_INTERVAL_S = 0.5
REFUSED_RETRY_S = 5.0
RECONNECT_S = 3.0
MARGIN_S = 0.1
"""keepalived counts its delay from when it has read its files, not from its start."""


class KeepalivedControl:
    """Installs files and asks for reloads. Level-triggered: call `sync` as often as you like."""

    def __init__(self, keepalived: Keepalived, post: Callable[[KeepalivedSynced], None]) -> None:
        """`post` gets the result of every `sync` that did something or found a problem."""
        self._keepalived, self._post = keepalived, post
        self._reloaded_at = 0.0
        self._needs_reload = False
        self._is_program_good = False
        self._refused: tuple[dict[str, str], float] | None = None

    def sync(self, files: Mapping[str, str], kept: Collection[str] = ()) -> None:
        """Make the files be as wanted and keepalived know them. Those that are `kept` stay as they are, if they are."""
        wanted = self._with_kept(files, kept)
        if self._refused is not None and self._refused[0] == dict(wanted) and time.monotonic() < self._refused[1]:
            return
        self._refused = None
        problem: str | None = None
        is_reloaded = False
        try:
            if not self._is_program_good:
                self._keepalived.check_program()
                self._is_program_good = True
            if self._keepalived.install(wanted):
                self._needs_reload = True
            is_reloaded = self._reload_if_due()
        except PermanentError as error:
            problem = str(error)
            self._refused = (dict(wanted), time.monotonic() + REFUSED_RETRY_S)
        except ProxypoolError as error:
            problem = str(error)
        installed = frozenset(self._keepalived.installed())
        self._post(KeepalivedSynced(installed, problem, is_reloaded, self._needs_reload))

    def _with_kept(self, files: Mapping[str, str], kept: Collection[str]) -> Mapping[str, str]:
        if not kept:
            return files
        return {**{name: text for name, text in self._keepalived.installed().items() if name in kept}, **files}

    def look(self) -> None:
        """Report what is installed, and change nothing."""
        problem = None
        try:
            self._keepalived.check_program()
            self._is_program_good = True
        except ProxypoolError as error:
            problem = str(error)
        installed = frozenset(self._keepalived.installed())
        self._post(KeepalivedSynced(installed, problem, is_reloaded=False, needs_reload=False))

    def reconnect(self) -> None:
        """keepalived runs with our files but started before our directories were there: have it read them again.

        Asked at every tick until it is so; the reload is asked for once in a while.
        """
        if time.monotonic() < self._reloaded_at + RECONNECT_S or self._has_just_started():
            return
        try:
            self._keepalived.reload()
            self._reloaded_at = time.monotonic()
            log.warning("keepalived does not write to our fifo: reloaded")
        except ProxypoolError as error:
            log.warning("%s", error)

    def _reload_if_due(self) -> bool:
        if not self._needs_reload:
            return False
        if self._keepalived.process.pid() is None:
            # It reads the files when it starts.
            self._needs_reload = False
            raise TransientError("keepalived is not running: start it with `systemctl start keepalived`")
        if time.monotonic() < self._reloaded_at + RELOAD_INTERVAL_S or self._has_just_started():
            return False
        self._keepalived.reload()
        self._reloaded_at = time.monotonic()
        self._needs_reload = False
        log.info("keepalived reloaded")
        return True

    def _has_just_started(self) -> bool:
        """A reload ends the time in which a keepalived that has just started claims nothing."""
        age_s = self._keepalived.process.age_s()
        return age_s is not None and age_s < STARTUP_DELAY_S + MARGIN_S
