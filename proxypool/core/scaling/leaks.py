"""What a provider holds that belongs to nothing: a controller that was paused may have asked for it too late. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from proxypool.core.model import PairSpec
from proxypool.core.scaling.documents import Action

Thing = tuple[str, str, str]
"""Subnet, pair, and the node of a card; addresses have none."""


def leaks(
    held: Iterable[Thing], pairs: Mapping[str, Mapping[str, PairSpec]], actions: Collection[Action]
) -> frozenset[Thing]:
    """Those that no pair has, and no action is about."""
    under_way = {(action.subnet, name) for action in actions for name in action.names}
    found = set()
    for subnet, pair, node in held:
        spec = pairs.get(subnet, {}).get(pair)
        belongs = spec is not None and (not node or spec.member(node) is not None)
        if not belongs and (subnet, pair) not in under_way:
            found.add((subnet, pair, node))
    return frozenset(found)
