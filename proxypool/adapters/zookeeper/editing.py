"""Edits that cannot race: each reads the pool, is checked against all of it, and commits together with a new version of
the `version` node. If another edit came first the commit fails, and all of it is done again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError, NotEmptyError

from proxypool.adapters.zookeeper.changes import Change
from proxypool.adapters.zookeeper.errors import Conflict, LayoutTooNew
from proxypool.adapters.zookeeper.layout import Extent
from proxypool.adapters.zookeeper.mirror import load
from proxypool.adapters.zookeeper.reading import Node, read_nodes, read_subtree
from proxypool.adapters.zookeeper.registry import pool_missing
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.adapters.zookeeper.writing import Check, Create, Delete, SetData, Write, commit
from proxypool.core.documents import require_known

ATTEMPTS = 40
MAX_BYTES = 600_000
"""Of one transaction: ZooKeeper refuses packets above 1 MiB (jute.maxbuffer)."""
BYTES_PER_WRITE = 64
"""What a write takes besides path and data: headers, and the access list of a pool that is open to all."""


class PoolEditor:
    """See the module's text. Blocking; the session must be connected."""

    def __init__(self, session: PoolSession) -> None:
        self._session, self._layout = session, session.layout
        self._version_path = self._layout.path("version")

    def read(self, extent: Extent = Extent.SERVING) -> PoolTree:
        """The pool as it is now.

        Raises:
            PoolMissing: it was not initialised.
            LayoutTooNew: it was written by a later proxypool.
            TransientError: the connection broke.
        """
        tree = PoolTree(self._layout, extent)
        load(self._session, tree, tree.roots(), all_below=True, watch=None)
        if tree.raw(("version",)) is None:
            raise pool_missing(self._layout.pool)
        problem = tree.problem(("version",))
        if problem is not None:
            raise LayoutTooNew(problem)
        return tree

    def edit(self, plan: Callable[[PoolTree], Sequence[Change]], extent: Extent = Extent.SERVING) -> Sequence[Change]:
        """Read so much of the pool, and write the changes that `plan` makes of it; returns them.

        Raises:
            Conflict: others were first again and again.
            What `read` and `plan` raise; nothing was changed then.
        """
        for attempt in range(ATTEMPTS):
            version = self.version()
            changes = plan(self.read(extent))
            if self.commit(version, [write for change in changes for write in change.writes]):
                return changes
            time.sleep(random.uniform(0, 0.01 * min(attempt + 1, 10)))  # noqa: S311 - spreads rivals, keeps no secret
        raise Conflict("others change the pool again and again: try once more")

    def removal(self, kind: str, name: str, suffix: str) -> Change:
        """What removes a node with all that is below it, as it is now. `kind` and `name` are for whoever is told of it.

        Raises:
            DocumentTooNew: a later proxypool wrote one of the documents.
        """
        doomed = read_subtree(self._session, self._layout.path(suffix))
        for path, node in zip(doomed, read_nodes(self._session, doomed), strict=True):
            if node is not None and not node.owner:
                require_known(node.data, what=path)
        return Change(kind, name, "removed", tuple(Delete(path) for path in doomed))

    def version(self) -> Node:
        """The pool's version, to be read before what an edit is made of.

        Raises:
            PoolMissing: it was not initialised.
            TransientError: the connection broke.
        """
        (version,) = read_nodes(self._session, (self._version_path,))
        if version is None:
            raise pool_missing(self._layout.pool)
        return version

    def commit(self, version: Node, writes: Sequence[Write], checks: Sequence[Check] = ()) -> bool:
        """Whether nobody else changed the pool since `version` was read, all checks hold, and all was written.

        Raises:
            TransientError: the connection broke.
        """
        try:
            for count, part in enumerate(_parts(writes, self._session.access.bytes_of(self._session))):
                guard = SetData(self._version_path, version.data, version.version + count)
                commit(self._session, [*checks, guard, *part])
        except (BadVersionError, NodeExistsError, NoNodeError, NotEmptyError):
            return False
        return True


def _parts(writes: Sequence[Write], list_bytes: int) -> Iterator[list[Write]]:
    part: list[Write] = []
    size = 0
    for write in writes:
        data = b"" if isinstance(write, Delete) else write.data
        weight = len(write.path) + len(data) + BYTES_PER_WRITE + (list_bytes if isinstance(write, Create) else 0)
        if part and size + weight > MAX_BYTES:
            yield part
            part, size = [], 0
        part.append(write)
        size += weight
    if part:
        yield part
