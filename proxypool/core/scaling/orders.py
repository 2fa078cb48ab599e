"""What an operator orders of a node: no more pairs, or none at all. Pure; times are wall times."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from proxypool.core.model import PairSpec, Snapshot
from proxypool.core.scaling.documents import NodeOrders
from proxypool.core.scaling.model import ScalingMode


def cordoned(orders: NodeOrders, at: float, who: str, reason: str) -> NodeOrders:
    """The node takes no new pair from now on, or since when it does not: then that stays, with who said so and why."""
    if orders.cordoned_since is not None:
        return orders
    return replace(orders, cordoned_since=at, who=who, reason=reason)


def draining(orders: NodeOrders, at: float, who: str, reason: str) -> NodeOrders:
    """Its members move elsewhere, and it takes no new one."""
    if orders.draining_since is not None:
        return orders
    since = at if orders.cordoned_since is None else orders.cordoned_since
    return replace(orders, cordoned_since=since, draining_since=at, who=who, reason=reason)


def uncordoned(orders: NodeOrders, who: str, reason: str) -> NodeOrders:
    """As any node. Who took the order back is kept."""
    if orders.cordoned_since is None and orders.draining_since is None:
        return orders
    return replace(orders, cordoned_since=None, draining_since=None, who=who, reason=reason)


class Stay(Struct, frozen=True):
    """A member on a node that is to be empty."""

    pair: PairSpec
    why: str = ""
    """Why the controller leaves it there; empty: it moves it."""


def stays_on(node: str, snapshot: Snapshot) -> tuple[Stay, ...]:
    """The pairs with a member on a node, those that the controller moves first."""
    found = [Stay(pair, _why_it_stays(pair, snapshot)) for pair in snapshot.all_pairs() if pair.member(node)]
    return tuple(sorted(found, key=lambda stay: (bool(stay.why), stay.pair.subnet, stay.pair.id)))


def _why_it_stays(pair: PairSpec, snapshot: Snapshot) -> str:
    spec = snapshot.subnets.get(pair.subnet)
    scaling = spec.scaling if spec else None
    if scaling is None:
        return f"subnet {pair.subnet} is not managed by the controller"
    if scaling.mode is ScalingMode.OFF:
        return f"scaling of subnet {pair.subnet} is off"
    if scaling.paused_since is not None:
        return f"scaling of subnet {pair.subnet} is paused"
    return ""
