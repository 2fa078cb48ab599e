"""The pool in memory: a snapshot that follows ZooKeeper. Level-triggered: events only say what to read again.

One-shot watches, each set by the read that it guards, so nothing is missed between the two. (kazoo 2.11 has no
persistent watches; a recursive one would also bring every status that every member publishes to every daemon.)
After a reconnect kazoo's watches are gone and everything is read again; documents that did not change stay the same
objects and no change is reported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from kazoo.protocol.states import EventType

from proxypool.adapters.zookeeper.layout import Extent, Parts, facet_of, suffix_of, told_of
from proxypool.adapters.zookeeper.reading import Watch, read_all
from proxypool.adapters.zookeeper.session import LEAVE_WITHIN_S, PoolSession
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.core.errors import ProxypoolError, TransientError
from proxypool.core.model import Snapshot
from proxypool.core.scaling.documents import Placing
from proxypool.core.states import Coordinator

log = logging.getLogger(__name__)

DEBOUNCE_S = 0.005
"""Events come in bursts: a session that ends takes all its candidates along. The first of a burst is read at once."""
QUIET_S = 0.02
"""So long after the last one an event is the first of a burst."""
RETRY_AFTER_S = 0.2
"""After a read that failed although we are connected."""


def load(session: PoolSession, tree: PoolTree, start: Iterable[Parts], *, all_below: bool, watch: Watch | None) -> None:
    """Read nodes and what must be read because of them, level by level, each level in one go.

    Raises:
        TransientError: the connection broke; the tree keeps what was read before.
    """
    todo = list(start)
    while todo:
        reads = [(facet, session.layout.path(suffix_of(parts))) for parts in todo if (facet := facet_of(parts))]
        answers = read_all(session, reads, watch)
        todo = [
            below
            for parts, answer in zip(todo, answers, strict=True)
            for below in tree.take(parts, answer, all_below=all_below)
        ]


class PoolMirror:
    """See the module's text. `on_change` runs on the mirror's own thread, only when the snapshot differs, or what
    it says of places for new pairs.
    """

    def __init__(
        self,
        session: PoolSession,
        on_change: Callable[[Snapshot], None],
        *,
        node: str | None = None,
        host: str | None = None,
        extent: Extent = Extent.SERVING,
        on_read: Callable[[PoolTree], None] | None = None,
    ) -> None:
        """Prepare; nothing is read before `start`. With `node`, only elections that it can stand in are followed, and
        the hosts of subnets that it serves; with `host`, no other host. What `placing` says needs `Extent.PLACING`.
        `on_read` gets the tree after everything that was read, as `on_change`, and also of what is in no snapshot.
        """
        self._session, self._on_change, self._on_read = session, on_change, on_read
        self._tree = PoolTree(session.layout, extent, node=node, host=host)
        self._snapshot, self._placing = Snapshot(), Placing()
        self._wake = threading.Condition()
        self._changed: set[Parts] = set()
        self._must_reload = True
        self._waiting: list[threading.Event] = []
        """Of those who want to know that everything was read."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pool-mirror", daemon=True)
        self.loaded = threading.Event()
        """Set after the whole pool has been read once."""

    @property
    def snapshot(self) -> Snapshot:
        """The pool as last read; empty before `loaded`."""
        return self._snapshot

    @property
    def placing(self) -> Placing:
        """Living nodes, orders about nodes and spares as last read; empty unless they are followed."""
        return self._placing

    def current(self, within_s: float) -> Snapshot:
        """The pool with all that was written before the last answer that the session got.

        Raises:
            TransientError: not within that time.
        """
        is_read = threading.Event()
        self._session.after_events(lambda: self._await(is_read))
        if not is_read.wait(within_s):
            raise TransientError("ZooKeeper is read too slowly: trying again")
        return self._snapshot

    def _await(self, is_read: threading.Event) -> None:
        with self._wake:
            self._waiting.append(is_read)
            self._wake.notify()

    def start(self) -> None:
        """Follow the pool from now on, as soon as the session is connected."""
        self._session.subscribe(self._on_link)
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer."""
        with self._wake:
            self._stopping.set()
            self._wake.notify()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(LEAVE_WITHIN_S)

    def _on_link(self, state: Coordinator, _session: int | None) -> None:
        if state is Coordinator.CONNECTED:
            with self._wake:
                self._must_reload = True
                self._wake.notify()

    def _on_event(self, event: Any) -> None:
        """A watch fired. On kazoo's thread: mark and go."""
        if event.type == EventType.NONE or event.path is None:
            return
        parts = self._session.layout.parts(event.path)
        is_list, is_data = event.type == EventType.CHILD, event.type == EventType.CHANGED
        with self._wake:
            self._changed.update(told_of(parts, is_list=is_list, is_data=is_data))
            self._wake.notify()

    def _run(self) -> None:
        quiet_since = 0.0
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work)
                if self._stopping.is_set():
                    return
            if time.monotonic() < quiet_since + QUIET_S:
                self._stopping.wait(DEBOUNCE_S)
            with self._wake:
                changed, self._changed = self._changed, set()
                reload, self._must_reload = self._must_reload, False
                waiting, self._waiting = self._waiting, []
            try:
                self._read(changed, reload=reload)
                for is_read in waiting:
                    is_read.set()
            except ProxypoolError as error:
                log.debug("reading the pool again: %s", error)
                self._read_again_later()
            except Exception:
                log.exception("cannot follow the pool; trying again")
                self._read_again_later()
            quiet_since = time.monotonic()

    def _has_work(self) -> bool:
        is_connected = self._session.state is Coordinator.CONNECTED
        has_work = self._must_reload or bool(self._changed) or bool(self._waiting)
        return self._stopping.is_set() or (is_connected and has_work)

    def _read_again_later(self) -> None:
        with self._wake:
            self._must_reload = True
            self._wake.wait_for(self._stopping.is_set, timeout=RETRY_AFTER_S)

    def _read(self, changed: set[Parts], *, reload: bool) -> None:
        if reload:
            load(self._session, self._tree, self._tree.roots(), all_below=True, watch=self._on_event)
        else:
            known = [parts for parts in sorted(changed) if self._tree.knows(parts)]
            load(self._session, self._tree, known, all_below=False, watch=self._on_event)
        snapshot, placing = self._tree.snapshot(), self._tree.placing()
        is_first = not self.loaded.is_set()
        if snapshot != self._snapshot or placing != self._placing or is_first:
            self._snapshot, self._placing = snapshot, placing
            self.loaded.set()
            self._on_change(snapshot)
        if self._on_read is not None:
            self._on_read(self._tree)
