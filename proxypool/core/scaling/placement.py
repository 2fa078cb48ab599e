"""Which two nodes a new pair goes to, or why there is no place for it. Pure.

Failure domains: where the pool's nodes have two zones or more (label `zone`), the two are of different zones; else of
different racks (label `rack`). A node without the label is a domain of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

ZONE, RACK = "zone", "rack"
FULL = 0.7
"""A node that uses so much of its bandwidth gets no more pairs: what it has may grow."""


_Domain: TypeAlias = tuple[str, str]


class Spread(StrEnum):
    """Which of the nodes with room are taken."""

    SPREAD = "spread"
    """The emptiest: a node that dies takes few pairs along."""
    PACK = "pack"
    """The fullest: many small subnets share few nodes."""


@dataclass(frozen=True, slots=True)
class CardOffer:
    """Whether the provider can get a card on a node."""

    cards: int | None
    """So many more; None: no limit is known."""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A registered node, as far as placing goes."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_alive: bool = True
    is_cordoned: bool = False
    members: int = 0
    """Members on it, those that are on their way included."""
    max_members: int = 100
    bandwidth_used: float | None = None
    """Part of its bandwidth, 0 to 1; None: not known, and no hindrance."""

    @property
    def fullness(self) -> float:
        """0 to 1."""
        return self.members / self.max_members if self.max_members else 1.0


@dataclass(frozen=True, slots=True)
class NoPlace:
    """There is no place, and why: for people."""

    why: str


def place(
    subnet: str,
    nodes: Iterable[NodeRoom],
    offers: Mapping[str, CardOffer],
    *,
    barred: Mapping[str, str],
    spread: Spread,
) -> tuple[str, str] | NoPlace:
    """Two nodes for a pair of the subnet. `barred`: nodes that must not be taken, and why.

    Equal ones are told apart by a hash of subnet and node, so that the pairs of a dead node go to many.
    """
    every = sorted(nodes, key=lambda node: node.name)
    hindrances = {node.name: barred.get(node.name) or _hindrance(node, offers) for node in every}
    free = sorted(
        (node for node in every if hindrances[node.name] is None), key=lambda node: _rank(subnet, node, spread)
    )
    label = ZONE if len({node.labels[ZONE] for node in every if ZONE in node.labels}) > 1 else RACK
    best: dict[_Domain, str] = {}
    for node in free:
        best.setdefault(_domain(node, label), node.name)
    sizes = Counter(_domain(node, label) for node in free)
    for domain, size in sizes.items():
        if 2 * size >= len(free):
            # Or the last nodes of the largest domain would find no partner for the subnet's next pairs.
            best = {domain: best[domain], **best}
    match list(best.values()):
        case [first, second, *_]:
            return first, second
        case _:
            return NoPlace(_why(len(every), free, label, hindrances.values()))


def _hindrance(node: NodeRoom, offers: Mapping[str, CardOffer]) -> str | None:
    """Why this node cannot take a pair, in words that are counted."""
    offer = offers.get(node.name)
    if not node.is_alive:
        return "not alive"
    if node.is_cordoned:
        return "cordoned"
    if node.members >= node.max_members:
        return "full"
    if node.bandwidth_used is not None and node.bandwidth_used >= FULL:
        return "short of bandwidth"
    if offer is None or (offer.cards is not None and offer.cards < 1):
        return (offer.why_not if offer else "") or "without a free card"
    return None


def _rank(subnet: str, node: NodeRoom, spread: Spread) -> tuple[float, bytes]:
    fullness = node.fullness if spread is Spread.SPREAD else -node.fullness
    return fullness, hashlib.blake2b(f"{subnet}/{node.name}".encode(), digest_size=8).digest()


def _domain(node: NodeRoom, label: str) -> _Domain:
    name = node.labels.get(label)
    if name is None:
        return "node", node.name
    # Racks of the same name in two zones are two racks; but then there are zones to tell apart.
    return label, name


def _why(count: int, free: Collection[NodeRoom], label: str, hindrances: Iterable[str | None]) -> str:
    reasons = Counter(reason for reason in hindrances if reason is not None)
    told = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    what = f"of {count} node{'' if count == 1 else 's'}" + (f": {told}" if told else "")
    if len(free) > 1:
        return f"all nodes with room are in one {label}, and a pair needs two ({what}): add nodes in another {label}"
    return f"there are no two nodes with room ({what}): add nodes, or make room"
