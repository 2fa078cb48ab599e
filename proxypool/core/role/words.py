"""What the role machine speaks of: states of the parties, what it hears of them, and what it wants done. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from proxypool.core.model import Candidate
from proxypool.core.states import Coordinator, Role


class Vrrp(StrEnum):
    """keepalived's state of the instance, as its notify fifo tells it; `stop` also when keepalived is not running."""

    UNKNOWN = "unknown"
    MASTER = "master"
    BACKUP = "backup"
    FAULT = "fault"
    STOP = "stop"


class Caution(StrEnum):
    """Why a backup that is fit should not take over from a living master."""

    NONE = "none"
    DOUBTFUL = "doubtful"
    """It may be as unfit as a master that just became so, and only has not found out yet."""
    DAMPED = "damped"
    """It was unfit a moment ago."""
    STARTING = "starting"
    """Its keepalived has just started, and claims nothing yet."""


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
