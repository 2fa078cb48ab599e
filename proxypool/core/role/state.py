"""What the role machine knows of a member and of its pair, and what follows from that alone. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from proxypool.core.model import Candidate
from proxypool.core.role.words import Caution, LeaseSeen, Vrrp
from proxypool.core.states import Coordinator, Role

PRIORITY_CLAIM = 249
"""Of a member that claims the HaVip from a living master: above what a dead daemon may have left in its track file."""
PRIORITY_ELECTED = 239
PRIORITY_NORMAL = 199
PRIORITY_STARTING = 189
"""See `core.keepalived.STARTED_AFTER_S`."""
PRIORITY_DAMPED = 149
PRIORITY_ASIDE = -254
"""What the track file adds to keepalived's priority of 1. -254 is a fault to keepalived: it sends priority 0, drops the
HaVip and does not take it.
"""

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
    def is_rightful(self) -> bool:
        """Whether the HaVip is here and belongs here: master, elected, and not about to give it up."""
        is_master = (self.role, self.vrrp) == (Role.MASTER, Vrrp.MASTER)
        return is_master and self.is_elected and not (self.is_aside or self.is_deaf or self.must_yield)

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
