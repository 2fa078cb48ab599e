"""How many of a group's new connections each path is to take: from weights, states and silence of its pairs. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from ipaddress import IPv4Address
from itertools import pairwise
from math import gcd, lcm

from proxypool.core.model import PairSpec, PairState
from proxypool.core.steering import GROUPS, INDEXES, Group, Leg, Legs, Share


def usable(pairs: Iterable[PairSpec], silent: Container[IPv4Address]) -> tuple[tuple[Leg, int], ...]:
    """Legs for new connections, with their weights: pairs that are active and answer.

    `silent`: HaVips that have stopped to answer, or have not yet begun. Where all active ones are, the silence is
    rather the host's own than theirs, and they are used. A draining pair never is, not even as the last one.
    """
    active = [pair for pair in sorted(pairs, key=lambda pair: pair.id) if pair.state is PairState.ACTIVE]
    answering = [pair for pair in active if pair.havip not in silent]
    return tuple((Leg(pair.subnet, pair.havip), pair.weight) for pair in answering or active)


def shares_of(options: Iterable[Sequence[tuple[Leg, int]]]) -> tuple[Share, ...]:
    """Paths of a group and their shares, from the options of each of its subnets. Remembered: most groups keep theirs.

    Every subnet's own shares come out exactly (the quantile coupling of its distribution with the others'), with no
    more paths than all subnets together have options. Beyond sixteen, shares are rounded to sixteenths.
    """
    return _shares_of(tuple(tuple(option) for option in options if option))


@lru_cache(maxsize=len(GROUPS))
def _shares_of(choices: tuple[tuple[tuple[Leg, int], ...], ...]) -> tuple[Share, ...]:
    edges = {Fraction(0)}
    for option in choices:
        edges |= {edge for _, edge in _cumulative(option)}
    if len(edges) > len(INDEXES):
        edges = {Fraction(round(edge * len(INDEXES)), len(INDEXES)) for edge in edges}
    edges |= {Fraction(1)}
    cuts = sorted(edges)
    taken: dict[Legs, Fraction] = {}
    for low, high in pairwise(cuts):
        middle = (low + high) / 2
        legs = tuple(sorted(next(leg for leg, edge in _cumulative(option) if middle < edge) for option in choices))
        taken[legs] = taken.get(legs, Fraction(0)) + high - low
    scale = lcm(*(share.denominator for share in taken.values()))
    weights = {legs: int(share * scale) for legs, share in taken.items()}
    common = gcd(*weights.values())
    return tuple(Share(legs, weight // common) for legs, weight in weights.items())


def wanted_shares(
    groups: Iterable[Group], pairs: Mapping[str, Mapping[str, PairSpec]], silent: Container[IPv4Address]
) -> dict[Group, tuple[Share, ...]]:
    """The shares of groups, from the pool's pairs (subnet -> id -> pair) and the HaVips that do not answer."""
    return {group: shares_of([usable(pairs.get(subnet, {}).values(), silent) for subnet in group]) for group in groups}


def _cumulative(option: Sequence[tuple[Leg, int]]) -> list[tuple[Leg, Fraction]]:
    total = sum(weight for _, weight in option)
    reached, found = 0, []
    for leg, weight in option:
        reached += weight
        found.append((leg, Fraction(reached, total)))
    return found
