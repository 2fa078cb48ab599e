"""What one look at ZooKeeper shows of a pool: documents, elections, and what daemons publish. Values only."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from proxypool.core.model import Alive, MemberStatus, Snapshot
from proxypool.core.scaling.documents import Action, ControllerAlive, NodeOrders, Report, Spares


class PoolView(Struct, frozen=True, kw_only=True):
    """Everything that is in ZooKeeper about a pool, at one moment."""

    pool: str
    snapshot: Snapshot
    statuses: Mapping[str, Mapping[str, MemberStatus]] = field(default_factory=dict)
    """`<subnet>/<pair>` -> node -> what it published"""
    nodes_alive: Mapping[str, Alive] = field(default_factory=dict)
    hosts_alive: Mapping[str, Alive] = field(default_factory=dict)
    hosts_living: frozenset[str] = frozenset()
    """Hosts that have a proof of life, also where it was not read what it says"""
    orders: Mapping[str, NodeOrders] = field(default_factory=dict)
    """Node -> what an operator wants of it"""
    spares: Mapping[str, Spares] = field(default_factory=dict)
    """Subnet -> what the provider `spare` may use"""
    actions: tuple[Action, ...] = ()
    """What the controller is doing"""
    report: Report | None = None
    """What the leading controller wrote last"""
    controllers: int = 0
    """So many run"""
    controllers_alive: tuple[ControllerAlive, ...] = ()
    """What they say of themselves"""
