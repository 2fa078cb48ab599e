"""Destinations that are no customer's on this host: configured, or of an ip-masq-agent whose work is done here."""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from pathlib import Path

from proxypool.adapters.ip_masq_agent import read_non_masquerade_cidrs
from proxypool.core.errors import ProxypoolError


class OpenCidrs:
    """The last good version of the file counts; before there was one, none of it."""

    def __init__(self, configured: tuple[IPv4Network, ...], masq_agent: str | None) -> None:
        """Nothing is read. `masq_agent`: path of an ip-masq-agent's configuration."""
        self._configured = self.value = configured
        self._found: tuple[IPv4Network, ...] = ()
        self._path = Path(masq_agent) if masq_agent is not None else None
        self._seen: tuple[int, ...] | None = None
        self.problem: str | None = None

    @property
    def masquerades(self) -> bool:
        """Whether the agent's work is done here."""
        return self._path is not None

    def refresh(self) -> bool:
        """Read the file if it is another than before; whether the destinations are."""
        if self._path is None:
            return False
        seen = _identity(self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            found = read_non_masquerade_cidrs(self._path)
        except ProxypoolError as error:
            self.problem = str(error)
            return False
        self.problem, self._found = None, tuple(found)
        before, self.value = self.value, tuple(sorted({*self._configured, *found}))
        return self.value != before

    def configure(self, configured: tuple[IPv4Network, ...]) -> None:
        """Other ones instead of those that were configured; what the file says stays."""
        self._configured, self.value = configured, tuple(sorted({*configured, *self._found}))


def _identity(path: Path) -> tuple[int, ...]:
    """Other whenever the file may be. A mounted ConfigMap is replaced through a link, which `stat` follows."""
    try:
        stat = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size
