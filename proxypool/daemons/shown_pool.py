"""What a controller shows on its status page: the whole pool, which is read while somebody looks (`on_demand`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxypool.adapters.zookeeper import PoolSession, PoolStore
from proxypool.core.assembly import assemble
from proxypool.core.discovery import Group, targets
from proxypool.core.endpoints import parse_endpoint
from proxypool.core.history import RecordList
from proxypool.core.model import Snapshot
from proxypool.core.pool_view import PoolView
from proxypool.core.role import Coordinator
from proxypool.core.scaling.overview import ScalingView, scale_status
from proxypool.core.topology import topology
from proxypool.daemons.on_demand import OnDemand, Reading, require_connected
from proxypool.daemons.pulse import DEAD_S, Pulse
from proxypool.daemons.recent import Recent
from proxypool.web.page import Documents
from proxypool.web.site import Sight

_EVERY_ADDRESS = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - compared


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSeen:
    """What a controller reads for the page."""

    view: PoolView
    history: RecordList
    at: float
    """Wall time."""


class ShownPool:
    """A `web.site.Daemon`."""

    def __init__(
        self,
        name: str,
        session: PoolSession,
        pool_snapshot: Callable[[], Snapshot | None],
        metrics: str,
    ) -> None:
        """`pool_snapshot`: as the mirror has it; None: not yet. `metrics`: where its own are served."""
        self._name, self._session, self._snapshot, self._metrics = name, session, pool_snapshot, metrics
        self._store, self._recent = PoolStore(session), Recent(session)
        self.pulse = Pulse(DEAD_S + session.timeout_s)
        self.reading = OnDemand("status-page", self._read)
        self._lock = threading.Lock()
        self._made: tuple[Reading[PoolSeen], Documents] | None = None

    def _read(self) -> PoolSeen:
        require_connected(self._session)
        # At the beginning: what is seen may be newer than it says, and is never older.
        at = time.time()
        return PoolSeen(at=at, view=self._store.read_view(), history=self._recent.read())

    def sight(self) -> Sight:
        """The whole pool as it was read last."""
        reading, problem = self.reading.latest()
        if reading is None:
            return Sight(None, problem=problem)
        with self._lock:
            if self._made is None or self._made[0] is not reading:
                self._made = reading, _documents(reading.value)
            documents = self._made[1]
        return Sight(documents, time.monotonic() - reading.at, problem)

    def targets(self, host: str) -> list[Group] | None:
        """Nodes and hosts as registered, and this controller; each other one says itself."""
        snapshot = self._snapshot()
        if snapshot is None:
            return None
        address, port = parse_endpoint(self._metrics, what="metrics")
        own = f"{host}:{port}" if address in _EVERY_ADDRESS and host else self._metrics
        pool = self._session.layout.pool
        return targets(pool, snapshot.nodes.values(), snapshot.hosts.values(), {self._name: own})

    def is_alive(self) -> bool:
        """Whether the main loop goes round."""
        return self.pulse.is_alive()

    def unready(self) -> str:
        """It is ready when it is connected and knows the pool, whether it leads or stands by."""
        if self._session.state is not Coordinator.CONNECTED:
            return "not connected to ZooKeeper"
        return "" if self._snapshot() is not None else "the pool has not been read yet"


def _documents(seen: PoolSeen) -> Documents:
    view = seen.view
    status = assemble(view, seen.at)
    sizes = ScalingView(
        pool=view.pool,
        snapshot=view.snapshot,
        actions=view.actions,
        report=view.report,
        controllers=view.controllers,
    )
    return Documents(status, seen.history, topology(status), scale_status(sizes, seen.at))
