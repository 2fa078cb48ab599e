"""What a node shows on its status page: its own members as they are at this moment, ZooKeeper there or not, and the
other members of its pairs as they said last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxypool.adapters.zookeeper import PoolSession
from proxypool.adapters.zookeeper.members import read_members
from proxypool.core.assembly import assemble
from proxypool.core.discovery import Group
from proxypool.core.history import Name, RecordList
from proxypool.core.model import Alive, MemberStatus, PairSpec, Snapshot
from proxypool.core.own_view import Heard, own_view
from proxypool.core.topology import topology
from proxypool.daemons.on_demand import OnDemand, require_connected
from proxypool.daemons.pulse import DEAD_S, Pulse
from proxypool.daemons.recent import Recent
from proxypool.web.page import Documents
from proxypool.web.site import Sight

SAME_S = 0.5
"""What a node shows is put together so often at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNow:
    """What a node knows of itself."""

    snapshot: Snapshot
    own: Iterable[tuple[PairSpec, MemberStatus]]
    alive: Alive


class ShownNode:
    """A `web.site.Daemon`."""

    def __init__(
        self, name: str, session: PoolSession, now: Callable[[], NodeNow | None], unready: Callable[[], str]
    ) -> None:
        """`now`: None as long as it knows no pool."""
        self._name, self._session, self._now, self._unready = name, session, now, unready
        self._recent = Recent(session, self._concerns)
        self._pairs: frozenset[tuple[str, str]] = frozenset()
        self.pulse = Pulse(DEAD_S + session.timeout_s)
        self.reading = OnDemand("status-page", self._read)
        self._lock = threading.Lock()
        self._made: tuple[float, Documents] | None = None

    def _concerns(self, name: Name) -> bool:
        return (name.subnet, name.pair) in self._pairs

    def _read(self) -> tuple[Heard, RecordList]:
        require_connected(self._session)
        now = self._now()
        pairs = now.snapshot.pairs_on(self._name) if now is not None else ()
        self._pairs = frozenset((pair.subnet, pair.id) for pair in pairs)
        statuses, alive = read_members(self._session, pairs)
        return Heard(statuses=statuses, alive=alive), self._recent.read()

    def sight(self) -> Sight:
        """Its own members now, the others as they said last."""
        reading, problem = self.reading.latest()
        with self._lock:
            made = self._made
            if made is None or time.monotonic() - made[0] > SAME_S:
                now = self._now()
                if now is None:
                    return Sight(None, problem=problem)
                heard, records = reading.value if reading is not None else (Heard(), RecordList(items=()))
                view = own_view(self._session.layout.pool, self._name, now.snapshot, heard, now.own, now.alive)
                status = assemble(view, time.time())
                made = self._made = time.monotonic(), Documents(status, records, topology(status))
        return Sight(made[1], time.monotonic() - made[0], problem)

    def targets(self, host: str) -> list[Group] | None:
        """A node knows its own hosts only, so it says nobody."""
        del host
        return None

    def is_alive(self) -> bool:
        """Whether the main loop goes round."""
        return self.pulse.is_alive()

    def unready(self) -> str:
        """Why it does not serve its pairs yet."""
        return self._unready()
