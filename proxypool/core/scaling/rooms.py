"""How much room the pool's nodes have for new pairs. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from proxypool.core.model import NodeSpec, Snapshot
from proxypool.core.scaling.documents import Action, Placing
from proxypool.core.scaling.placement import NodeRoom

PAIRS = "pairs"
"""Label of a node that may be in another number of pairs than most."""
_NUMBER = re.compile(r"[0-9]{1,6}")


def rooms(
    snapshot: Snapshot,
    placing: Placing,
    actions: Iterable[Action],
    max_pairs: int,
    bandwidth_used: Mapping[str, float],
) -> tuple[NodeRoom, ...]:
    """Of all registered nodes. What an action has chosen and not written yet counts. `bandwidth_used`: as far as it is
    known.
    """
    members = Counter(member.node for pair in snapshot.all_pairs() for member in pair.members)
    for action in actions:
        if action.pair not in snapshot.pairs.get(action.subnet, {}):
            members.update(action.nodes)
    return tuple(
        NodeRoom(
            name=name,
            labels=spec.labels,
            is_alive=name in placing.nodes_alive,
            is_cordoned=name in placing.orders and placing.orders[name].cordoned_since is not None,
            members=members[name],
            max_members=_limit(spec, max_pairs),
            bandwidth_used=bandwidth_used.get(name),
        )
        for name, spec in sorted(snapshot.nodes.items())
    )


def _limit(spec: NodeSpec, usual: int) -> int:
    text = spec.labels.get(PAIRS, "")
    return int(text) if _NUMBER.fullmatch(text) else usual
