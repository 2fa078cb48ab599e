"""The circuit breaker of mass failovers: how many members of one node may take a HaVip from a living master. Pure.

It counts only what the election alone moves: where the master's daemon is dead or cut off from ZooKeeper and traffic
goes on all the same. What VRRP moves because a master is silent or unfit, and what an operator asks for, is never held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

AT_ONCE = 3
ONE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """A token bucket."""

    at_once: int = AT_ONCE
    one_every_s: float = ONE_EVERY_S
    tokens: float = AT_ONCE
    counted_at: float = 0.0

    def take(self, now: float) -> tuple[Breaker, bool]:
        """One more move: whether it may be made now (monotonic seconds), and the breaker after it."""
        grown = self.tokens + max(0.0, now - self.counted_at) / self.one_every_s
        tokens = min(float(self.at_once), grown)
        is_allowed = tokens >= 1.0
        return replace(self, tokens=tokens - is_allowed, counted_at=now), is_allowed
