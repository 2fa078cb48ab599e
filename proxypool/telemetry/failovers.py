"""How long failovers and switchovers take, by phase, as the new master sees them.

Phases: `gate`, from keepalived's claim of the HaVip (its line in the notify fifo) to the open gate; `election`, from
the claim to the election's confirmation. Times of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from proxypool.core.model import PairSpec
from proxypool.core.role import Role, RoleChanged


class Kind(StrEnum):
    """Why a member became master."""

    FAILOVER = "failover"
    SWITCHOVER = "switchover"


class Phase(StrEnum):
    """Part of a change of master."""

    GATE = "gate"
    ELECTION = "election"


class Observer:
    """Where phases go; the metrics are one."""

    def became_master(self, pair: PairSpec, kind: Kind) -> None:
        """A change of master began."""

    def phase(self, pair: PairSpec, kind: Kind, phase: Phase, duration_s: float) -> None:
        """A phase ended."""


@dataclass
class FailoverClock:
    """Stopwatch of the pairs of one node."""

    observer: Observer
    monotonic: Callable[[], float]
    claimed_at: dict[str, float] = field(default_factory=dict)
    """When keepalived's line about the pair was read."""
    _open: dict[str, tuple[Kind, float]] = field(default_factory=dict)

    def claimed(self, pair: PairSpec, at: float) -> None:
        """keepalived said that it claims the HaVip."""
        self.claimed_at[_key(pair)] = at

    def role_changed(self, pair: PairSpec, change: RoleChanged, now: float) -> None:
        """The gate was written before this fact is told."""
        if change.new is not Role.MASTER or change.old is Role.INIT:
            return
        kind = Kind.SWITCHOVER if change.was_elected else Kind.FAILOVER
        began = self.claimed_at.pop(_key(pair), now)
        self.observer.became_master(pair, kind)
        self.observer.phase(pair, kind, Phase.GATE, max(0.0, self.monotonic() - began))
        if change.was_elected:
            return
        self._open[_key(pair)] = (kind, began)

    def elected(self, pair: PairSpec, *, is_self: bool, now: float) -> None:
        """The election spoke."""
        waiting = self._open.pop(_key(pair), None)
        if waiting is not None and is_self:
            kind, began = waiting
            self.observer.phase(pair, kind, Phase.ELECTION, max(0.0, now - began))


def _key(pair: PairSpec) -> str:
    return f"{pair.subnet}/{pair.id}"
