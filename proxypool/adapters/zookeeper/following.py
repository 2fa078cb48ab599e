"""Following what happens to a pool: the newest view of it, and the records that were added to its history.

Nothing is polled: a mirror follows the documents and what daemons publish, a watch the history's names.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from proxypool.adapters.zookeeper.history import PoolHistory
from proxypool.adapters.zookeeper.layout import Extent
from proxypool.adapters.zookeeper.mirror import PoolMirror
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.adapters.zookeeper.view import view_of
from proxypool.core.history import Record
from proxypool.core.pool_view import PoolView
from proxypool.core.states import Coordinator


class PoolFollower:
    """See the module's text. Its methods are for one thread; the session must be connected once."""

    def __init__(self, session: PoolSession) -> None:
        """Nothing is read before `start`."""
        self._session, self._history = session, PoolHistory(session)
        self._mirror = PoolMirror(session, lambda _: None, extent=Extent.EVENTS, on_read=self._take)
        self._news = threading.Event()
        self._view: PoolView | None = None
        self._is_history_old = True
        self._known: frozenset[str] = frozenset()

    def start(self) -> None:
        """Follow from now on; records that are there already are no news.

        Raises:
            TransientError: the connection broke.
        """
        self._session.subscribe(self._on_link)
        self._known = frozenset(self._history.names())
        self._mirror.start()

    def stop(self) -> None:
        """Follow no longer."""
        self._mirror.stop()

    @property
    def is_connected(self) -> bool:
        """Whether what is seen is new."""
        return self._session.state is Coordinator.CONNECTED

    def wait(self, timeout_s: float) -> None:
        """Until something may have happened, or the time is over."""
        if self._news.wait(timeout_s):
            self._news.clear()

    def view(self) -> PoolView | None:
        """The pool as last read; None before it was read once."""
        return self._view

    def new_records(self) -> Sequence[Record]:
        """Records that came since the last call, oldest first. One that cannot be read is left out.

        Raises:
            TransientError: the connection broke; what is new is told by a later call.
        """
        if not self._is_history_old:
            return ()
        # A change that comes while we read marks it old again.
        self._is_history_old = False
        try:
            names = self._history.names(self._on_history)
            records = self._history.read(name for name in names if name not in self._known).records
        except Exception:
            self._is_history_old = True
            raise
        self._known = frozenset(names)
        return records

    def _on_history(self, _event: object) -> None:
        self._is_history_old = True
        self._news.set()

    def _on_link(self, _state: Coordinator, _session: int | None) -> None:
        # Watches are gone after a break.
        self._is_history_old = True
        self._news.set()

    def _take(self, tree: PoolTree) -> None:
        self._view = view_of(tree)
        self._news.set()
