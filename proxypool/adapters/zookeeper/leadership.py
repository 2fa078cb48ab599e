"""Which controller leads: ephemeral sequential candidates, the lowest leads, and its czxid is the fencing token.

Level-triggered, like `presence`: a thread looks after our candidate, again after every reconnect and in every new
session, and watches it and whoever stands before it. A leader may find out late that it leads no longer, a paused
process for one. So each of its writes checks in the same transaction that its candidate is there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxypool import __version__
from proxypool.adapters.zookeeper.layout import (
    ACTIONS,
    CONTROLLER,
    CONTROLLERS,
    candidate_node,
    candidate_sequence,
)
from proxypool.adapters.zookeeper.reading import Node, read_children, read_nodes, watch_existing
from proxypool.adapters.zookeeper.session import LEAVE_WITHIN_S, PoolSession
from proxypool.adapters.zookeeper.writing import Check, Create, Delete, write_all
from proxypool.core.documents import encode
from proxypool.core.errors import ProxypoolError, TransientError
from proxypool.core.scaling.documents import ControllerAlive
from proxypool.core.states import Coordinator

log = logging.getLogger(__name__)

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Leader:
    """That we lead."""

    candidate: str
    """Path of our candidate."""
    epoch: int
    """Its czxid: grows from leader to leader."""

    @property
    def fence(self) -> Check:
        """What a write of the leader's checks."""
        return Check(self.candidate)


class Leadership:
    """See the module's text. `on_change` is called on the thread, whenever we begin or cease to lead."""

    def __init__(self, session: PoolSession, name: str, on_change: Callable[[Leader | None], None]) -> None:
        """Prepare; nothing is written before `start`. `name`: of this controller, for people."""
        self._session, self._name, self._on_change = session, name, on_change
        self._about = encode(ControllerAlive(name=name, version=__version__, since=time.time()))
        self._container = session.layout.path(CONTROLLERS)
        self._wake = threading.Condition()
        self._must_look, self._is_stopping = True, False
        self._leader: Leader | None = None
        self.is_in_line = False
        """Whether we have stood and seen, since the start, if we lead or who stands before us."""
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)

    @property
    def leader(self) -> Leader | None:
        """Whether we lead, as far as we know."""
        return self._leader

    def start(self) -> None:
        """Stand from now on, whenever the session is connected."""
        self._session.subscribe(self._on_link)
        self._thread.start()

    def stop(self) -> None:
        """Stand no longer: the next one leads at once."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(LEAVE_WITHIN_S)

    def look(self) -> None:
        """Look again: a write of ours was refused."""
        with self._wake:
            self._must_look = True
            self._wake.notify()

    def _on_link(self, state: Coordinator, _session: int | None) -> None:
        if state is not Coordinator.SUSPENDED:
            self.look()

    def _on_event(self, _event: Any) -> None:
        """A watch fired. On kazoo's thread: mark and go."""
        self.look()

    def _run(self) -> None:
        timeout_s: float | None = None
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._must_look or self._is_stopping, timeout_s)
                self._must_look = False
                is_stopping = self._is_stopping
            try:
                if is_stopping:
                    self._resign()
                    return
                timeout_s = self._follow()
            except ProxypoolError as error:
                log.debug("standing for the lead again: %s", error)
                timeout_s = RETRY_S
            except Exception:
                log.exception("cannot stand for the lead; trying again")
                timeout_s = RETRY_S
            if is_stopping:
                return

    def _follow(self) -> float | None:
        """Look who leads. Returns after how long to look again although nothing has changed."""
        if self._session.state is Coordinator.LOST:
            self._say(None)
        if self._session.state is not Coordinator.CONNECTED:
            return None
        queue = self._queue()
        ours = [path for path, node in queue if node.owner == self._session.session_id]
        if not ours:
            self._say(None)
            self._stand()
            return 0.0
        write_all(self._session, [Delete(path) for path in ours[1:]])
        place = next(at for at, (path, _) in enumerate(queue) if path == ours[0])
        watched = [path for path, _ in queue[max(0, place - 1) : place + 1]]
        if len(watch_existing(self._session, watched, self._on_event)) < len(watched):
            return 0.0
        self._say(Leader(ours[0], queue[0][1].czxid) if place == 0 else None)
        self.is_in_line = True
        return None

    def _queue(self) -> list[tuple[str, Node]]:
        (names,) = read_children(self._session, (self._container,))
        ranked = sorted((name for name in names or () if candidate_node(name)), key=candidate_sequence)
        paths = [f"{self._container}/{name}" for name in ranked]
        found = zip(paths, read_nodes(self._session, paths), strict=True)
        return [(path, node) for path, node in found if node is not None]

    def _stand(self) -> None:
        """Make our candidate, and what it and the actions stand in; not the pool's own node.

        Raises:
            TransientError: there is no such pool yet.
        """
        candidate = Create(f"{self._container}/{self._name}-", self._about, is_ephemeral=True, is_sequential=True)
        (made,) = write_all(self._session, (candidate,))
        if isinstance(made, str):
            return
        for suffix in (CONTROLLER, CONTROLLERS, ACTIONS):
            write_all(self._session, (Create(self._session.layout.path(suffix)),))
        (made,) = write_all(self._session, (candidate,))
        if not isinstance(made, str):
            raise TransientError(f"there is no {self._container} and it cannot be made: is the pool there?")

    def _say(self, leader: Leader | None) -> None:
        if leader == self._leader:
            return
        self._leader = leader
        if leader is not None:
            log.info("this controller leads (epoch %d)", leader.epoch)
        else:
            log.info("this controller leads no longer")
        self._on_change(leader)

    def _resign(self) -> None:
        if self._session.state is Coordinator.CONNECTED:
            mine = [path for path, node in self._queue() if node.owner == self._session.session_id]
            write_all(self._session, [Delete(path) for path in mine])
        self._say(None)
