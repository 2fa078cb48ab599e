"""Everything that is in ZooKeeper about a pool, from a tree that was read with `Extent.STATUS` or `EVENTS`. No I/O."""

from __future__ import annotations

from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.core.pool_view import PoolView


def view_of(tree: PoolTree) -> PoolView:
    """The pool as read so far."""
    return PoolView(
        pool=tree.pool,
        snapshot=tree.snapshot(),
        statuses=tree.statuses(),
        nodes_alive=tree.alive("nodes"),
        hosts_alive=tree.alive("hosts"),
        hosts_living=tree.living("hosts"),
        orders=tree.orders(),
        spares=tree.spares(),
        actions=tree.actions(),
        report=tree.report(),
        controllers=tree.controllers(),
        controllers_alive=tree.controllers_alive(),
    )
