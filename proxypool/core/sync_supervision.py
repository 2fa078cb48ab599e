"""What is to be done about one subnet's conntrackd, step by step. Pure: time and observations are arguments.

Theory of operation. There is a wish (or none), a process (or none), and what the process was told so far. `next_step`
compares them and names one step; whoever does it says how it went (`started`, `failed`, `told`, `looked`, `silent`).
- A process belongs to one namespace and one configuration; another of either is another process.
- Which list of connections a process must have follows from the member's role (see `state_sync` for why): a master's
  holds all that is in the kernel, a backup's is empty. Whenever the role changes, or a process is met for the first
  time, the list is put right; nothing of it is remembered from an earlier life of the daemon. After a planned change
  that has some seconds' time, and is done by telling all.
- A process that is new asks the other member for its list (backup) or tells it its own (master).
- It is looked at every few seconds. No answer twice in a row: it hangs, and is killed. What was lost on the way is told
  anew. Whatever ends it counts, and the pause before the next start grows until it has lived for a while.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from proxypool.core.state_sync import SyncConfig, SyncCounts
from proxypool.core.states import SyncState

__all__ = ["SyncState"]
"""A word of `states` that belongs to the supervision, for its users."""

LOOK_S = 10.0
QUICK_LOOK_S = 2.0
"""Until it is known whether the other member is heard."""
RENEW_S = 45.0
"""How often a master tells all it has. UDP entries live for 120 s after their last event."""
CALM_S = 5.0
"""So long after a change of master no table is read that can wait, here and where ports are counted: connections have
just moved, and while one is read a processor forwards nothing, 10 ms for 262,144 buckets however empty.
"""
RENEWED_PER_S = 2000
"""Above so many per second, on average, telling them is put off: some 5 % of a processor on either side."""
SILENT_LOOKS = 2
READY_S = 15.0
"""From its start until it listens, at the most."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.25, 30.0
STEADY_S = 60.0


class Step(Enum):
    """One thing to do."""

    START = "start"
    STOP = "stop"
    EMPTY_LIST = "empty list"
    """`-f internal`"""
    READ_KERNEL = "read kernel"
    """`-R`"""
    TELL = "tell"
    """`-B`"""
    ASK = "ask"
    """`-n`"""
    LOOK = "look"
    """`-s`"""


class End(StrEnum):
    """Why a process ended."""

    DIED = "died"
    HUNG = "hung"
    FAILED = "failed"
    """It did not start."""
    CHANGED = "changed"
    """Its configuration or its namespace did."""


@dataclass(frozen=True, slots=True)
class SyncWish:
    """What is wanted in a subnet's namespace."""

    config: SyncConfig
    namespace: int
    """Which one, by its inode."""
    is_master: bool | None
    """None: not known yet."""
    was_planned: bool = False
    """Of a master: whether it was elected before it became one. Then the one before it mostly lives, and has all
    connections; in mode strict it may be dead, and is told all when it returns, but not in the first seconds.
    """


@dataclass(frozen=True, slots=True)
class SyncProcess:
    """A conntrackd that runs."""

    pid: int
    fingerprint: str
    namespace: int


@dataclass(frozen=True, slots=True)
class SyncReport:
    """For status and metrics."""

    state: SyncState
    problem: str | None = None
    counts: SyncCounts | None = None
    restarts: tuple[tuple[str, int], ...] = ()
    """Why it was started again, and how often."""


@dataclass
class Supervision:
    """One subnet."""

    ends: Counter[End] = field(default_factory=Counter)
    problem: str | None = None
    counts: SyncCounts | None = None
    _pid: int | None = None
    """The process that was met last."""
    _is_started_here: bool = False
    _role: bool | None = None
    """Whether the process's list is a master's; None: not put right yet."""
    _is_whole: bool = True
    """Whether a master's list has all, and not only what has changed since the planned change."""
    _ending: End | None = None
    """Why it is being stopped; None: nobody wants it any more."""
    _pending: list[Step] = field(default_factory=list)
    _is_heard: bool | None = None
    _look_at: float = 0.0
    _met_at: float = 0.0
    _renew_at: float = 0.0
    _start_at: float = 0.0
    _failures: int = 0
    _silent: int = 0

    def next_step(self, wish: SyncWish | None, process: SyncProcess | None, now: float) -> Step | None:
        """The next thing to do; None: nothing now."""
        self._meet(process, now)
        if wish is None:
            self._ending = None
            return Step.STOP if process else None
        if process is None:
            return Step.START if now >= self._start_at else None
        if (process.namespace, process.fingerprint) != (wish.namespace, wish.config.fingerprint):
            self._ending = End.CHANGED
            return Step.STOP
        if self._silent:
            self._ending = End.HUNG
            return Step.STOP if self._silent >= SILENT_LOOKS else Step.LOOK
        self._follow_role(wish, now)
        if self._pending:
            return self._pending[0]
        return Step.LOOK if now >= self._look_at else None

    def _meet(self, process: SyncProcess | None, now: float) -> None:
        pid = process.pid if process else None
        if pid == self._pid:
            if pid is not None and now - self._met_at > STEADY_S and not self._silent:
                self._failures = 0
            return
        if pid is None and self._pid is not None:
            self._ended(End.DIED, now)
        self._pid, self._met_at, self._look_at = pid, now, now
        self._role, self._is_heard, self._silent, self.counts = None, None, 0, None
        self._pending.clear()

    def _ended(self, why: End, now: float) -> None:
        self.ends[why] += 1
        self._start_at = now + min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
        self._failures += 1

    def _follow_role(self, wish: SyncWish, now: float) -> None:
        """See the module's text."""
        is_master = wish.is_master
        if is_master is None:
            return
        if self._role is None:
            # One that was started just now has read the kernel already.
            own = [Step.TELL] if self._is_started_here else [Step.READ_KERNEL, Step.TELL]
            self._pending = own if is_master else [Step.EMPTY_LIST, Step.ASK]
            self._is_whole, self._renew_at = True, now + RENEW_S
        elif self._role is not is_master:
            # The other member has all that this one had: it was told as it happened. One that lives will not ask for it
            # soon, and what ends meanwhile has changed its state before, and is in the list by that.
            is_calm = is_master and wish.was_planned
            self._is_whole = not is_calm
            self._pending = [] if is_calm else [Step.READ_KERNEL] if is_master else [Step.EMPTY_LIST]
            self._renew_at = now + (CALM_S if is_calm else RENEW_S)
        elif is_master and not self._pending and now >= self._renew_at:
            self._pending = [Step.READ_KERNEL, Step.TELL]
            entries = self.counts.entries if self.counts else 0
            self._renew_at = now + max(RENEW_S, entries / RENEWED_PER_S)
        self._role = is_master

    # ---- how it went ---------------------------------------------------------------------------------------------

    def started(self, process: SyncProcess, now: float) -> None:
        """A START gave this process."""
        self._meet(process, now)
        self._is_started_here, self.problem = True, None
        # It needs a moment until it answers.
        self._look_at = now + QUICK_LOOK_S

    def failed(self, problem: str, now: float) -> None:
        """A START gave none."""
        self.problem = problem
        self._ended(End.FAILED, now)

    def stopped(self, now: float) -> None:
        """A STOP is done."""
        self._pid = None
        self._is_started_here = False
        self._pending.clear()
        self._silent = 0
        if self._ending is End.HUNG:
            self._ended(End.HUNG, now)
        elif self._ending is not None:
            self.ends[self._ending] += 1
        self._ending = None

    def told(self, step: Step) -> None:
        """It answered to what it was told."""
        self._silent = 0
        if self._pending and self._pending[0] is step:
            del self._pending[0]
        self._is_whole = self._is_whole or step is Step.READ_KERNEL

    def looked(self, counts: SyncCounts, now: float) -> None:
        """It said what it has done."""
        before, self.counts, self._silent, self.problem = self.counts, counts, 0, None
        self._look_at = now + (LOOK_S if before is not None else QUICK_LOOK_S)
        if before is None:
            return
        self._is_heard = counts.messages_received > before.messages_received
        if not self._role or self._pending:
            # A backup has nothing of its own to tell.
            return
        if counts.overruns > before.overruns:
            self._pending = [Step.EMPTY_LIST, Step.READ_KERNEL, Step.TELL]
        elif counts.queue_drops > before.queue_drops:
            self._pending = [Step.TELL] if self._is_whole else [Step.READ_KERNEL, Step.TELL]

    def silent(self, problem: str, now: float) -> None:
        """It did not answer in time. The next look decides; then its list is put right, whatever was done of that."""
        self._silent += 1
        self.problem, self._role, self._is_started_here = problem, None, False
        self._look_at = now
        self._pending.clear()

    def not_ready(self, problem: str, now: float) -> None:
        """It does not listen: one that was started just now reads the table of the kernel first."""
        if now - self._met_at > READY_S:
            self.silent(problem, now)

    def report(self) -> SyncReport:
        """What is known."""
        if self._pid is None:
            state = SyncState.DOWN if self._failures or self.problem else SyncState.STARTING
        elif self._silent:
            state = SyncState.HUNG
        elif self._is_heard is None:
            state = SyncState.STARTING
        else:
            state = SyncState.OK if self._is_heard else SyncState.UNHEARD
        restarts = tuple(sorted((end.value, count) for end, count in self.ends.items()))
        return SyncReport(state, self.problem, self.counts, restarts)
