"""The role of one member of a pair: a pure state machine.

Theory of operation. Two parties speak: *VRRP* (keepalived, milliseconds, knows who holds the HaVip) and the *election*
(ZooKeeper, seconds, knows who should). The role follows VRRP, because the gate must be where the HaVip is; the priority
follows the election, and moves the HaVip within milliseconds where the two differ. So a dead master is replaced by VRRP
alone and the election confirms it later; a planned change begins with the election and VRRP follows.

`step(state, event, now)` returns the next state and the effects: what the caller must do, in this order. Time is an
argument in seconds of a monotonic clock. TRANSITIONS is the only place where a role changes.

A member that starts stands aside (`init_file` of its track file) until its daemon has found it fit and the election has
spoken: after a reboot keepalived runs before the namespace is there.

What keepalived does with the priority (see `core.keepalived`): the higher one of two members that hear each other is
master. Two that do not hear each other are both master: then the one that is not elected stands aside, if the elected
one is alive, after `Timers.tie_break_s`. It returns when it hears the other again, when the other is elected no longer,
and when ZooKeeper is lost, for then nobody can say that the other lives. Because a member stands aside for one it does
not hear, only a member that can be master may be elected: fit, and with a keepalived that runs and has no fault.

**No preemption.** A member that is elected although it hears a living master does not claim the HaVip: the master's
session ended, and nothing else. It leaves the election and stands again, at the end of the queue, so that the election
follows the master (`is_yielding`). If nobody else stands, because the master's daemon is dead or cut off, its claim
waits for `Timers.hold_s` and then for a `ClaimAllowed` of the caller, who counts how many members of the node move
(`core.breaker`). A candidate that an operator chose claims at once.

**Make before break.** A member that claims the HaVip from a living master opens its gate before it raises its priority
(`is_preparing`), and the old master closes its own when it has given the HaVip up: for some ten milliseconds both are
open, and no packet is lost.

**Caution.** A member that was unfit a moment ago (`damped`) is better than an unfit one and worse than a fit one, and
is not elected. A backup that is about to find what would make it unfit (`doubtful`) takes nothing from a master that
has found it: both are unfit alike. Neither counts for a master: nothing moves because of it.

**Deaf.** A member to which nothing comes on the underlay stands aside: no traffic reaches it, but its advertisements
may reach the other one, which would wait for ever. It returns with the first packet.

**Pause.** A paused pair's master keeps the highest priority whatever its health and the election say; VRRP replaces it
when it is dead.

**Strict.** Only the elected member may be master, and only while its lease lasts (`LeaseSeen`); see ADR 17. Everybody
else stands aside. A newly elected one waits until the lease of its predecessor is over. A member that is to yield gives
the HaVip up first, and leaves the election when its gate is closed.

A restarted daemon knows nothing. Until VRRP has spoken it moves no gate and no candidate; until the first look at the
member's health it moves no priority; and while it has no opinion yet, a track file that says "aside" means that this
member stands aside: its predecessor did, or it has just started.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

from proxypool.core.model import Candidate

PRIORITY_CLAIM = 249
"""Of a member that claims the HaVip from a living master: above what a dead daemon may have left in its track file."""
PRIORITY_ELECTED = 239
PRIORITY_NORMAL = 199
PRIORITY_DAMPED = 149
PRIORITY_UNFIT = 99
PRIORITY_ASIDE = -254
"""What the track file adds to keepalived's priority of 1. -254 is a fault to keepalived: it sends priority 0, drops the
HaVip and does not take it.
"""


class Role(StrEnum):
    """A member's role. `init` only until VRRP has spoken once."""

    INIT = "init"
    MASTER = "master"
    BACKUP = "backup"
    FAULT = "fault"


class Vrrp(StrEnum):
    """keepalived's state of the instance, as its notify fifo tells it; `stop` also when keepalived is not running."""

    UNKNOWN = "unknown"
    MASTER = "master"
    BACKUP = "backup"
    FAULT = "fault"
    STOP = "stop"


class Coordinator(StrEnum):
    """The connection to ZooKeeper.

    `suspended` changes nothing. `lost`: the session is over, or no server has answered for a session timeout, also
    after the daemon's start; the adapter must time the latter itself, for ZooKeeper's client says nothing while it
    reconnects.
    """

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    LOST = "lost"


class Caution(StrEnum):
    """Why a backup that is fit should not take over from a living master."""

    NONE = "none"
    DOUBTFUL = "doubtful"
    """It may be as unfit as a master that just became so, and only has not found out yet."""
    DAMPED = "damped"
    """It was unfit a moment ago."""


@dataclass(frozen=True, slots=True)
class VrrpChanged:
    """keepalived changed the state of the instance."""

    state: Vrrp


@dataclass(frozen=True, slots=True)
class ElectionSeen:
    """Candidates of the pair's election, first is elected."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class CoordinatorChanged:
    """The ZooKeeper connection changed."""

    state: Coordinator


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """Result of a look at what the member needs to serve; no reason means fit."""

    reasons: frozenset[str]
    caution: Caution = Caution.NONE


@dataclass(frozen=True, slots=True)
class OrdersSeen:
    """What the pair's document demands of both members."""

    is_paused: bool = False
    is_strict: bool = False


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """Until when (monotonic seconds) no other member can have been elected and have waited for its turn, as long as
    `session` owns the first candidate. None: there is no lease.
    """

    session: int | None
    until: float


@dataclass(frozen=True, slots=True)
class ClaimAllowed:
    """The breaker lets this member claim the HaVip from a living master."""


@dataclass(frozen=True, slots=True)
class GateSeen:
    """The gate as the kernel has it."""

    is_open: bool


@dataclass(frozen=True, slots=True)
class PrioritySeen:
    """The value in the track file, None if it cannot be read."""

    value: int | None


@dataclass(frozen=True, slots=True)
class HeartbeatHeard:
    """An advertisement of the other member arrived."""


@dataclass(frozen=True, slots=True)
class UnderlaySeen:
    """Whether packets of anybody arrive on the underlay."""

    is_silent: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


Event: TypeAlias = (
    VrrpChanged
    | ElectionSeen
    | CoordinatorChanged
    | HealthSeen
    | OrdersSeen
    | LeaseSeen
    | ClaimAllowed
    | GateSeen
    | PrioritySeen
    | HeartbeatHeard
    | UnderlaySeen
    | Tick
)


@dataclass(frozen=True, slots=True)
class SetGate:
    """Write the gate."""

    is_open: bool


@dataclass(frozen=True, slots=True)
class SetPriority:
    """Write the track file."""

    value: int


@dataclass(frozen=True, slots=True)
class SetContending:
    """Stand in the election, or leave it."""

    contend: bool


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """A fact for telemetry: the role changed."""

    old: Role
    new: Role
    why: str
    epoch: int
    was_elected: bool
    """Whether this member was elected before the change: then it was planned, not a failover."""


@dataclass(frozen=True, slots=True)
class Elected:
    """A fact for telemetry: another member, or nobody, is elected now."""

    node: str | None
    epoch: int


Effect: TypeAlias = SetGate | SetPriority | SetContending | RoleChanged | Elected


class Trigger(StrEnum):
    """What moves a role."""

    VRRP_MASTER = "keepalived claimed the HaVip"
    VRRP_BACKUP = "keepalived is backup"
    VRRP_BACKUP_UNFIT = "keepalived is backup and the member cannot serve"
    VRRP_FAULT = "keepalived reports a fault"
    VRRP_STOP = "keepalived stopped"
    UNFIT = "the member cannot serve"
    FIT = "the member can serve again"


TRANSITIONS: dict[tuple[Role, Trigger], Role] = {
    (Role.INIT, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.INIT, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.INIT, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.INIT, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.INIT, Trigger.VRRP_STOP): Role.FAULT,
    (Role.BACKUP, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.BACKUP, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.BACKUP, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.BACKUP, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.BACKUP, Trigger.VRRP_STOP): Role.FAULT,
    (Role.BACKUP, Trigger.UNFIT): Role.FAULT,
    (Role.BACKUP, Trigger.FIT): Role.BACKUP,
    # No UNFIT: it holds the HaVip until VRRP moves it. As the last one alive it serves as well as it can.
    (Role.MASTER, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.MASTER, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.MASTER, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.MASTER, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.MASTER, Trigger.VRRP_STOP): Role.FAULT,
    (Role.FAULT, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.FAULT, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.FAULT, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.FAULT, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.FAULT, Trigger.VRRP_STOP): Role.FAULT,
    (Role.FAULT, Trigger.UNFIT): Role.FAULT,
    (Role.FAULT, Trigger.FIT): Role.BACKUP,
}
"""UNFIT and FIT move the role only while VRRP says backup; in every other state VRRP alone decides."""
_TRIGGER_OF_VRRP = {
    Vrrp.MASTER: Trigger.VRRP_MASTER,
    Vrrp.BACKUP: Trigger.VRRP_BACKUP,
    Vrrp.FAULT: Trigger.VRRP_FAULT,
    Vrrp.STOP: Trigger.VRRP_STOP,
}


MESSAGE_S = 0.25
"""Time for the news of an ended session to reach a member."""
SILENT_S = 2.0
"""See `Timers`; more where advertisements are slow."""


@dataclass(frozen=True, slots=True)
class Timers:
    """Times of the machine, in seconds."""

    tie_break_s: float = 6.25
    """How long two masters that do not hear each other may last. It must be longer than a dead member's candidate can
    outlive it: otherwise the survivor of a power-off would stand aside for a dead one. See `for_session`."""
    silent_s: float = SILENT_S
    """A backup that has been one for so long hears a living master: longer than VRRP takes to miss one, and shorter
    than the tie break."""
    hold_s: float = 15.0
    """How long an elected backup waits for the living master to stand in the election again."""
    settle_s: float = 1.0
    """How long a claim's priority outlasts the claim."""
    prepare_s: float = 1.0
    """How long a member that claims the HaVip from a living master has its gate open before it is master."""
    rival_s: float = 1.0
    """How long another member must stand before an unfit one gives way to it, in mode strict."""
    lease_s: float = 4.0
    """Length of a lease in mode strict, from the sending of what renewed it."""
    lease_margin_s: float = 0.25
    """How much longer a new one waits: for clocks that do not run alike."""

    @staticmethod
    def for_session(
        session_timeout_s: float, server_tick_s: float | None = None, *, detection_s: float = 0.0
    ) -> Timers:
        """The shortest safe times for a ZooKeeper session timeout, which must be the same on both members.

        The server ends sessions in whole ticks (`tickTime`), up to one late; it grants no session of less than two
        ticks, so half the timeout is the longest tick there can be. `detection_s`: how long VRRP takes to miss a
        master.
        """
        tick_s = session_timeout_s / 2 if server_tick_s is None else server_tick_s
        silent_s = max(SILENT_S, detection_s + 1.0)
        return Timers(max(session_timeout_s + tick_s, silent_s) + MESSAGE_S, silent_s)


@dataclass(frozen=True, slots=True)
class MemberState:
    """Everything the machine knows."""

    node: str
    timers: Timers = Timers()
    role: Role = Role.INIT
    vrrp: Vrrp = Vrrp.UNKNOWN
    coordinator: Coordinator = Coordinator.SUSPENDED
    candidates: tuple[Candidate, ...] | None = None
    """None until the election was read once."""
    epoch: int = 0
    """The highest epoch seen: an election result with a lower one is stale and ignored."""
    health: frozenset[str] | None = None
    """None until the first look: until then nothing that a predecessor left is changed."""
    track: int | None = None
    """The track file as last seen, or as wanted since; None: not known."""
    contends: bool | None = None
    """What was last asked for; None: nothing yet, a predecessor's candidate stays."""
    is_aside: bool = False
    is_deaf: bool = False
    """Whether nothing at all arrives on the underlay."""
    contested_since: float | None = None
    """Since when this member is VRRP master although another living one is elected."""
    role_since: float = 0.0
    caution: Caution = Caution.NONE
    is_paused: bool = False
    is_strict: bool = False
    vrrp_since: float = 0.0
    held_since: float | None = None
    """Since when this member is elected although a living master is heard."""
    is_yielding: bool = False
    """Leaves the election to stand at the end of its queue."""
    is_allowed: bool = False
    """The breaker allowed a claim, for as long as this member is elected and not yet master."""
    preparing_since: float | None = None
    """Since when this member is to take the HaVip from a living master."""
    is_preparing: bool = False
    """Whether its gate is open for that, for `Timers.prepare_s` at most."""
    claimed_at: float | None = None
    """When it became master by a claim: for `Timers.settle_s` its priority stays above what a dead daemon may have left
    in the other's track file, or the two would be equal, and the higher address would win."""
    served_epoch: int = 0
    """The last epoch in which this member was both elected and master: that it was chosen then is done with."""
    elected_at: float | None = None
    """Since when this member is elected, None if it is not."""
    rival_since: float | None = None
    """Since when another member stands in the election behind this one, which is elected."""
    must_yield: bool = False
    """See `is_to_yield`."""
    lease: LeaseSeen | None = None
    is_permitted: bool = False
    """In mode strict: whether this member may be master now."""
    permitted_epoch: int = 0
    """The last epoch in which it was permitted. A candidate of that epoch has been there ever since, so there is no
    predecessor to wait for; the caller keeps it over a restart."""

    @property
    def elected(self) -> str | None:
        """Whom the election chose, None if nobody or unknown."""
        return self.candidates[0].node if self.candidates else None

    @property
    def is_elected(self) -> bool:
        """Whether this member is the elected one."""
        return self.elected == self.node

    @property
    def is_fit(self) -> bool:
        """Whether the last look found nothing wrong."""
        return self.health is not None and not self.health

    @property
    def is_standing_by(self) -> bool:
        """Whether its fault is of our own making: in mode strict whoever is not elected stands aside."""
        return self.is_strict and self.role is Role.FAULT and self.is_fit and self.track == PRIORITY_ASIDE

    @property
    def is_chosen(self) -> bool:
        """Whether an operator made it the elected one, and it has not been master since."""
        first = self.candidates[0] if self.candidates else None
        return first is not None and first.node == self.node and first.is_chosen and first.epoch != self.served_epoch

    @property
    def is_anybody_else_standing(self) -> bool:
        """Whether another member stands in the election."""
        return any(candidate.node != self.node for candidate in self.candidates or ())

    @property
    def is_told_to_yield(self) -> bool:
        """Whether an operator chose another member that stands behind this one, which is elected."""
        others = (self.candidates or ())[1:]
        return self.is_elected and any(one.is_chosen and one.node != self.node for one in others)

    def is_to_yield(self, now: float) -> bool:
        """In mode strict: whether the elected member is to give way to another that stands.

        Two that are both unfit may both try to be the last resort: the one that is not elected leaves at once.
        """
        if not (self.is_strict and self.is_elected) or self.rival_since is None:
            return False
        is_unfit = bool(self.health) and not self.is_paused and now >= self.rival_since + self.timers.rival_s
        return self.is_told_to_yield or is_unfit

    def wants_claim(self, now: float) -> bool:
        """Whether it has waited long enough for a living master that does not stand in the election."""
        return self.held_since is not None and not self.is_allowed and now >= self.held_since + self.timers.hold_s

    @property
    def can_be_elected(self) -> bool | None:
        """Whether it could be master if it were elected; None: not known.

        A fault that keepalived reports because the track file says "aside" is none of its own.
        """
        if self.is_deaf:
            return False
        match self.vrrp:
            case Vrrp.UNKNOWN:
                return None
            case Vrrp.FAULT if self.track is None:
                return None
            case Vrrp.FAULT:
                return self._is_welcome and self.track == PRIORITY_ASIDE
            case vrrp:
                return self._is_welcome and vrrp is not Vrrp.STOP

    @property
    def _is_welcome(self) -> bool:
        """Fit; or not, but nothing is to move because of it, or nobody else is there to be elected."""
        if self.is_fit:
            return self.caution is not Caution.DAMPED or self.vrrp is Vrrp.MASTER
        return self.is_paused or (self.is_strict and (self.is_elected or not self.is_anybody_else_standing))

    @property
    def next_deadline(self) -> float | None:
        """When `step` wants a Tick at the latest, None if never."""
        moments = []
        if self.contested_since is not None:
            moments.append(self.contested_since + self.timers.tie_break_s)
        if self.held_since is not None and self.is_anybody_else_standing:
            moments.append(max(self.held_since, self.vrrp_since + self.timers.silent_s))
        if self.is_preparing and self.preparing_since is not None:
            moments.append(self.preparing_since + self.timers.prepare_s)
        if self.claimed_at is not None:
            moments.append(self.claimed_at + self.timers.settle_s)
        if self.is_strict and self.rival_since is not None and self.health and not self.must_yield:
            moments.append(self.rival_since + self.timers.rival_s)
        if self.is_strict and self.is_permitted and self.lease is not None:
            moments.append(self.lease.until)
        if self.is_strict and not self.is_permitted and self._is_leased and self.elected_at is not None:
            moments.append(self.elected_at + self.timers.lease_s + self.timers.lease_margin_s)
        return min(moments, default=None)

    @property
    def _is_leased(self) -> bool:
        """Whether the lease is of the session that is elected."""
        return self.is_elected and self.lease is not None and self.lease.session == (self.candidates or ())[0].session

    def has_permission(self, now: float) -> bool:
        """In mode strict: elected, with a lease that lasts, and after all of its predecessors'."""
        if not self._is_leased or self.lease is None or self.elected_at is None:
            return False
        return self.elected_at + self.timers.lease_s + self.timers.lease_margin_s <= now < self.lease.until


@dataclass(frozen=True, slots=True)
class Decision:
    """What must be true of the world in a state. None: leave it as it is."""

    gate: bool | None
    priority: int | None
    contend: bool | None


def decide(state: MemberState) -> Decision:
    """What a state demands. Pure function of the state, so that effects can be repeated without harm."""
    gate = _gate(state)
    if state.health is None:
        return Decision(gate, None, None)
    if state.is_strict:
        return Decision(gate, _strict_priority(state), _strict_contend(state))
    contend = state.can_be_elected
    return Decision(gate, _priority(state), False if contend and state.is_yielding else contend)


def _gate(state: MemberState) -> bool | None:
    """Where the HaVip is, or is about to be.

    Who stands aside closes it at once: its keepalived may be stopped, and never give it up.
    """
    if state.role is Role.INIT:
        return None
    is_fenced = state.is_strict and state.lease is not None and (not state.is_permitted or state.must_yield)
    return (state.role is Role.MASTER or state.is_preparing) and not state.is_aside and not is_fenced


def _priority(state: MemberState) -> int | None:
    if state.is_aside or state.is_deaf or state.vrrp is Vrrp.STOP:
        # A keepalived that was stopped may still think that it is master, without the HaVip that we took away: it
        # begins anew from a fault.
        return PRIORITY_ASIDE
    is_backup = state.vrrp is not Vrrp.MASTER
    if state.is_paused and not is_backup:
        return PRIORITY_ELECTED
    if not state.is_fit or (is_backup and state.caution is Caution.DOUBTFUL):
        return None if _is_new(state) and state.is_paused else PRIORITY_UNFIT
    if is_backup and state.caution is Caution.DAMPED:
        return PRIORITY_DAMPED
    if not state.candidates and state.coordinator is Coordinator.CONNECTED:
        # Nobody is elected yet: the election comes in milliseconds, and a claim before it would be one too many.
        return None
    if not is_backup:
        return _master_priority(state) if state.is_elected else PRIORITY_NORMAL
    return _claim(state)


def _master_priority(state: MemberState) -> int:
    return PRIORITY_ELECTED if state.claimed_at is None else PRIORITY_CLAIM


def _claim(state: MemberState) -> int | None:
    """A fit member that is not master: whoever is elected becomes it where there is none, and takes it from nobody."""
    if state.is_elected and not state.is_paused and (state.is_chosen or state.is_allowed):
        return PRIORITY_CLAIM
    if _is_new(state) and (state.is_elected or state.is_paused):
        # A predecessor may have been master: what it left stays until VRRP has spoken.
        return None if state.track in {None, PRIORITY_ELECTED, PRIORITY_CLAIM} else PRIORITY_NORMAL
    return PRIORITY_NORMAL


def _is_new(state: MemberState) -> bool:
    return state.role is Role.INIT and state.vrrp is Vrrp.UNKNOWN


def _strict_priority(state: MemberState) -> int | None:
    if state.lease is None:
        # What a predecessor left stays: its lease in the kernel ends without us.
        return None
    if not state.is_permitted or state.must_yield:
        return PRIORITY_ASIDE
    return _master_priority(state) if state.vrrp is Vrrp.MASTER else PRIORITY_CLAIM


def _strict_contend(state: MemberState) -> bool | None:
    """It leaves only when its gate is closed: whoever is elected after it relies on that."""
    if state.must_yield:
        return bool(_gate(state))
    return state.can_be_elected


def step(state: MemberState, event: Event, now: float) -> tuple[MemberState, tuple[Effect, ...]]:
    """The next state, and what to do, after `event` at time `now`."""
    new = _take_in(state, event)
    trigger = _trigger(new, event)
    if trigger is not None:
        role = TRANSITIONS[new.role, trigger]
        if role is not new.role:
            new = _but(new, role=role, role_since=now)
    if new.vrrp is not state.vrrp:
        has_claimed = new.vrrp is Vrrp.MASTER and state.track == PRIORITY_CLAIM
        new = _but(new, vrrp_since=now, claimed_at=now if has_claimed else None)
    new = _break_tie(new, event, now) if not new.is_strict else _but(new, is_aside=False, contested_since=None)
    new = _prepare(_follow_election(new, event, now), now)
    done = _done(new)
    return done, _effects(state, new, done, event, trigger.value if trigger else "")


def _but(state: MemberState, **changes: Any) -> MemberState:
    """The state with these fields; the same object if it has them already, as it nearly always has."""
    if all(getattr(state, name) == value for name, value in changes.items()):
        return state
    return replace(state, **changes)


def _take_in(state: MemberState, event: Event) -> MemberState:  # noqa: PLR0911 - one for each kind
    match event:
        case VrrpChanged(vrrp):
            return _but(state, vrrp=vrrp)
        case HealthSeen(reasons, caution):
            return _but(state, health=reasons, caution=caution)
        case OrdersSeen(is_paused, is_strict):
            return _but(state, is_paused=is_paused, is_strict=is_strict)
        case LeaseSeen():
            return _but(state, lease=event)
        case ClaimAllowed():
            return _but(state, is_allowed=state.held_since is not None)
        case ElectionSeen(candidates):
            epoch = candidates[0].epoch if candidates else state.epoch
            if epoch < state.epoch:
                return state
            is_same = (state.candidates or ())[:1] == candidates[:1]
            return _but(state, candidates=candidates, epoch=epoch, elected_at=state.elected_at if is_same else None)
        case CoordinatorChanged(coordinator):
            return _but(state, coordinator=coordinator)
        case UnderlaySeen(is_silent):
            return _but(state, is_deaf=is_silent)
        case PrioritySeen(value):
            is_left_aside = value == PRIORITY_ASIDE and decide(state).priority is None
            return _but(state, track=value, is_aside=state.is_aside or is_left_aside)
        case _:
            return state


def _trigger(state: MemberState, event: Event) -> Trigger | None:
    match event:
        case VrrpChanged(Vrrp.BACKUP) if state.health:
            return Trigger.VRRP_BACKUP_UNFIT
        case VrrpChanged(vrrp):
            return _TRIGGER_OF_VRRP.get(vrrp)
        case HealthSeen(reasons) if state.vrrp is Vrrp.BACKUP:
            return Trigger.UNFIT if reasons else Trigger.FIT
        case _:
            return None


def _break_tie(state: MemberState, event: Event, now: float) -> MemberState:
    """Two masters that do not hear each other: the one not elected stands aside; see the module's text."""
    other_is_elected = state.elected is not None and not state.is_elected
    if state.is_aside:
        is_over = state.candidates is not None and not other_is_elected
        if not is_over and state.coordinator is not Coordinator.LOST and not isinstance(event, HeartbeatHeard):
            return state
        return _but(state, is_aside=False, contested_since=None)
    is_contested = other_is_elected and state.coordinator is Coordinator.CONNECTED and state.role is Role.MASTER
    if not is_contested:
        return _but(state, contested_since=None)
    if state.contested_since is None:
        return _but(state, contested_since=now)
    if now >= state.contested_since + state.timers.tie_break_s:
        return _but(state, is_aside=True, contested_since=None)
    return state


def _follow_election(state: MemberState, event: Event, now: float) -> MemberState:
    """What follows from being elected or not; see "No preemption" and "Strict" in the module's text."""
    is_master = state.vrrp is Vrrp.MASTER
    if not state.is_elected:
        elected_at = None
    else:
        began = -math.inf if state.epoch == state.permitted_epoch else now
        elected_at = began if state.elected_at is None else state.elected_at
    if state.claimed_at is not None and isinstance(event, HeartbeatHeard):
        # The other one does not hear us and goes on as master: with a lower priority we would yield to it.
        state = _but(state, claimed_at=now)
    has_settled = state.claimed_at is not None and now >= state.claimed_at + state.timers.settle_s
    if not is_master or has_settled:
        state = _but(state, claimed_at=None)
    if is_master and state.is_elected:
        state = _but(state, served_epoch=state.epoch)
    is_out = state.candidates is not None and all(one.node != state.node for one in state.candidates)
    # What was true when the connection broke may be so no longer.
    is_held = state.is_elected and state.vrrp is Vrrp.BACKUP and state.coordinator is Coordinator.CONNECTED
    is_held = is_held and not (state.is_strict or state.is_aside or state.is_chosen)
    held_since = (now if state.held_since is None else state.held_since) if is_held else None
    state = _but(
        state,
        elected_at=elected_at,
        held_since=held_since,
        is_allowed=state.is_allowed and is_held,
        is_yielding=state.is_yielding and not is_out and not state.is_strict and not is_master,
    )
    if is_held and state.is_anybody_else_standing and now >= state.vrrp_since + state.timers.silent_s:
        state = _but(state, is_yielding=True)
    rival_since = (now if state.rival_since is None else state.rival_since) if state.is_anybody_else_standing else None
    state = _but(state, rival_since=rival_since if state.is_elected else None)
    state = _but(state, must_yield=state.is_to_yield(now))
    is_permitted = state.is_strict and state.has_permission(now)
    return _but(
        state, is_permitted=is_permitted, permitted_epoch=state.epoch if is_permitted else state.permitted_epoch
    )


def _prepare(state: MemberState, now: float) -> MemberState:
    """Make before break: a gate that opens after the claim would lose what arrives until then."""
    is_claiming = (
        not state.is_strict
        and state.health is not None
        and (state.role, state.vrrp) == (Role.BACKUP, Vrrp.BACKUP)
        and _priority(state) == PRIORITY_CLAIM
    )
    since = (now if state.preparing_since is None else state.preparing_since) if is_claiming else None
    is_preparing = since is not None and now < since + state.timers.prepare_s
    return _but(state, preparing_since=since, is_preparing=is_preparing)


def _done(state: MemberState) -> MemberState:
    """What is known once the effects are done: the track file is written, then the election entered or left."""
    priority = decide(state).priority
    if priority is not None and priority != state.track:
        # A fault of our own making ends here: what keepalived makes of the return it has yet to say.
        is_returning = state.vrrp is Vrrp.FAULT and state.track == PRIORITY_ASIDE
        state = _but(state, track=priority, vrrp=Vrrp.UNKNOWN if is_returning else state.vrrp)
    contend = decide(state).contend
    return state if contend is None else _but(state, contends=contend)


def _effects(old: MemberState, new: MemberState, done: MemberState, event: Event, why: str) -> tuple[Effect, ...]:
    """What leads from `new` to `done`. The gate first: it is what packets wait for. Facts last."""
    effects: list[Effect] = []
    gate = decide(new).gate
    gate_is = event.is_open if isinstance(event, GateSeen) else decide(old).gate
    if gate is not None and gate != gate_is:
        effects.append(SetGate(gate))
    if done.track is not None and done.track != new.track:
        effects.append(SetPriority(done.track))
    if done.contends is not None and done.contends != new.contends:
        effects.append(SetContending(done.contends))
    if new.role is not old.role:
        effects.append(RoleChanged(old.role, new.role, why, new.epoch, old.is_elected))
    if new.elected != old.elected or (new.candidates or ())[:1] != (old.candidates or ())[:1]:
        effects.append(Elected(new.elected, new.epoch))
    return tuple(effects)
