"""What `proxypool doctor` asks of ZooKeeper: how long answers take, and when by its clock a node was written."""

from __future__ import annotations

import statistics
import time

from proxypool.adapters.zookeeper.session import PoolSession

SAMPLES = 9


def round_trip_s(session: PoolSession, samples: int = SAMPLES) -> float:
    """Median of so many reads, one after the other.

    Raises:
        TransientError: the connection broke.
    """
    took = []
    for _ in range(samples):
        began = time.monotonic()
        session.wait(session.client.exists_async(session.layout.root))
        took.append(time.monotonic() - began)
    return statistics.median(took)


def written(session: PoolSession, suffix: str) -> tuple[bytes, float] | None:
    """A node's data, and when it was written by ZooKeeper's own clock; None: there is no such node.

    Raises:
        TransientError: the connection broke.
    """
    path = session.layout.path(suffix)
    if session.wait(session.client.exists_async(path)) is None:
        return None
    data, stat = session.wait(session.client.get_async(path))
    return bytes(data), stat.mtime / 1000
