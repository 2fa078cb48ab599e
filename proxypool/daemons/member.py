"""One pair on this node: the role machine, and the doing of its effects.

Owns the gate and the track file of the pair. Runs on the main loop; everything here takes microseconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxypool.adapters.havip_loan import HavipLoan
from proxypool.adapters.keepalived import TrackFile
from proxypool.core.acknowledgement import Acknowledgement
from proxypool.core.errors import TransientError
from proxypool.core.health import VrrpSight
from proxypool.core.history import Record
from proxypool.core.keepalived import permit_file, track_file
from proxypool.core.model import FailoverMode, PairSpec, PairState
from proxypool.core.node_scene import SubnetScenes
from proxypool.core.role import (
    Effect,
    Elected,
    Event,
    GateSeen,
    MemberState,
    OrdersSeen,
    PrioritySeen,
    Role,
    RoleChanged,
    SetContending,
    SetGate,
    SetPriority,
    Tick,
    Timers,
    Vrrp,
    decide,
    step,
)
from proxypool.core.scaling.series import Sample
from proxypool.core.sync_supervision import SyncReport
from proxypool.daemons.condition import Condition
from proxypool.daemons.messages import Handles
from proxypool.daemons.permission import Permission
from proxypool.daemons.usage import Beginning, Usage
from proxypool.telemetry.failovers import FailoverClock

log = logging.getLogger(__name__)

COUNT_HOLDS_S = 3.0
"""Connections are counted every second; an older number than this is not published."""


@dataclass
class Member:
    """A member of a pair, on the node it is on."""

    node: str
    pair: PairSpec
    timers: Timers
    run_dir: Path
    set_contending: Callable[[PairSpec, bool], None]
    clock: FailoverClock
    wall: Callable[[], float]
    loan: HavipLoan
    monotonic: Callable[[], float]
    scenes: SubnetScenes
    """What its namespace must look like, from snapshot to snapshot."""
    state: MemberState = field(init=False)
    next_deadline: float | None = field(init=False, default=None)
    """When the machine wants a Tick at the latest, as its state says."""
    acknowledgement: Acknowledgement = field(default_factory=Acknowledgement)
    condition: Condition = field(default_factory=Condition)
    probe_rtt_s: Callable[[], float | None] = lambda: None
    """Round trip of the last probe that was answered."""
    handles: Handles | None = None
    has_havip: bool = False
    problems: tuple[str, ...] = ()
    """Why the namespace is not as it must be."""
    is_programmed: bool | None = None
    """Whether the last reconcile of the namespace succeeded; None until the first."""
    usage: Usage = field(init=False)
    connections: int | None = None
    """Living ones, of a master whose pair drains; None: not counted, or not lately."""
    connections_at: float = 0.0
    sync: SyncReport | None = None
    """How its connections are told to the other member; None: they are not, as the pair has no egress address."""
    role_since_wall: float = 0.0
    was_planned: bool = False
    """Of a master: whether it was elected before its claim. See `SyncWish`."""
    last_change: Record | None = None
    """Of the pair's master, as far as this daemon knows."""
    repairs: int = 0
    on_repair: Callable[[], None] = lambda: None
    """Called when the gate was put right."""
    mismatch_since: float | None = None
    gate: bool | None = None
    """The gate as the kernel had it when last looked at: every second, and when it was touched. None: there is no
    namespace, or it is torn.
    """
    has_stale_handles: bool = False
    """Whether a device that the handles belong to was removed, so that they must be opened anew."""
    is_touched: bool = True
    """Whether something changed since it was last compared with what is published."""

    _is_borrowing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """The machine begins knowing nothing."""
        self.state = MemberState(self.node, self.timers)
        permit = TrackFile(permit_file(str(self.run_dir), self.pair.subnet, self.pair.id))
        self._permission = Permission(permit, self.label)
        self.state = replace(self.state, permitted_epoch=self._permission.remembered())
        self._track = TrackFile(track_file(str(self.run_dir), self.pair.subnet, self.pair.id))
        self.role_since_wall = self.wall()
        self.next_deadline = self.state.next_deadline
        self.usage = Usage(Beginning(self.role_since_wall, self.monotonic()))

    @property
    def label(self) -> str:
        """For logs."""
        return f"{self.pair.subnet}/{self.pair.id}"

    def handle(self, event: Event, now: float) -> tuple[Effect, ...]:
        """Give the machine an event and do what it says."""
        before = self.state
        self.state, effects = step(before, event, now)
        if self.state != before:
            self.is_touched, self.next_deadline = True, self.state.next_deadline
        if self.state.is_strict or before.is_strict:
            self._permission.follow(before, self.state, self.handles.lease if self.handles else None, now)
        for effect in effects:
            self._do(effect, now)
        return effects

    def _do(self, effect: Effect, now: float) -> None:
        match effect:
            case SetGate(is_open):
                self._write_gate(now, is_open=is_open)
            case SetPriority(value):
                self._write_priority(value)
            case SetContending(contend):
                self.set_contending(self.pair, contend)
            case RoleChanged():
                is_prepared = self._is_borrowing
                self._borrow(is_wanted=False)
                self.role_since_wall = self.wall()
                self.usage.begin(self.role_since_wall, now)
                self.last_change, self.was_planned = None, effect.was_elected
                self.clock.role_changed(
                    self.pair,
                    effect,
                    is_aside=self.state.is_aside,
                    elected=self.state.elected,
                    carried_over=self._carried_over(effect),
                    is_prepared=is_prepared,
                )
                log.info("%s: %s -> %s: %s (epoch %d)", self.label, effect.old, effect.new, effect.why, effect.epoch)
            case Elected(node, epoch):
                self.clock.elected(self.pair, effect)
                log.info("%s: elected %s (epoch %d)", self.label, node or "nobody", epoch)

    def _write_gate(self, now: float, *, is_open: bool) -> None:
        if self.handles is None:
            return
        if not is_open:
            self.handles.announcer.end()
        try:
            # A hundred members may move at the same time: none waits here for a notify line, which writes the same.
            self.handles.gate.write(is_open=is_open, attempts=1)
        except BlockingIOError:
            # Told by the kernel when it has written, and seen again on the next tick.
            log.info("%s: a notify line of keepalived writes the gate", self.label)
        except OSError as error:
            # Seen again on the next tick, as a gate that is not as wanted.
            log.error("%s: cannot %s the gate: %s", self.label, "open" if is_open else "close", error)
        self._borrow(is_wanted=is_open and self.state.is_preparing)
        if is_open and self.pair.egress_address is not None:
            # Before all else: the customer's servers send to the old master until they hear it.
            self.handles.announcer.begin(self.pair.egress_address, now)
        self._look_at_gate()

    def defended(self, now: float) -> None:
        """Another member has called the HaVip its own: it may have told the customer's servers so, too."""
        if self.handles is not None and self.pair.egress_address is not None:
            self.handles.announcer.begin(self.pair.egress_address, now)

    def _borrow(self, *, is_wanted: bool) -> None:
        """Serve the HaVip while keepalived is about to take it from the living master; no longer."""
        if is_wanted is self._is_borrowing:
            return
        try:
            self.loan.take(self.pair.havip) if is_wanted else self.loan.end(self.pair.havip)
            self._is_borrowing = is_wanted
        except TransientError as error:
            log.error("%s: %s", self.label, error)

    def _carried_over(self, change: RoleChanged) -> int | None:
        if change.new is not Role.MASTER or self.handles is None:
            return None
        try:
            return self.handles.counters.entries()
        except (OSError, ValueError):
            return None

    def see_record(self, record: Record) -> None:
        """It is known why the master changed."""
        if record.pair == self.pair.id:
            self.last_change, self.is_touched = record, True

    def _write_priority(self, value: int) -> None:
        try:
            self._track.write(value)
        except TransientError as error:
            # Seen again on the next tick, as a track file that is not as wanted.
            log.error("%s: %s", self.label, error)

    def obey(self, pair: PairSpec, now: float) -> None:
        """The pair's document as it is now."""
        self.pair = pair
        orders = OrdersSeen(pair.paused_since is not None, pair.mode is FailoverMode.STRICT)
        if orders != OrdersSeen(self.state.is_paused, self.state.is_strict):
            log.info("%s: %s", self.label, "paused" if orders.is_paused else f"not paused, mode {pair.mode}")
            self.handle(orders, now)

    def look_at_health(self, vrrp: VrrpSight, now: float) -> None:
        """Tell the machine what is to be said of the data path now."""
        seen = self.condition.look(
            is_programmed=bool(self.is_programmed),
            counters=self.usage.counters,
            vrrp=vrrp,
            now=now,
        )
        if (seen.reasons, seen.caution) == (self.state.health, self.state.caution):
            return
        if seen.reasons != self.state.health:
            log.info("%s: %s", self.label, ", ".join(sorted(seen.reasons)) or f"well ({seen.caution})")
        self.handle(seen, now)

    def see_priority(self, now: float) -> None:
        """Tell the machine what the track file says: a predecessor may have stood aside."""
        self.handle(PrioritySeen(self._track.read()), now)

    def _look_at_gate(self) -> None:
        was_open = self.gate
        self.gate, self.has_stale_handles = None, False
        if self.handles is not None:
            try:
                self.gate = self.handles.gate.read()
            except OSError:
                self.has_stale_handles = True
        if self.gate and not was_open:
            # Whoever wrote it: a notify line may have, and then it is seen here when the kernel tells.
            self.clock.gate_opened(self.pair)

    def check_gate(self, now: float) -> None:
        """Compare the gate with what it should be, and repair. A torn gate is as wrong as the wrong one."""
        self._look_at_gate()
        wanted = decide(self.state).gate
        if wanted is None or self.handles is None or self.has_stale_handles:
            self.condition.saw_gate(is_wrong=False, now=now)
            return
        if self.gate is not wanted:
            self.saw_gate(is_open=not wanted, now=now)
        self.condition.saw_gate(is_wrong=self.gate is not wanted, now=now)

    def check(self, now: float) -> None:
        """Compare gate and track file with what they should be, and repair. Called every second for every pair."""
        self.check_gate(now)
        wanted, priority = decide(self.state), self._track.read()
        if not (wanted.gate and self.state.is_preparing):
            # Once more, if the kernel refused to end it.
            self._borrow(is_wanted=False)
        self._check_announcer(now, is_wanted=wanted.gate is True)
        if wanted.priority is not None and priority != wanted.priority:
            self.handle(PrioritySeen(priority), now)
        if self.next_deadline is not None and now >= self.next_deadline:
            self.handle(Tick(), now)

    def _check_announcer(self, now: float, *, is_wanted: bool) -> None:
        """A gate may have been opened without us, by a predecessor or by a notify line; and addresses change."""
        if self.handles is None:
            return
        address = self.pair.egress_address
        if address is None or not is_wanted:
            self.handles.announcer.end()
        elif self.gate and not self.handles.announcer.is_announcing(address):
            self.handles.announcer.begin(address, now)

    @property
    def answers_egress(self) -> bool | None:
        """Whether the kernel answers ARP for the egress address here: it forwards, and has the entry. None: there is no
        such address, or nothing could be read.
        """
        if self.pair.egress_address is None or self.handles is None or self.gate is None:
            return None
        return self.gate and not self.misses_egress

    @property
    def misses_egress(self) -> bool:
        """Whether the namespace lacks the proxy entry of the egress address, as far as it was seen."""
        address = self.pair.egress_address
        return address is not None and self.handles is not None and address not in self.handles.proxies.addresses

    def saw_gate(self, *, is_open: bool, now: float) -> None:
        """The gate was read; one that is not as wanted is drift."""
        effects = self.handle(GateSeen(is_open), now)
        if any(isinstance(effect, SetGate) for effect in effects) and self.state.role is not Role.INIT:
            self.repairs += 1
            self.on_repair()

    def observe_counters(self, now: float) -> None:
        """Read conntrack and traffic counters and derive rates."""
        if self.handles is not None:
            self.usage.observe(self.handles.counters, now, self.wall(), is_master=self._is_vrrp_master)

    @property
    def _is_vrrp_master(self) -> bool:
        return self.state.vrrp is Vrrp.MASTER

    def sample(self) -> Sample:
        """What it uses, for the metrics."""
        return self.usage.sample(self.monotonic(), is_master=self._is_vrrp_master)

    def conntrack_limit(self) -> int | None:
        """The most connections the kernel will track in the namespace."""
        if self.usage.counters is not None:
            return self.usage.counters.conntrack_limit
        try:
            return self.handles.counters.read(is_master=False).conntrack_limit if self.handles is not None else None
        except (OSError, ValueError):
            return None

    def saw_sync(self, report: SyncReport) -> None:
        """Its conntrackd was looked at."""
        before, self.sync = self.sync, report
        self.is_touched = self.is_touched or before is None or before.state is not report.state

    @property
    def is_counted(self) -> bool:
        """Whether its connections are to be counted: somebody waits for them to end, and they pass here."""
        return self.pair.state is PairState.DRAINING and self.state.role is Role.MASTER

    def saw_connections(self, count: int | None, now: float) -> None:
        """Its connections were counted; None: they could not be."""
        count = count if self.is_counted else None
        # That there is a number, or none any more, is told at once.
        self.is_touched = self.is_touched or (count is None) is not (self.connections is None)
        self.connections, self.connections_at = count, now

    def expire_connections(self, now: float) -> None:
        """Forget a number that may no longer be so."""
        if self.connections is not None and (not self.is_counted or now - self.connections_at > COUNT_HOLDS_S):
            self.saw_connections(None, now)

    def forget(self) -> None:
        """The pair is no longer served here: close what is open, remove the track file."""
        self._borrow(is_wanted=False)
        self.drop_handles()
        self._track.remove()
        self.clock.forget(self.pair)
        self._permission.forget()
        self.set_contending(self.pair, False)

    def take_handles(self, handles: Handles, now: float) -> None:
        """Open ends into the namespace as it is now; counters may have begun at zero, and the ENI be another one."""
        self.drop_handles()
        self.handles = handles
        if (own := self.pair.member(self.node)) is not None:
            handles.announcer.introduce(own.address.ip, now)
        self.usage.begin(self.wall(), now)

    def drop_handles(self) -> None:
        """Close the open ends into the namespace, so that it can go."""
        if self.handles is not None:
            self.handles.close()
            self.handles = None
