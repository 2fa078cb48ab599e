"""What `doctor` and `bundle` ask of ZooKeeper: how long answers take, when a node was written, all documents."""

from __future__ import annotations

import statistics
import time

from proxypool.adapters.zookeeper.layout import HISTORY
from proxypool.adapters.zookeeper.reading import read_nodes, read_subtree
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


def read_documents(session: PoolSession) -> dict[str, bytes]:
    """Path -> data of every node of the pool but the records of its history, of which there are many.

    Raises:
        TransientError: the connection broke.
    """
    root, history = session.layout.root, session.layout.path(HISTORY)
    paths = sorted(path for path in read_subtree(session, root) if not path.startswith(f"{history}/"))
    found = zip(paths, read_nodes(session, paths), strict=True)
    return {path: node.data for path, node in found if node is not None}


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
