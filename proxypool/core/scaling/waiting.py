"""Who waits for an action to end, so that one of theirs can begin without another look at the whole pool. Pure.

A round plans for every subnet. Between two rounds only the first of those that it left waiting are looked at again,
so what that costs does not depend on how large the pool is, nor on how many wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """Subnets, most urgent first."""

    subnets: tuple[str, ...] = ()

    def first(self, count: int) -> tuple[str, ...]:
        """Those whose turn comes next."""
        return self.subnets[:count]

    def after(self, looked_at: Collection[str], began: Iterable[str], still: Collection[str]) -> Waiting:
        """After some of them were planned for: for `began` something has begun, `still` wait for their next turn. Who
        has just had one gets another when everybody else has had theirs.
        """
        had = [name for name in dict.fromkeys(began) if name in still]
        left = [name for name in self.subnets if name not in had and (name not in looked_at or name in still)]
        return Waiting((*left, *had))
