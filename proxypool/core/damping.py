"""Flap damping: a member that was unfit must be well for a while before it counts as fit again. Pure.

The hold doubles with every relapse and halves with every minute without one. It delays nothing but the return: a member
becomes unfit at once, and one that was never fit since its daemon started is fit as soon as it is well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_HOLD_S = 1.0
LAST_HOLD_S = 60.0
HALVED_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Damping:
    """What is remembered of one member. Times are monotonic seconds."""

    hold_s: float = 0.0
    """Of the last relapse."""
    well_since: float | None = None
    """None: it is unfit, or was never seen well."""
    was_well: bool = False

    def seen(self, *, is_well: bool, now: float) -> Damping:
        """A look at the member."""
        if is_well:
            return replace(self, well_since=now if self.well_since is None else self.well_since, was_well=True)
        if self.well_since is None or not self.was_well:
            return self
        quiet_s = now - self.well_since
        hold_s = 2.0 * self.hold_s * 0.5 ** (quiet_s // HALVED_EVERY_S)
        return Damping(min(LAST_HOLD_S, max(FIRST_HOLD_S, hold_s)), None, was_well=True)

    def until(self) -> float | None:
        """When it counts as fit again; None: it is unfit, or was never held."""
        return None if self.well_since is None or not self.hold_s else self.well_since + self.hold_s

    def has_just_returned(self, now: float) -> bool:
        """Whether it became well so lately that another member may be about to, too."""
        return self.hold_s > 0 and self.well_since is not None and now < self.well_since + FIRST_HOLD_S

    def left_s(self, now: float) -> float:
        """How long it is still held."""
        until = self.until()
        return 0.0 if until is None else max(0.0, until - now)
