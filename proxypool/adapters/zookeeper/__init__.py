"""ZooKeeper through kazoo: the pool's shared memory. Nothing outside this package imports kazoo.

session    one session: connects for ever, can be resumed after a restart, tells when it is suspended or lost
mirror     the pool's documents in memory, following ZooKeeper
presence   our ephemeral nodes and candidates
history    the log of what happened to the pool; following: it and the pool, as they change
registry   names of machines and tunnel addresses of hosts, each given once
store      what the command line reads and writes; editing: without races; pairs, scaling: of what
credentials, access_lists: who we are, and who may use what we make; securing: gives a pool its access lists
layout     paths; tree, parsing: from what was read to a snapshot; reading, writing: many requests at once
"""

from proxypool.adapters.zookeeper.changes import Change
from proxypool.adapters.zookeeper.errors import (
    Conflict,
    LayoutTooNew,
    NameInUse,
    NotFound,
    PoolMissing,
    ZooKeeperUnreachable,
)
from proxypool.adapters.zookeeper.examine import read_documents, round_trip_s, written
from proxypool.adapters.zookeeper.following import PoolFollower
from proxypool.adapters.zookeeper.forgetting import entries_of, forget_host
from proxypool.adapters.zookeeper.history import PoolHistory
from proxypool.adapters.zookeeper.layout import (
    Extent,
    host_alive_suffix,
    member_status_suffix,
    node_alive_suffix,
    subnet_host_suffix,
)
from proxypool.adapters.zookeeper.mirror import PoolMirror
from proxypool.adapters.zookeeper.presence import Presence
from proxypool.adapters.zookeeper.registry import Registry
from proxypool.adapters.zookeeper.securing import Difference, Securing
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.store import PoolStore
from proxypool.adapters.zookeeper.switchover import Elections, NotEligible, Switchover

__all__ = [
    "Change",
    "Conflict",
    "Difference",
    "Elections",
    "Extent",
    "LayoutTooNew",
    "NameInUse",
    "NotEligible",
    "NotFound",
    "PoolFollower",
    "PoolHistory",
    "PoolMirror",
    "PoolMissing",
    "PoolSession",
    "PoolStore",
    "Presence",
    "Registry",
    "Securing",
    "Switchover",
    "ZooKeeperUnreachable",
    "entries_of",
    "forget_host",
    "host_alive_suffix",
    "member_status_suffix",
    "node_alive_suffix",
    "read_documents",
    "round_trip_s",
    "subnet_host_suffix",
    "written",
]
