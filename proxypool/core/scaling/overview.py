"""How large subnets are, are to be, and why, from the pool's documents and the controller's report. Pure.

What the report says was so at its time: whoever shows it shows its age when that matters (`ControllerState.is_old`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from proxypool.core.documents import API_VERSION
from proxypool.core.model import PairState, Snapshot
from proxypool.core.scaling.documents import Action, Report, by_subnet
from proxypool.core.scaling.model import Cause, ScalingMode

OLD_S = 90.0
"""A leader reports after every round, of which the longest interval that can be configured is 60 s. What is older than
this may no longer be so.
"""


class ControllerState(Struct, frozen=True, kw_only=True):
    """Whether somebody scales."""

    running: int
    """So many controllers stand in the election."""
    leader: str | None = None
    """Who wrote the report; this and what follows is None without one."""
    reported_at: float | None = None
    """Seconds since the epoch."""
    age_s: float | None = None
    round_s: float | None = None
    """How long the last round took."""
    provider: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def is_old(self) -> bool:
        """Whether what it said cannot be relied on: there is no report, or an old one, or nobody who renews it."""
        return self.age_s is None or self.age_s > OLD_S or not self.running


class SubnetScale(Struct, frozen=True, kw_only=True):
    """One subnet. What is None the report does not say."""

    id: str
    mode: str | None
    """None: it is not managed, its pairs are the operator's own business."""
    min_pairs: int | None
    max_pairs: int | None
    paused_since: float | None
    active: int
    coming: int
    """Pairs that are being prepared."""
    draining: int
    wanted: int | None = None
    """Active pairs that there should be, after all limits."""
    asked: int | None = None
    """What the load alone asks for."""
    cause: str | None = None
    signal: str | None = None
    """The one that asks for most."""
    held: tuple[str, ...] = ()
    is_panic: bool = False
    load: Mapping[str, float | None] = field(default_factory=dict)
    """In pairs, by signal; None: not known."""
    blocked: str = ""
    """Why an action that it needs cannot begin."""
    waits: str = ""
    """Why one has not begun that will do so by itself."""
    actions: tuple[Action, ...] = ()
    """What is being done to its pairs, oldest first."""

    @property
    def is_managed(self) -> bool:
        """Whether the controller may do anything to it."""
        return self.mode is not None and self.mode != ScalingMode.OFF

    @property
    def busiest(self) -> tuple[str, float] | None:
        """The signal that asks for most, and its load; None: no load is known."""
        known = {name: load for name, load in self.load.items() if load is not None}
        if self.signal in known:
            return self.signal or "", known[self.signal or ""]
        return max(known.items(), key=lambda item: item[1], default=None)


class ScalingView(Struct, frozen=True, kw_only=True):
    """What is in ZooKeeper about the size of subnets, at one moment."""

    pool: str
    snapshot: Snapshot
    """Subnets and pairs; the rest may be left out."""
    actions: tuple[Action, ...] = ()
    report: Report | None = None
    controllers: int = 0
    """So many run."""


class ScaleStatus(Struct, frozen=True, kw_only=True, rename={"api_version": "apiVersion"}):
    """The document of `scale status`."""

    api_version: str = API_VERSION
    kind: str = "ScaleStatus"
    pool: str
    at: float
    """Seconds since the epoch."""
    controller: ControllerState
    subnets: tuple[SubnetScale, ...]


def controller_state(report: Report | None, running: int, now: float) -> ControllerState:
    """Whether somebody scales at wall time `now`."""
    if report is None:
        return ControllerState(running=running)
    return ControllerState(
        running=running,
        leader=report.leader,
        reported_at=report.at,
        age_s=max(0.0, now - report.at),
        round_s=report.round_s,
        provider=report.provider,
        problems=report.problems,
    )


def subnet_scale(subnet: str, snapshot: Snapshot, report: Report | None, actions: tuple[Action, ...]) -> SubnetScale:
    """One subnet of the pool. `actions`: its own."""
    scaling = snapshot.subnets[subnet].scaling
    states = [pair.state for pair in snapshot.pairs.get(subnet, {}).values()]
    known = SubnetScale(
        id=subnet,
        mode=scaling.mode.value if scaling else None,
        min_pairs=scaling.min_pairs if scaling else None,
        max_pairs=scaling.max_pairs if scaling else None,
        paused_since=scaling.paused_since if scaling else None,
        active=states.count(PairState.ACTIVE),
        coming=states.count(PairState.PREPARING),
        draining=states.count(PairState.DRAINING),
        actions=actions,
    )
    verdict = report.subnets.get(subnet) if report is not None and scaling is not None else None
    if verdict is None:
        return known
    return replace(
        known,
        wanted=verdict.wanted,
        asked=verdict.asked if verdict.cause else None,
        cause=verdict.cause or None,
        signal=verdict.signal or None,
        held=verdict.held,
        is_panic=verdict.is_panic,
        load=verdict.load,
        blocked=verdict.blocked,
        waits=verdict.waits,
    )


def scale_status(view: ScalingView, now: float) -> ScaleStatus:
    """All subnets at wall time `now`, those that are not managed too."""
    names, actions = sorted(view.snapshot.subnets), by_subnet(view.actions)
    return ScaleStatus(
        pool=view.pool,
        at=now,
        controller=controller_state(view.report, view.controllers, now),
        subnets=tuple(subnet_scale(name, view.snapshot, view.report, actions.get(name, ())) for name in names),
    )


def only_managed(status: ScaleStatus) -> ScaleStatus:
    """Without the subnets that are the operator's own business."""
    return replace(status, subnets=tuple(one for one in status.subnets if one.mode is not None or one.actions))


class Next(StrEnum):
    """What the controller does with a subnet next."""

    NOTHING = "nothing"
    ADD = "add"
    DRAIN = "drain"
    CONTINUE = "continue"
    """Actions are under way."""


class Idle(StrEnum):
    """Why the controller does nothing, or less than it would."""

    UNMANAGED = "unmanaged"
    OFF = "off"
    PAUSED = "paused"
    OBSERVING = "observing"
    """It only says what it would do."""
    UNSEEN = "unseen"
    """Its report says nothing of the subnet."""
    BLOCKED = "blocked"
    AS_WANTED = "as-wanted"


class Outlook(Struct, frozen=True, kw_only=True):
    """What comes next for a subnet. With `idle` it does not happen by itself."""

    subnet: str
    next: Next
    pairs: int = 0
    """How many pairs come or go."""
    idle: Idle | None = None


def outlook(subnet: SubnetScale) -> Outlook:
    """What the controller would do now, by its last report."""
    if subnet.actions:
        return Outlook(subnet=subnet.id, next=Next.CONTINUE)
    if subnet.mode is None:
        return Outlook(subnet=subnet.id, next=Next.NOTHING, idle=Idle.UNMANAGED)
    if subnet.mode == ScalingMode.OFF:
        return Outlook(subnet=subnet.id, next=Next.NOTHING, idle=Idle.OFF)
    if subnet.wanted is None:
        return Outlook(subnet=subnet.id, next=Next.NOTHING, idle=Idle.UNSEEN)
    more = subnet.wanted - subnet.active - subnet.coming
    if not more:
        return Outlook(subnet=subnet.id, next=Next.NOTHING, idle=Idle.AS_WANTED)
    return Outlook(subnet=subnet.id, next=Next.ADD if more > 0 else Next.DRAIN, pairs=abs(more), idle=_idle(subnet))


def _idle(subnet: SubnetScale) -> Idle | None:
    if subnet.paused_since is not None:
        return Idle.PAUSED
    is_below_min = subnet.min_pairs is not None and subnet.active + subnet.coming < subnet.min_pairs
    if subnet.mode == ScalingMode.OBSERVE and not is_below_min:
        return Idle.OBSERVING
    return Idle.BLOCKED if subnet.blocked else None


def is_at_max(subnet: SubnetScale) -> bool:
    """Whether the load asks for more pairs than the controller may give it."""
    return subnet.mode == ScalingMode.ENFORCE and subnet.cause == Cause.MAX_PAIRS
