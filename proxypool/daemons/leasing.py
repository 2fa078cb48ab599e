"""Leases of mode strict: proof, again and again, that this node's candidates are still in their elections.

The proof is a write that changes nothing: a transaction that checks that the candidates are there. ZooKeeper orders it
with the removal of a candidate, whoever removes it and why. So whoever sees a candidate gone knows that no proof of it
was sent later; a lease that ends `lease_s` after the sending of its proof is over for whoever has waited that long.
What a server says that may be cut off from its leader (an answered ping, a read) proves no such thing. See ADR 17.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from proxypool.adapters.zookeeper import Presence
from proxypool.core.errors import ProxypoolError
from proxypool.daemons.messages import LeaseRenewed, Message

log = logging.getLogger(__name__)

EVERY_S = 0.75
RETRY_S = 0.2


class Leasing:
    """Owner of the thread, which does nothing while no pair is strict."""

    def __init__(self, presence: Presence, node: str, lease_s: float, post: Callable[[Message], None]) -> None:
        """Nothing is started."""
        self._presence, self._node, self._lease_s, self._post = presence, node, lease_s, post
        self._wanted: frozenset[tuple[str, str]] = frozenset()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="leasing", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it; leases run out."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=1)

    def want(self, pairs: frozenset[tuple[str, str]]) -> None:
        """The pairs (subnet, pair) whose leases are to be renewed."""
        with self._changed:
            if pairs != self._wanted:
                self._wanted = pairs
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or self._wanted)
                if self._is_stopping:
                    return
                wanted = self._wanted
            pause_s = EVERY_S if self._renew(wanted) else RETRY_S
            with self._changed:
                self._changed.wait_for(partial(self._has_news, wanted), pause_s)

    def _has_news(self, wanted: frozenset[tuple[str, str]]) -> bool:
        return self._is_stopping or self._wanted != wanted

    def _renew(self, wanted: frozenset[tuple[str, str]]) -> bool:
        sent_at = time.monotonic()
        try:
            session, proven = self._presence.prove_candidates(wanted, self._node)
        except ProxypoolError as error:
            log.debug("leases are not renewed: %s", error)
            return False
        except Exception:
            log.exception("renewing leases failed")
            return False
        if session is not None and proven:
            self._post(LeaseRenewed(frozenset(proven), session, sent_at + self._lease_s))
        return proven == wanted
