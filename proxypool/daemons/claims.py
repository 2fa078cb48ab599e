"""What other machines on the underlay claim of our HaVips: from the socket to a message, and back to the wire.

Heard on the watch thread; followed and announced from the main loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import IPv4Address

from proxypool.adapters.address_conflicts import AddressConflicts
from proxypool.daemons.messages import HavipsContested
from proxypool.daemons.watcher import Watcher

log = logging.getLogger(__name__)


class Claims:
    """Where the socket cannot be opened nothing is heard, and the master announces itself every 2 s all the same."""

    def __init__(self, underlay: str, post: Callable[[HavipsContested], None]) -> None:
        """Nothing is opened before `open`."""
        self._underlay, self._post = underlay, post
        self._wire: AddressConflicts | None = None
        self._havips: frozenset[IPv4Address] = frozenset()

    def open(self, watcher: Watcher) -> None:
        """In the calling thread's namespace. Nothing is heard before `follow`."""
        try:
            self._wire = AddressConflicts(self._underlay)
        except OSError as error:
            log.warning("%s: what others claim of our HaVips is not heard: %s", self._underlay, error.strerror)
            return
        watcher.add(self._wire, self._hear)

    def follow(self, havips: frozenset[IPv4Address]) -> None:
        """Tell when another machine says that it has one of these."""
        if self._wire is None or havips == self._havips:
            return
        try:
            self._wire.follow(havips)
            self._havips = havips
        except OSError as error:
            log.warning("what others claim of our HaVips is not heard: %s", error.strerror or error)

    def announce(self, havip: IPv4Address) -> None:
        """Say on the underlay that it is here.

        Raises:
            OSError: the underlay is down.
        """
        if self._wire is not None:
            self._wire.defend(havip)

    def _hear(self) -> None:
        if self._wire is not None and (claimed := self._wire.heard()):
            self._post(HavipsContested(frozenset(claimed)))
