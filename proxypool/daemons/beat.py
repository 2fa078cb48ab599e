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

COUNT_S = 10.0


class Beat:
    """Publishes the document when it changes, and again after every `interval_s`: it is true until then."""

    def __init__(self, presence: Presence, path: str, underlay: IPv4Address, interval_s: float) -> None:
        """Nothing is published."""
        self._presence, self._path, self._interval_s = presence, path, interval_s
        self.alive = Alive(underlay=underlay, version=__version__, since=time.time())
        self._published: Alive | None = None
        self._count: int | None = None
        self._told_at = -interval_s

    @property
    def last(self) -> Alive:
        """As published last, but for its time."""
        return self._published or self.alive

    def publish(self, problems: Iterable[str], snapshot: Snapshot, now: float, attachments: int | None = None) -> None:
        """Say what is wrong, malformed documents of the pool among it. `now` is monotonic.

        Another number of attachments is told after `COUNT_S` at the earliest: each change would be a write.
        """
        malformed = (f"document {path}: {why}" for path, why in sorted(snapshot.malformed.items()))
        alive = msgspec.structs.replace(self.alive, problems=(*problems, *malformed))
        is_miscounted = attachments != self._count and now >= self._told_at + COUNT_S
        if alive != self._published or is_miscounted or now >= self._told_at + self._interval_s:
            self._published, self._count, self._told_at = alive, attachments, now
            told = msgspec.structs.replace(alive, at=time.time(), attachments=attachments)
            self._presence.want(self._path, encode(told))
