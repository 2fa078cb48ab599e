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

A member to which nothing comes on the underlay stands aside as well: no traffic reaches it, but its advertisements may
reach the other one, which would wait for ever. It returns with the first packet.

A restarted daemon knows nothing. Until VRRP has spoken it moves no gate and no candidate; until the first look at the
member's health it moves no priority; and while it has no opinion yet, a track file that says "aside" means that this
member stands aside: its predecessor did, or it has just started.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from proxypool.core.model import Candidate

PRIORITY_ELECTED = 239
PRIORITY_NORMAL = 199
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


@dataclass(frozen=True, slots=True)
class Timers:
    """Times of the machine, in seconds."""

    tie_break_s: float = 6.25
    """How long two masters that do not hear each other may last. It must be longer than a dead member's candidate can
    outlive it: otherwise the survivor of a power-off would stand aside for a dead one. See `for_session`."""

    @staticmethod
    def for_session(session_timeout_s: float, server_tick_s: float | None = None) -> Timers:
        """The shortest safe times for a ZooKeeper session timeout, which must be the same on both members.

        The server ends sessions in whole ticks (`tickTime`), up to one late; it grants no session of less than two
        ticks, so half the timeout is the longest tick there can be.
        """
        tick_s = session_timeout_s / 2 if server_tick_s is None else server_tick_s
        return Timers(session_timeout_s + tick_s + MESSAGE_S)


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
                return self.is_fit and self.track == PRIORITY_ASIDE
            case vrrp:
                return self.is_fit and vrrp is not Vrrp.STOP

    @property
    def next_deadline(self) -> float | None:
        """When `step` wants a Tick at the latest, None if never."""
        return None if self.contested_since is None else self.contested_since + self.timers.tie_break_s


@dataclass(frozen=True, slots=True)
class Decision:
    """What must be true of the world in a state. None: leave it as it is."""

    gate: bool | None
    priority: int | None
    contend: bool | None


def decide(state: MemberState) -> Decision:
    """What a state demands. Pure function of the state, so that effects can be repeated without harm."""
    gate = None if state.role is Role.INIT else state.role is Role.MASTER
    if state.health is None:
        return Decision(gate, None, None)
    return Decision(gate, _priority(state), state.can_be_elected)


def _priority(state: MemberState) -> int | None:
    if state.is_aside or state.is_deaf:
        return PRIORITY_ASIDE
    if not state.is_fit:
        return PRIORITY_UNFIT
    if not state.candidates and state.coordinator is Coordinator.CONNECTED:
        # Nobody is elected yet: the election comes in milliseconds, and a claim before it would be one too many.
        return None
    return PRIORITY_ELECTED if state.is_elected else PRIORITY_NORMAL


def step(state: MemberState, event: Event, now: float) -> tuple[MemberState, tuple[Effect, ...]]:
    """The next state, and what to do, after `event` at time `now`."""
    new = _take_in(state, event)
    trigger = _trigger(new, event)
    if trigger is not None:
        role = TRANSITIONS[new.role, trigger]
        if role is not new.role:
            new = replace(new, role=role, role_since=now)
    new = _break_tie(new, event, now)
    done = _done(new)
    return done, _effects(state, new, done, event, trigger.value if trigger else "")


def _take_in(state: MemberState, event: Event) -> MemberState:
    match event:
        case VrrpChanged(vrrp):
            return replace(state, vrrp=vrrp)
        case HealthSeen(reasons):
            return replace(state, health=reasons)
        case ElectionSeen(candidates):
            epoch = candidates[0].epoch if candidates else state.epoch
            if epoch < state.epoch:
                return state
            return replace(state, candidates=candidates, epoch=epoch)
        case CoordinatorChanged(coordinator):
            return replace(state, coordinator=coordinator)
        case UnderlaySeen(is_silent):
            return replace(state, is_deaf=is_silent)
        case PrioritySeen(value):
            is_left_aside = value == PRIORITY_ASIDE and decide(state).priority is None
            return replace(state, track=value, is_aside=state.is_aside or is_left_aside)
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
        return replace(state, is_aside=False, contested_since=None)
    is_contested = other_is_elected and state.coordinator is Coordinator.CONNECTED and state.role is Role.MASTER
    if not is_contested:
        return replace(state, contested_since=None)
    if state.contested_since is None:
        return replace(state, contested_since=now)
    if now >= state.contested_since + state.timers.tie_break_s:
        return replace(state, is_aside=True, contested_since=None)
    return state


def _done(state: MemberState) -> MemberState:
    """What is known once the effects are done: the track file is written, then the election entered or left."""
    priority = decide(state).priority
    if priority is not None and priority != state.track:
        # A fault of our own making ends here: what keepalived makes of the return it has yet to say.
        is_returning = state.vrrp is Vrrp.FAULT and state.track == PRIORITY_ASIDE
        state = replace(state, track=priority, vrrp=Vrrp.UNKNOWN if is_returning else state.vrrp)
    contend = decide(state).contend
    return state if contend is None else replace(state, contends=contend)


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
