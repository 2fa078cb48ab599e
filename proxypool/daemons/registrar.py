"""In which subnets' lists of hosts this host stands. Blocking work, on a thread of its own; level-triggered.

A host joins a subnet with the first attachment. Nodes program the hosts of these lists, and of no others; so a join is
done when the members of the subnet's pairs have said that they know us. A subnet that is not there cannot be joined:
that is tried again until the pool, as it is read next, has it or nobody wants it any more.
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
from proxypool.core.errors import AccessDenied, ProxypoolError, TransientError

log = logging.getLogger(__name__)

RETRY_S = 0.5
SEEN_WITHIN_S = 4.0
"""How long the word of a subnet's nodes is waited for. One that is slower programs us all the same; but the first
packet may be lost.
"""
PROVE_S = 5.0
"""A list that we joined is looked at so often until the pool, as it is read, has us in it. Between the two the subnet
may be removed, and come again with an empty list, and neither look at the pool shows that.
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
        self._has_heard = False
        """Whether the pool was read."""
        self._listed: frozenset[str] = frozenset()
        self._joined: dict[str, int] = {}
        """Wanted subnets whose nodes know us, and the zxid since which we are listed; 0: since before the start."""
        self._unproven: dict[str, float] = {}
        """Joined ones in whose list the pool did not have us yet, and when to look whether we are there still
        (monotonic).
        """
        self._open: dict[str, _Join] = {}
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
            if not self._has_heard:
                self._has_heard = True
                # A predecessor's: the nodes have known it for long. Whatever is listed later is our own doing.
                self._joined = dict.fromkeys(listed, 0)
            removed = self._listed - listed
            # Of one that is not wanted nothing is remembered: it may be removed, and come again with an empty list.
            known = (self._joined.keys() & subnets.keys()) - removed
            self._joined = {subnet: self._joined[subnet] for subnet in known}
            self._unproven = {subnet: self._unproven[subnet] for subnet in (known - listed) & self._unproven.keys()}
            self._wanted, self._listed = subnets, listed
            self._open = {subnet: join for subnet, join in self._open.items() if subnet in subnets}
            self._changed.notify()

    @property
    def joined(self) -> frozenset[str]:
        """Wanted subnets whose nodes know this host, as far as we have heard."""
        with self._changed:
            return frozenset(self._joined)

    @property
    def problem(self) -> str | None:
        """Why the lists are not as wanted; None: they are, or work is under way."""
        return self._problem

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._is_stopping and not any(self._todo()):
                    self._problem = None
                    self._changed.wait(self._pause())
                if self._is_stopping:
                    return
                joins, due, leaves = self._todo()
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
            sorted(
                (self._wanted.keys() - self._joined.keys() - self._open.keys())
                | {subnet for subnet, due in self._unproven.items() if now >= due}
            ),
            sorted(subnet for subnet, join in self._open.items() if join.is_due or now >= join.deadline),
            sorted(self._listed - self._wanted.keys()),
        )

    def _pause(self) -> float | None:
        deadlines = (join.deadline for join in self._open.values())
        first = min((*deadlines, *self._unproven.values()), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def _join(self, subnets: list[str]) -> Iterator[ProxypoolError]:
        """All are joined before the first is waited for: their nodes work at the same time. One that we may not join
        (somebody has changed an access list), or that is not there, keeps us from no other.
        """
        for subnet in subnets:
            try:
                zxid = join_subnet(self._session, self._host, subnet)
            except AccessDenied as error:
                yield error
                continue
            if zxid is None:
                with self._changed:
                    self._drop(subnet)
                yield TransientError(f"the pool has no subnet {subnet}")
            elif self._begin(subnet, zxid):
                self._on_joined(subnet)

    def _drop(self, subnet: str) -> None:
        """Under the lock: we are not in a subnet's list."""
        self._joined.pop(subnet, None)
        self._unproven.pop(subnet, None)

    def _add(self, subnet: str, zxid: int) -> None:
        """Under the lock: a wanted subnet's nodes know us."""
        self._joined[subnet] = zxid
        if subnet not in self._listed:
            self._unproven[subnet] = time.monotonic() + PROVE_S

    def _begin(self, subnet: str, zxid: int) -> bool:
        """We are in a subnet's list since `zxid`. Whether that is all there was to do: it has no pair to wait for."""
        with self._changed:
            if self._joined.get(subnet) == zxid:
                self._add(subnet, zxid)
                return False
            self._drop(subnet)
            pairs = self._wanted.get(subnet)
            if pairs is None:
                # No longer wanted: the list that was read last may not have us, but has to be left.
                self._listed |= {subnet}
                return False
            if pairs:
                self._open[subnet] = _Join(zxid, time.monotonic() + SEEN_WITHIN_S)
                return False
            self._add(subnet, zxid)
            return True

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
                self._done(subnet, join)

    def _may_be_seen(self, join: _Join, _event: object) -> None:
        """Called by the ZooKeeper client's thread."""
        with self._changed:
            join.is_due = True
            self._changed.notify()

    def _done(self, subnet: str, join: _Join) -> None:
        with self._changed:
            if self._open.get(subnet) is not join:
                # It stopped being wanted meanwhile.
                return
            del self._open[subnet]
            self._add(subnet, join.zxid)
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
