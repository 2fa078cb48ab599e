"""The part of a pool that one node is in, as the node knows it: its own members as they are now, the others as they
said last. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from proxypool.core.model import Alive, MemberStatus, PairSpec, Snapshot
from proxypool.core.pool_view import PoolView


class Heard(Struct, frozen=True, kw_only=True):
    """What members of the node's pairs published."""

    statuses: Mapping[str, Mapping[str, MemberStatus]] = field(default_factory=dict)
    """`<subnet>/<pair>` -> node -> what it published"""
    alive: Mapping[str, Alive] = field(default_factory=dict)


def own_view(
    pool: str, node: str, snapshot: Snapshot, heard: Heard, own: Iterable[tuple[PairSpec, MemberStatus]], alive: Alive
) -> PoolView:
    """A view for `status.assemble`: the node's pairs, their subnets and nodes. `own`: its members as they are now."""
    pairs: dict[str, dict[str, PairSpec]] = {}
    for pair in snapshot.pairs_on(node):
        pairs.setdefault(pair.subnet, {})[pair.id] = pair
    statuses = {name: dict(found) for name, found in heard.statuses.items()}
    for pair, status in own:
        statuses.setdefault(f"{pair.subnet}/{pair.id}", {})[node] = status
    names = {member.node for some in pairs.values() for pair in some.values() for member in pair.members} | {node}
    return PoolView(
        pool=pool,
        snapshot=replace(
            snapshot,
            subnets={name: snapshot.subnets[name] for name in pairs},
            pairs=pairs,
            nodes={name: spec for name, spec in snapshot.nodes.items() if name in names},
            hosts={},
        ),
        statuses=statuses,
        nodes_alive={**heard.alive, node: alive},
    )
