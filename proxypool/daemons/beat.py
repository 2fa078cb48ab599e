"""The `alive` document of a machine: that its main loop lives, and what is wrong with the whole of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from ipaddress import IPv4Address

import msgspec

from proxypool import __version__
from proxypool.adapters.zookeeper import Presence
from proxypool.core.documents import encode
from proxypool.core.model import Alive, Snapshot


class Beat:
    """Publishes the document when it changes, and again after every `interval_s`: it is true until then."""

    def __init__(self, presence: Presence, path: str, underlay: IPv4Address, interval_s: float) -> None:
        """Nothing is published."""
        self._presence, self._path, self._interval_s = presence, path, interval_s
        self.alive = Alive(underlay=underlay, version=__version__, since=time.time())
        self._published: Alive | None = None
        self._due = 0.0

    def publish(self, problems: Iterable[str], snapshot: Snapshot, now: float) -> None:
        """Say what is wrong, malformed documents of the pool among it. `now` is monotonic."""
        malformed = (f"document {path}: {why}" for path, why in sorted(snapshot.malformed.items()))
        alive = msgspec.structs.replace(self.alive, problems=(*problems, *malformed))
        if alive != self._published or now >= self._due:
            self._published, self._due = alive, now + self._interval_s
            self._presence.want(self._path, encode(msgspec.structs.replace(alive, at=time.time())))
