"""In which subnets' lists of hosts this host stands. Blocking work, on a thread of its own; level-triggered.

A host joins a subnet with the first attachment. Nodes program the hosts of these lists, and of no others; so a join is
done when the members of the subnet's pairs have said that they know us.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from proxypool.adapters.zookeeper import PoolSession
from proxypool.adapters.zookeeper.subnet_hosts import is_seen, join_subnet, leave_subnet
from proxypool.core.errors import AccessDenied, ProxypoolError

log = logging.getLogger(__name__)

RETRY_S = 0.5
SEEN_WITHIN_S = 4.0
"""How long the word of a subnet's nodes is waited for. One that is slower programs us all the same; but the first
packet may be lost.
"""


@dataclass(slots=True)
class _Join:
    """A join that the nodes have not confirmed yet."""

    zxid: int
    deadline: float
    is_due: bool = True
    """Whether they may have said something since we looked."""


class Registrar:
    """Owner of the thread. `on_joined` is called on it and must only pass on what it gets."""

    def __init__(self, session: PoolSession, host: str, on_joined: Callable[[str], None]) -> None:
        """Nothing is started."""
        self._session, self._host, self._on_joined = session, host, on_joined
        self._changed = threading.Condition()
        self._wanted: Mapping[str, tuple[str, ...]] = {}
        self._listed: frozenset[str] = frozenset()
        self._joined: set[str] = set()
        self._open: dict[str, _Join] = {}
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
            # And of one that is not wanted nothing is remembered: it may be removed, and come again with an empty list.
            known = (self._joined - (self._listed - listed)) | (listed - self._own)
            self._joined = known & subnets.keys()
            self._wanted, self._listed = subnets, listed
            self._open = {subnet: join for subnet, join in self._open.items() if subnet in subnets}
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
                while not self._is_stopping and not any(self._todo()):
                    self._changed.wait(self._pause())
                if self._is_stopping:
                    return
                joins, due, leaves = self._todo()
                self._own |= {*joins, *leaves}
            try:
                refused = (*self._join(joins), *self._look(due), *self._leave(leaves))
                self._problem = f"cannot register in subnets: {refused[0]}" if refused else None
                if not refused:
                    continue
            except ProxypoolError as error:
                self._problem = f"cannot register in subnets: {error}"
            except Exception as error:
                log.exception("registering in subnets failed")
                self._problem = f"cannot register in subnets: {type(error).__name__}: {error}"
            with self._changed:
                self._changed.wait(RETRY_S)

    def _todo(self) -> tuple[list[str], list[str], list[str]]:
        """Subnets to join, to look at, and to leave."""
        now = time.monotonic()
        return (
            sorted(self._wanted.keys() - self._joined - self._open.keys()),
            sorted(subnet for subnet, join in self._open.items() if join.is_due or now >= join.deadline),
            sorted(self._listed - self._wanted.keys()),
        )

    def _pause(self) -> float | None:
        first = min((join.deadline for join in self._open.values()), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def _join(self, subnets: list[str]) -> Iterator[AccessDenied]:
        """All are joined before the first is waited for: their nodes work at the same time. One that we may not join
        (somebody has changed an access list) keeps us from no other.
        """
        for subnet in subnets:
            try:
                zxid = join_subnet(self._session, self._host, subnet)
            except AccessDenied as error:
                yield error
                continue
            with self._changed:
                if zxid is not None and self._wanted.get(subnet):
                    self._open[subnet] = _Join(zxid, time.monotonic() + SEEN_WITHIN_S)
                    continue
            self._done(subnet)

    def _look(self, subnets: list[str]) -> Iterator[AccessDenied]:
        for subnet in subnets:
            with self._changed:
                join, pairs = self._open.get(subnet), self._wanted.get(subnet)
                if join is None or pairs is None:
                    continue
                # Before it is read: what is said meanwhile is looked at once more.
                join.is_due = False
            try:
                has_word = is_seen(self._session, subnet, pairs, join.zxid, partial(self._may_be_seen, join))
            except ProxypoolError as error:
                join.is_due = True
                if not isinstance(error, AccessDenied):
                    raise
                yield error
                continue
            if has_word or time.monotonic() >= join.deadline:
                if not has_word:
                    log.warning("subnet %s: not all of its nodes have said that they know this host", subnet)
                self._done(subnet)

    def _may_be_seen(self, join: _Join, _event: object) -> None:
        """Called by the ZooKeeper client's thread."""
        with self._changed:
            join.is_due = True
            self._changed.notify()

    def _done(self, subnet: str) -> None:
        with self._changed:
            self._open.pop(subnet, None)
            self._joined.add(subnet)
            self._own.discard(subnet)
        self._on_joined(subnet)

    def _leave(self, subnets: list[str]) -> Iterator[AccessDenied]:
        for subnet in subnets:
            try:
                leave_subnet(self._session, self._host, subnet)
            except AccessDenied as error:
                yield error
                continue
            with self._changed:
                self._listed -= {subnet}
                self._joined.discard(subnet)
