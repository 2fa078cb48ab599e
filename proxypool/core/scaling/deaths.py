"""Which nodes are dead for so long that their places are given to others. Pure.

Only what was watched counts: after the controller has become leader, or ZooKeeper has come back, every node has its
full time again. And where many look dead at once it is rather the network, or ZooKeeper, than they.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

MAX_PART = 4
"""More than one node, and more than one in so many that carry pairs, are many."""


@dataclass(frozen=True, slots=True)
class Deaths:
    """Since when nodes were seen not to be alive, without a break. Times are monotonic seconds."""

    since: Mapping[str, float] = field(default_factory=dict)

    def seen(self, nodes: Collection[str], alive: Collection[str], now: float) -> Deaths:
        """A look at all of them. `nodes`: those that ought to live."""
        return Deaths({node: self.since.get(node, now) for node in nodes if node not in alive})

    def dead(self, after_s: float, now: float) -> frozenset[str]:
        """Those that have been so for long enough."""
        return frozenset(node for node, since in self.since.items() if now - since >= after_s)

    def doubt(self, carriers: Collection[str]) -> str:
        """Why no node is to be replaced now; empty: there is no reason. `carriers`: nodes that have members on them."""
        silent = sorted(set(carriers) & self.since.keys())
        if len(silent) <= max(1, len(set(carriers)) // MAX_PART):
            return ""
        return (
            f"{len(silent)} of {len(set(carriers))} nodes look dead at once, so none is replaced: if they are, use "
            f"`proxypool node drain {silent[0]}` and so on"
        )
