"""What this process shows of itself in ZooKeeper: ephemeral nodes and candidates. Level-triggered.

Callers say what must be there; a thread of its own makes it so, again after every reconnect and in every new session.
Where a node is there already it is looked at first: in a resumed session it is ours and stays, and with it our place
in an election; a dead predecessor of ours is replaced; another machine with our name is left alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from kazoo.protocol.states import EventType

from proxypool.adapters.zookeeper.contest import Contender, hold_elections
from proxypool.adapters.zookeeper.ephemerals import put_nodes
from proxypool.adapters.zookeeper.session import LEAVE_WITHIN_S, PoolSession
from proxypool.adapters.zookeeper.writing import are_there
from proxypool.core.errors import ProxypoolError
from proxypool.core.states import Coordinator

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0


@dataclass(slots=True)
class _Known:
    """What was found to be so since the last reconnect. A new one replaces it whenever it may be wrong as a whole."""

    made: dict[str, bytes | None] = field(default_factory=dict)
    """suffix -> data; None: not there."""
    candidates: dict[Contender, str | None] = field(default_factory=dict)
    """-> path; None: does not stand."""
    vanished: set[str] = field(default_factory=set)
    """Paths that went away while we worked: what we did is older than that."""


class Presence:
    """See the module's text. Every method returns at once and may be called from any thread."""

    def __init__(self, session: PoolSession) -> None:
        """Prepare; nothing is written before `start`."""
        self._session = session
        self._wake = threading.Condition()
        self._wanted: dict[str, bytes | None] = {}
        self._contests: dict[Contender, bool] = {}
        self._known = _Known()
        self._must_look = self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Make it so from now on, whenever the session is connected."""
        self._session.subscribe(self._on_link)
        self._thread.start()

    def stop(self) -> None:
        """Stop working. What was made stays until the session ends."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(LEAVE_WITHIN_S)

    def want(self, suffix: str, data: bytes) -> None:
        """This ephemeral node with this data must be there; of several values only the last is sure to be written."""
        self._set_wanted(suffix, data)

    def drop(self, suffix: str) -> None:
        """This ephemeral node of ours must not be there; also one that a predecessor left in a resumed session."""
        self._set_wanted(suffix, None)

    def contend(self, subnet: str, pair: str, node: str) -> None:
        """Stand in the election of a pair. A candidate that vanishes is made anew, at the end of the queue."""
        self._set_contest(Contender(subnet, pair, node), stands=True)

    def withdraw(self, subnet: str, pair: str, node: str) -> None:
        """Leave the election of a pair; also with a candidate that a predecessor left in a resumed session."""
        self._set_contest(Contender(subnet, pair, node), stands=False)

    def prove_candidates(
        self, pairs: Collection[tuple[str, str]], node: str
    ) -> tuple[int | None, frozenset[tuple[str, str]]]:
        """Which of these pairs (subnet, pair) have a candidate of ours, after this call began; and in which session.

        A write to ZooKeeper, so that its leader says so, in the order of all other writes.

        Raises:
            TransientError: the connection broke.
        """
        session = self._session.session_id
        with self._wake:
            known = dict(self._known.candidates)
        paths = {pair: path for pair in pairs if (path := known.get(Contender(*pair, node))) is not None}
        if not paths or session is None:
            return session, frozenset()
        if are_there(self._session, paths.values()):
            return session, frozenset(paths)
        return session, frozenset(pair for pair, path in paths.items() if are_there(self._session, (path,)))

    def forget(self, subnet: str, pair: str, node: str) -> None:
        """The pair was removed, and all that was below it: no longer stand, nor publish a status."""
        contender = Contender(subnet, pair, node)
        with self._wake:
            self._contests.pop(contender, None)
            self._wanted.pop(contender.status, None)
            self._known.candidates.pop(contender, None)
            self._known.made.pop(contender.status, None)

    def check(self) -> None:
        """Look at everything again."""
        with self._wake:
            self._known = _Known()
            self._look()

    @property
    def is_settled(self) -> bool:
        """Whether everything is known to be as wanted."""
        with self._wake:
            return not self._open_nodes() and not self._open_contests()

    def _set_wanted(self, suffix: str, data: bytes | None) -> None:
        with self._wake:
            if suffix not in self._wanted or self._wanted[suffix] != data:
                self._wanted[suffix] = data
                self._look()

    def _set_contest(self, contender: Contender, *, stands: bool) -> None:
        with self._wake:
            if self._contests.get(contender) is not stands:
                self._contests[contender] = stands
                self._look()

    def _look(self) -> None:
        self._must_look = True
        self._wake.notify()

    def _on_link(self, state: Coordinator, _session: int | None) -> None:
        if state is Coordinator.CONNECTED:
            self.check()

    def _on_vanished(self, event: Any) -> None:
        """A watch fired. On kazoo's thread: mark and go."""
        # A candidate that an operator chose is there as before, but its watch is used up: it is looked at again.
        is_chosen = event.type == EventType.CHANGED and "/election/" in event.path
        if event.type != EventType.DELETED and not is_chosen:
            return
        with self._wake:
            known = self._known
            known.vanished.add(event.path)
            known.made.pop(event.path[len(self._session.layout.root) + 1 :], None)
            for contender in [one for one, path in known.candidates.items() if path == event.path]:
                del known.candidates[contender]
            self._look()

    def _open_nodes(self) -> dict[str, bytes | None]:
        made = self._known.made
        return {suffix: data for suffix, data in self._wanted.items() if suffix not in made or made[suffix] != data}

    def _open_contests(self) -> dict[Contender, bool]:
        known = self._known.candidates
        return {
            contender: stands
            for contender, stands in self._contests.items()
            if contender not in known or (known[contender] is not None) is not stands
        }

    def _run(self) -> None:
        retry_s: float | None = None
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, timeout=retry_s)
                if self._is_stopping:
                    return
                if self._session.state is not Coordinator.CONNECTED:
                    retry_s = None
                    continue
                self._must_look = False
            is_done = self._attempt()
            retry_s = None if is_done else min(LAST_RETRY_S, 2 * retry_s if retry_s else FIRST_RETRY_S)

    def _has_work(self) -> bool:
        return self._is_stopping or (self._must_look and self._session.state is Coordinator.CONNECTED)

    def _attempt(self) -> bool:
        try:
            return self._make_so()
        except ProxypoolError as error:
            log.debug("publishing again: %s", error)
        except Exception:
            log.exception("cannot publish; trying again")
        return False

    def _make_so(self) -> bool:
        with self._wake:
            known = self._known
            known.vanished.clear()
            nodes, contests = self._open_nodes(), self._open_contests()
            there = frozenset(suffix for suffix in nodes if known.made.get(suffix) is not None)
            for suffix in there:
                # Until it is confirmed: a broken connection leaves it unknown.
                del known.made[suffix]
        candidates = hold_elections(self._session, contests, self._on_vanished) if contests else {}
        self._remember(known, {}, candidates)
        made = put_nodes(self._session, nodes, there, self._on_vanished) if nodes else {}
        self._remember(known, made, {})
        return len(made) == len(nodes) and len(candidates) == len(contests)

    def _remember(self, known: _Known, made: dict[str, bytes | None], candidates: dict[Contender, str | None]) -> None:
        with self._wake:
            path = self._session.layout.path
            known.made |= {suffix: data for suffix, data in made.items() if path(suffix) not in known.vanished}
            known.candidates |= {one: at for one, at in candidates.items() if at not in known.vanished}
