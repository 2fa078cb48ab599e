"""In which subnets' lists of hosts this host stands. Blocking work, on a thread of its own; level-triggered.

A host joins a subnet with the first attachment. Nodes program the hosts of these lists, and of no others; so a join is
done when the members of the subnet's pairs have said that they know us.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from proxypool.adapters.zookeeper import PoolSession
from proxypool.adapters.zookeeper.subnet_hosts import join_subnet, leave_subnet, wait_until_seen
from proxypool.core.errors import ProxypoolError

log = logging.getLogger(__name__)

RETRY_S = 0.5
SEEN_WITHIN_S = 1.0
"""How long the word of a subnet's nodes is waited for. One that is slower programs us all the same."""


class Registrar:
    """Owner of the thread. `on_joined` is called on it and must only pass on what it gets."""

    def __init__(self, session: PoolSession, host: str, on_joined: Callable[[str], None]) -> None:
        """Nothing is started."""
        self._session, self._host, self._on_joined = session, host, on_joined
        self._changed = threading.Condition()
        self._wanted: Mapping[str, tuple[str, ...]] = {}
        self._listed: frozenset[str] = frozenset()
        self._joined: set[str] = set()
        self._own: set[str] = set()
        """Subnets that we are joining or leaving: that we are in their lists is our own doing, no word of the nodes."""
        self._is_stopping = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it after the request under way. The host stays where it is listed."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def want(self, subnets: Mapping[str, tuple[str, ...]], subnet_hosts: Mapping[str, frozenset[str]]) -> None:
        """Where this host must be listed (subnet -> its pairs that have a member), and where the pool as last read
        lists it.
        """
        listed = frozenset(subnet for subnet, hosts in subnet_hosts.items() if self._host in hosts)
        with self._changed:
            # Whoever was listed and is no longer was removed by somebody; whoever is not listed yet, by nobody.
            self._own = {subnet for subnet in self._own if subnet in listed or subnet in subnets}
            self._joined = (self._joined - (self._listed - listed)) | ((listed & subnets.keys()) - self._own)
            self._wanted, self._listed = subnets, listed
            self._changed.notify()

    @property
    def joined(self) -> frozenset[str]:
        """Wanted subnets whose nodes know this host, as far as we have heard."""
        with self._changed:
            return frozenset(self._joined & self._wanted.keys())

    @property
    def problem(self) -> str | None:
        """Why the lists are not as wanted; None: they are, or work is under way."""
        return self._problem

    def _run(self) -> None:
        while True:
            with self._changed:
                joins, leaves = self._todo()
                while not self._is_stopping and not joins and not leaves:
                    self._changed.wait()
                    joins, leaves = self._todo()
                if self._is_stopping:
                    return
                self._own |= {*joins, *leaves}
            try:
                self._work(joins, leaves)
                self._problem = None
                continue
            except ProxypoolError as error:
                self._problem = f"cannot register in subnets: {error}"
            except Exception as error:
                log.exception("registering in subnets failed")
                self._problem = f"cannot register in subnets: {type(error).__name__}: {error}"
            with self._changed:
                self._changed.wait(RETRY_S)

    def _todo(self) -> tuple[list[str], list[str]]:
        return sorted(self._wanted.keys() - self._joined), sorted(self._listed - self._wanted.keys())

    def _work(self, joins: list[str], leaves: list[str]) -> None:
        """All join before the first is waited for: their nodes work at the same time."""
        zxids = {subnet: join_subnet(self._session, self._host, subnet) for subnet in joins}
        for subnet, zxid in zxids.items():
            pairs = self._wanted.get(subnet, ())
            if zxid is not None and pairs:
                is_seen = wait_until_seen(self._session, subnet, pairs, zxid, SEEN_WITHIN_S)
                if not is_seen:
                    log.warning("subnet %s: not all of its nodes have said that they know this host", subnet)
            with self._changed:
                self._joined.add(subnet)
                self._own.discard(subnet)
            self._on_joined(subnet)
        for subnet in leaves:
            leave_subnet(self._session, self._host, subnet)
            with self._changed:
                self._listed -= {subnet}
                self._joined.discard(subnet)
