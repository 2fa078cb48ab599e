"""What the dataplane thread keeps of a scope: the wish, when to look next, and what it believes without looking."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from proxypool.core.planner import Operation, key_of
from proxypool.core.scene import Key, Scene

FIRST_RETRY_S, MAX_RETRY_S = 0.2, 5.0
MIN_INTERVAL_S = 0.2
"""Pause between looks at one scope that nobody asked to change."""
VERIFY_AFTER_S, VERIFY_WITHIN_S = 1.0, 10.0
"""What was done the short way is looked at so long after the last of it, but at the latest so long after the first."""
RESYNC_S = 240.0
"""Every scope is observed at least this often, whatever notifications were lost. It costs some 12 ms a namespace."""


@dataclass(slots=True)
class Belief:
    """What is known of a scope without looking, from one wish to the next. For the dataplane thread alone."""

    scene: Scene | None = None
    """The wish that is in place; None: only a look can tell."""
    identity: int | None = None
    """The namespace that it is in place in."""
    unseen: set[Key] = field(default_factory=set)
    """What was put or removed since the last look."""
    verify_at: float = float("inf")
    _unseen_since: float = 0.0

    def base_of(self, desired: Scene, identity: int | None) -> Scene | None:
        """The wish whose difference to this one is all that is to be done; None: only a look can tell what is."""
        if self.scene is None or not self.scene.exists or not desired.exists:
            return None
        return self.scene if identity is not None and identity == self.identity else None

    def confirm(self, scene: Scene, identity: int | None) -> None:
        """A look found the wish in place."""
        self.scene, self.identity = scene, identity
        self.unseen.clear()
        self.verify_at = float("inf")

    def extend(self, scene: Scene, operations: Iterable[Operation], now: float) -> None:
        """The difference to another wish was applied without an error."""
        if not self.unseen:
            self._unseen_since = now
        self.scene = scene
        self.unseen.update(key for operation in operations if (key := key_of(operation)) is not None)
        if self.unseen:
            self.verify_at = min(now + VERIFY_AFTER_S, self._unseen_since + VERIFY_WITHIN_S)

    def has_drifted(self, applied: Iterable[Operation]) -> bool:
        """Whether any of these put right what had once been seen as it was wanted."""
        return any(key_of(operation) not in self.unseen for operation in applied)


@dataclass(slots=True)
class Scope:
    """A wish for one namespace."""

    desired: Scene
    mark: int = 0
    belief: Belief = field(default_factory=Belief)
    is_dirty: bool = True
    is_new_wish: bool = True
    has_converged: bool = False
    """Whether this wish was once fully in place: a difference after that is drift."""
    not_before: float = 0.0
    """No look before this, but for a new wish."""
    retry_s: float = FIRST_RETRY_S
    looked_at: float = 0.0
    problems: tuple[str, ...] = ()

    def successor(self, desired: Scene, mark: int) -> Scope:
        """Another wish for the same namespace. Somebody's change that was not looked at yet stays one."""
        return Scope(
            *(desired, mark, self.belief),
            is_dirty=self.is_dirty,
            not_before=self.not_before,
            looked_at=self.looked_at,
        )

    @property
    def look_at(self) -> float:
        """When to look at the namespace next."""
        soon = 0.0 if self.is_dirty else min(self.belief.verify_at, self.looked_at + RESYNC_S)
        return max(soon, self.not_before)

    def was_extended(self, operations: Collection[Operation], now: float) -> None:
        """This new wish was fulfilled by its difference to the last one."""
        if operations and not self.belief.unseen:
            # Notifications of what we did ourselves are no reason to look at once. The first of a stream of wishes puts
            # a look off, the others do not.
            self.not_before = now + MIN_INTERVAL_S
        self.belief.extend(self.desired, operations, now)
        self.is_new_wish, self.has_converged = False, True

    def was_looked_at(self, identity: int | None, problems: tuple[str, ...], now: float) -> None:
        """A full round is over."""
        self.looked_at, self.problems = now, problems
        if problems:
            self.belief.scene = None
            self.is_dirty = True
            self.not_before = now + self.retry_s
            self.retry_s = min(MAX_RETRY_S, self.retry_s * 2)
        else:
            self.belief.confirm(self.desired, identity)
            self.has_converged = True
            self.not_before = now + MIN_INTERVAL_S
            self.retry_s = FIRST_RETRY_S
