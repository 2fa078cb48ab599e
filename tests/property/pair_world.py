"""A pair of members on a virtual clock: two role machines, keepalived, ZooKeeper and what can go wrong with them.

Models, as coarse as the invariants allow; one tick is one VRRP advertisement interval:

- VRRP: priority 1 plus the track file, which begins with -254 after a reboot; three missed advertisements make a
  backup master; a higher priority takes over at once; of two masters that hear each other the lower one yields; -254 is
  a fault; a stop is announced.
- A keepalived that has just started claims nothing; and an advertisement of less than its own priority meanwhile has it
  claim nothing ever, until it hears a better one, or its priority changes after that time (keepalived 2.2).
- The gate follows keepalived's notify lines even without a daemon. A daemon hears keepalived within the tick; one that
  is killed in the milliseconds between keepalived's writing of the gate and its own is not modelled.
- ZooKeeper: sessions expire in whole server ticks after the last ping, so up to one tick late; while it is down nothing
  expires, and afterwards every session starts anew, and every client has noticed. Candidates queue in the order of their creation.
- The adapter keeps its wish to contend and fulfils it after every reconnect; it says LOST when its session is over, and
  also by its own clock, because no server tells it so while none answers.
- A daemon's restart keeps track file, keepalived, gate and session; a power cycle keeps nothing.
- A daemon may die in the middle of what an event makes it do, after any of it.
  One that dies between opening the gate for a claim and asking for the claim leaves the gate open on a backup until it
  is back: some 50 us in which a process must be killed, and without the HaVip no packet comes (`is_left_open`).
- A stopped daemon or keepalived (SIGSTOP) does nothing, and goes on with what it knew: a daemon first works off what was
  in its inbox, a keepalived that was master goes on being it until it hears a better one.
- Each machine has a clock of its own, with another origin and a rate that is off by up to a hundredth.
- The lease of mode strict: every so often a write of the daemon's session; granted for `lease_s` from its sending, by the
  daemon's own clock, and to the kernel for whole seconds of what is left.
- A member to which nothing comes on the underlay gets no advertisement, and its daemon says so after `SILENT_TICKS`; its
  own advertisements leave, and ZooKeeper may be reached by another way.
- Damping holds a member that was unfit, and the breaker lets a claim through at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle

from msgspec import structs

from proxypool.core.damping import Damping
from proxypool.core.keepalived import BASE_PRIORITY, STARTED_AFTER_S, STARTUP_DELAY_S
from proxypool.core.model import Candidate
from proxypool.core.role import (
    PRIORITY_ASIDE,
    Caution,
    ClaimAllowed,
    Coordinator,
    CoordinatorChanged,
    ElectionSeen,
    Event,
    GateSeen,
    HealthSeen,
    HeartbeatHeard,
    LeaseSeen,
    MemberState,
    OrdersSeen,
    PrioritySeen,
    RoleChanged,
    SetContending,
    SetGate,
    SetPriority,
    Tick,
    Timers,
    UnderlaySeen,
    Vrrp,
    VrrpChanged,
    step,
)
from proxypool.daemons.hearing import SILENT_AFTER_S

TICK_S = 0.05
SESSION_TIMEOUT_S = 4.0
SERVER_TICK_S = 2.0
"""ZooKeeper's default, and the longest that a session of 4 s allows."""
LEASE_EVERY_S = 0.75
LOOK_INTERVAL = 20
"""Ticks between two looks of a daemon at its gate and track file; health is told when it changes."""
FIRST_LOOK = 7
"""Ticks between two possible first looks."""
MASTER_DOWN = 4
"""Ticks without an advertisement after which a backup is master: three intervals and the skew."""
STARTUP_TICKS, STARTED_TICKS = round(STARTUP_DELAY_S / TICK_S), round(STARTED_AFTER_S / TICK_S)

SILENT_TICKS = round(SILENT_AFTER_S / TICK_S)


class ZooKeeper:
    """The ensemble, as one."""

    def __init__(self) -> None:
        self.is_up = True
        self.starts = 0
        self.version = 0
        self.candidates: tuple[Candidate, ...] = ()
        self._expires: dict[int, float] = {}
        self._zxid = 100

    def knows(self, session: int | None) -> bool:
        return session in self._expires

    def open(self, now: float) -> int:
        self._zxid += 1
        self._expires[self._zxid] = _expiry(now)
        return self._zxid

    def ping(self, session: int, now: float) -> None:
        self._expires[session] = _expiry(now)

    def stand(self, node: str, session: int) -> None:
        """At the end of the queue; a candidate that a dead predecessor left goes first, as the adapter does it."""
        self._zxid += 1
        others = tuple(one for one in self.candidates if one.node != node)
        self._change((*others, Candidate(node=node, epoch=self._zxid, session=session)))

    def choose(self, node: str, *, is_strict: bool) -> None:
        """`pair switchover`: in mode strict the elected one is asked to leave, else it is removed."""
        chosen = tuple(structs.replace(one, is_chosen=True) for one in self.candidates if one.node == node)
        if chosen:
            ahead = self.candidates[: [one.node for one in self.candidates].index(node)]
            behind = tuple(one for one in self.candidates if one.node != node and one not in ahead)
            self._change((*(ahead if is_strict else ()), *chosen, *behind))

    def withdraw(self, session: int) -> None:
        self._change(tuple(one for one in self.candidates if one.session != session))

    def end(self, session: int) -> None:
        if self._expires.pop(session, None) is not None:
            self.withdraw(session)

    def start(self, now: float) -> None:
        self.is_up = True
        self.starts += 1
        self._expires = dict.fromkeys(self._expires, _expiry(now))

    def expire(self, now: float) -> None:
        for session in [session for session, at in self._expires.items() if at <= now] if self.is_up else ():
            self.end(session)

    def _change(self, candidates: tuple[Candidate, ...]) -> None:
        if candidates != self.candidates:
            self.candidates = candidates
            self.version += 1


def _expiry(now: float) -> float:
    """As ZooKeeper's ExpiryQueue rounds: to the next whole server tick."""
    return (math.floor((now + SESSION_TIMEOUT_S) / SERVER_TICK_S) + 1) * SERVER_TICK_S


@dataclass
class Client:
    """A daemon's connection to ZooKeeper: the adapter."""

    node: str
    zookeeper: ZooKeeper
    session: int | None
    born: float
    wish: bool | None = None
    state: Coordinator = Coordinator.SUSPENDED
    is_strict: bool = False
    lease_s: float = 0.0
    clock: Callable[[float], float] = lambda now: now
    _starts: int = 0
    """Of the servers, as last noticed."""
    _seen: int = -1
    _pinged: float = 0.0
    _leased: float = -math.inf

    def __post_init__(self) -> None:
        self._silent_since = self.born

    def run(self, now: float, *, is_cut: bool) -> Iterator[Event]:
        """One tick: connect, ping, stand or withdraw, watch."""
        if is_cut or not self.zookeeper.is_up or (self._starts != self.zookeeper.starts):
            # Also a server that is back at once has broken every connection.
            self._starts = self.zookeeper.starts
            yield from self._unreachable(now)
        elif self.state is not Coordinator.CONNECTED:
            yield from self._connect(now)
        elif not self.zookeeper.knows(self.session):
            self.session = None
            yield self._become(Coordinator.LOST)
        else:
            yield from self._work(now)

    def _unreachable(self, now: float) -> Iterator[Event]:
        if self.state is Coordinator.CONNECTED:
            self._silent_since = now
            yield self._become(Coordinator.SUSPENDED)
        elif self.state is Coordinator.SUSPENDED and now >= self._silent_since + SESSION_TIMEOUT_S:
            yield self._become(Coordinator.LOST)

    def _connect(self, now: float) -> Iterator[Event]:
        if self.session is not None and not self.zookeeper.knows(self.session):
            self.session = None
            if self.state is not Coordinator.LOST:
                yield self._become(Coordinator.LOST)
        if self.session is None:
            self.session = self.zookeeper.open(now)
        self._seen = -1
        self._pinged = -math.inf
        yield self._become(Coordinator.CONNECTED)

    def _work(self, now: float) -> Iterator[Event]:
        assert self.session is not None
        if now >= self._pinged + SESSION_TIMEOUT_S / 3:
            self.zookeeper.ping(self.session, now)
            self._pinged = now
        stands = any(one.session == self.session for one in self.zookeeper.candidates)
        if self.wish is True and not stands:
            self.zookeeper.stand(self.node, self.session)
        elif self.wish is False and stands:
            self.zookeeper.withdraw(self.session)
        if self.is_strict and now >= self._leased + LEASE_EVERY_S:
            # A write of our session that was done: it was alive then, and so was its candidate.
            self._leased = now
            yield LeaseSeen(self.session, self.clock(now) + self.lease_s)
        if self._seen != self.zookeeper.version:
            self._seen = self.zookeeper.version
            yield ElectionSeen(tuple(one for one in self.zookeeper.candidates if not self._is_predecessor(one)))

    def _is_predecessor(self, candidate: Candidate) -> bool:
        """The composition root keeps a candidate that nobody stands behind from the machine."""
        return candidate.node == self.node and candidate.session != self.session

    def _become(self, state: Coordinator) -> Event:
        self.state = state
        return CoordinatorChanged(state)


@dataclass
class Daemon:
    """A node daemon: the machine under test between an inbox and a client."""

    state: MemberState
    client: Client
    first_looks: list[int]
    """Ticks at which it looks for the first time at VRRP, gate, track file and health."""
    is_fit: bool | None = None
    """As last told; the composition root tells it when it changes."""
    local: deque[Event] = field(default_factory=deque)
    """What keepalived and the kernel said: read within the tick, in milliseconds."""
    remote: deque[tuple[int, Event]] = field(default_factory=deque)
    """What ZooKeeper said, and when it arrives."""
    damping: Damping = field(default_factory=Damping)
    told: tuple[bool, Caution] | None = None
    """Health and caution as last told."""
    heard_at: int = 0
    """Tick at which something last arrived on the underlay."""
    is_silence_told: bool = False

    def post_remote(self, due: int, event: Event) -> None:
        """Deliver an event at a tick, but after those that were posted before."""
        self.remote.append((max(due, self.remote[-1][0] if self.remote else due), event))

    def next_event(self, tick: int) -> Event | None:
        """The next one that has arrived."""
        if self.local:
            return self.local.popleft()
        if self.remote and self.remote[0][0] <= tick:
            return self.remote.popleft()[1]
        return None


@dataclass
class Member:
    """A proxy node."""

    node: str
    rank: int
    """Its underlay address, which decides between equal priorities."""
    is_powered: bool = False
    is_fit: bool = True
    is_cut: bool = False
    """Cut off from ZooKeeper only."""
    is_deaf: bool = False
    """Does not get the other's advertisements."""
    is_isolated: bool = False
    """Nothing at all arrives on its underlay."""
    is_daemon_stopped: bool = False
    is_keepalived_stopped: bool = False
    offset_s: float = 0.0
    rate: float = 1.0
    """Of its clock: what it shows is `offset_s + rate * now`."""
    lease_until: float = -math.inf
    """World time until which its kernel forwards in mode strict."""
    permitted_epoch: int = 0
    """On disk."""
    gate: bool = False
    track: int | None = None
    vrrp: Vrrp = Vrrp.STOP
    down_at: int = 0
    began_at: int = 0
    """When its keepalived was started last."""
    is_deferred: bool = False
    """Whether keepalived takes itself for one that may not claim yet, whatever the time."""
    session: int | None = None
    daemon: Daemon | None = None
    dies_after: int | None = None
    """Its daemon dies after so many more things done; None: it does not."""

    @property
    def priority(self) -> int:
        return min(254, max(1, BASE_PRIORITY + (self.track or 0)))

    def clock(self, now: float) -> float:
        return self.offset_s + self.rate * now

    def world(self, shown: float) -> float:
        """When its clock shows that."""
        return (shown - self.offset_s) / self.rate

    @property
    def runs_vrrp(self) -> bool:
        return self.vrrp is not Vrrp.STOP

    @property
    def is_left_open(self) -> bool:
        """Whether its gate was opened for a claim that a daemon did not live to ask for."""
        return self.gate and self.daemon is None and self.vrrp is Vrrp.BACKUP

    @property
    def is_ahead(self) -> bool:
        """Whether its gate is open for a claim that has yet to succeed: a second at most, then it closes again."""
        return self.is_left_open or (self.daemon is not None and self.daemon.state.is_preparing)

    @property
    def is_deserted(self) -> bool:
        """Whether no daemon looks after it."""
        return self.daemon is None or self.is_daemon_stopped


class PairWorld:
    """Both members, ZooKeeper and the clock. The methods named after faults do nothing where they do not apply."""

    def __init__(
        self,
        timers: Timers,
        latencies: tuple[int, ...] = (1,),
        first_looks: tuple[int, ...] = (0,),
        *,
        is_strict: bool = False,
        clocks: tuple[tuple[float, float], ...] = ((0.0, 1.0), (0.0, 1.0)),
    ) -> None:
        """`latencies`: ticks until ZooKeeper's news reach a daemon, in turn.

        `clocks`: origin and rate of each member's; `first_looks`: when a new daemon first looks at VRRP, gate, track file and health, two bits each.
        """
        self.tick = 0
        self.timers = timers
        self.zookeeper = ZooKeeper()
        self.is_strict, self.is_paused = is_strict, False
        self.members = tuple(
            Member(name, rank, offset_s=offset, rate=rate)
            for name, rank, (offset, rate) in zip("ab", (1, 2), clocks, strict=True)
        )
        self.role_changes: list[tuple[float, str, RoleChanged]] = []
        self.transcript: list[str] = []
        self._latencies = cycle(latencies)
        self._first_looks = cycle(first_looks)
        self._farewells: set[str] = set()

    @property
    def now(self) -> float:
        return self.tick * TICK_S

    def peer(self, member: Member) -> Member:
        return self.members[1] if member is self.members[0] else self.members[0]

    @property
    def is_heard(self) -> bool:
        """Whether advertisements get through both ways."""
        return not any(member.is_deaf or member.is_isolated for member in self.members)

    # -------------------------------------------------------------------------------------------------------- faults

    def can_claim(self, member: Member) -> bool:
        """Whether keepalived may take the HaVip, now or as soon as the daemon allows it."""
        if not member.runs_vrrp or member.is_keepalived_stopped or self.is_starting(member):
            return False
        if member.is_deserted:
            return member.track != PRIORITY_ASIDE and not member.is_deferred
        return not member.is_isolated

    def is_starting(self, member: Member) -> bool:
        """Whether its keepalived may still be within its startup delay, as its daemon sees it."""
        return self.tick < member.began_at + STARTED_TICKS

    def power_on(self, member: Member) -> None:
        if not member.is_powered:
            member.is_powered = True
            self.start_keepalived(member)
            self.start_daemon(member)

    def power_off(self, member: Member) -> None:
        self._farewells.discard(member.node)
        member.is_powered, member.gate, member.track = False, False, None
        member.vrrp, member.session, member.daemon = Vrrp.STOP, None, None
        member.is_daemon_stopped = member.is_keepalived_stopped = False
        member.dies_after = None
        member.lease_until, member.permitted_epoch = -math.inf, 0

    def forwards(self, member: Member) -> bool:
        """Whether packets get through: the gate, and in mode strict the kernel's lease."""
        return member.gate and (not self.is_strict or self.now < member.lease_until)

    def order(self, *, is_paused: bool) -> None:
        """`pair pause` or `resume`; the documents arrive as elections do."""
        self.is_paused = is_paused
        for member in self.members:
            if member.daemon is not None:
                member.daemon.post_remote(self.tick + next(self._latencies), OrdersSeen(is_paused, self.is_strict))

    def choose(self, member: Member) -> None:
        if self.zookeeper.is_up:
            self.zookeeper.choose(member.node, is_strict=self.is_strict)

    def start_daemon(self, member: Member) -> None:
        """Its first looks come in any order."""
        if not member.is_powered or member.daemon is not None:
            return
        member.is_daemon_stopped = False
        client = Client(
            *(member.node, self.zookeeper, member.session, self.now),
            is_strict=self.is_strict,
            lease_s=self.timers.lease_s,
            clock=member.clock,
        )
        bits = next(self._first_looks)
        first_looks = [self.tick + 1 + FIRST_LOOK * (bits >> shift & 3) for shift in range(0, 8, 2)]
        state = MemberState(member.node, self.timers, permitted_epoch=member.permitted_epoch)
        member.daemon = Daemon(state, client, first_looks, heard_at=self.tick)
        member.daemon.local.append(OrdersSeen(self.is_paused, self.is_strict))

    def kill_daemon(self, member: Member) -> None:
        member.daemon, member.is_daemon_stopped, member.dies_after = None, False, None

    def start_keepalived(self, member: Member) -> None:
        if member.is_powered and not member.runs_vrrp:
            member.track = PRIORITY_ASIDE if member.track is None else member.track  # init_file
            member.began_at, member.is_deferred = self.tick, False
            self._enter(member, Vrrp.BACKUP)

    def stop_keepalived(self, member: Member) -> None:
        member.is_keepalived_stopped = False
        if member.runs_vrrp:
            self._enter(member, Vrrp.STOP)

    def zookeeper_down(self) -> None:
        self.zookeeper.is_up = False

    def zookeeper_up(self) -> None:
        if not self.zookeeper.is_up:
            self.zookeeper.start(self.now)

    def expire_session(self, member: Member) -> None:
        if self.zookeeper.is_up and member.daemon is not None and member.daemon.client.session is not None:
            self.zookeeper.end(member.daemon.client.session)

    # --------------------------------------------------------------------------------------------------------- clock

    def advance(self) -> None:
        """One tick."""
        self.tick += 1
        self.zookeeper.expire(self.now)
        self._run_vrrp()
        for member in self.members:
            self._run_daemon(member)

    def _run_vrrp(self) -> None:
        running = [member for member in self.members if not member.is_keepalived_stopped]
        adverts = {member.node: member.priority for member in running if member.vrrp is Vrrp.MASTER}
        adverts |= dict.fromkeys(self._farewells, 0)
        self._farewells.clear()
        for member in self.members:
            advert = None if member.is_deaf or member.is_isolated else adverts.get(self.peer(member).node)
            if advert is not None:
                self._tell(member, HeartbeatHeard())
            if member.runs_vrrp and not member.is_keepalived_stopped:
                self._vrrp(member, advert)

    def _vrrp(self, member: Member, advert: int | None) -> None:
        is_fault = (member.track or 0) <= PRIORITY_ASIDE
        if is_fault and member.vrrp is not Vrrp.FAULT:
            self._enter(member, Vrrp.FAULT)
        elif member.vrrp is Vrrp.FAULT:
            if not is_fault:
                self._enter(member, Vrrp.BACKUP)
        elif member.vrrp is Vrrp.BACKUP:
            began = max(self.tick, member.began_at + STARTUP_TICKS)
            if advert == 0:
                member.down_at, member.is_deferred = began + 1, False
            elif advert is not None and advert >= member.priority:
                member.down_at, member.is_deferred = began + MASTER_DOWN, False
            elif self.tick < began:
                member.is_deferred = member.is_deferred or advert is not None
            elif not member.is_deferred and (advert is not None or self.tick >= member.down_at):
                self._enter(member, Vrrp.MASTER)
        elif advert and (advert, self.peer(member).rank) > (member.priority, member.rank):
            self._enter(member, Vrrp.BACKUP)

    def _enter(self, member: Member, state: Vrrp) -> None:
        if member.vrrp is Vrrp.MASTER and state in {Vrrp.FAULT, Vrrp.STOP}:
            self._farewells.add(member.node)
        member.vrrp = state
        member.gate = state is Vrrp.MASTER
        member.down_at = max(self.tick, member.began_at + STARTUP_TICKS) + MASTER_DOWN
        self.transcript.append(f"{self.now:7.2f} {member.node} keepalived {state.value}")
        self._tell(member, VrrpChanged(state))

    def _prefer(self, member: Member, value: int) -> None:
        """Write its track file."""
        if value != member.track and self.tick >= member.began_at + STARTUP_TICKS:
            member.is_deferred = False
        member.track = value

    def _tell(self, member: Member, event: Event) -> None:
        if member.daemon is not None:
            member.daemon.local.append(event)

    def _look(self, member: Member, daemon: Daemon) -> None:
        """A backup and a fault look the same to a daemon that was not there: no HaVip."""
        at_vrrp, at_gate, at_track, at_health = daemon.first_looks
        is_round = self.tick % LOOK_INTERVAL == 0
        if self.tick == at_vrrp and daemon.state.vrrp is Vrrp.UNKNOWN:
            daemon.local.append(VrrpChanged(Vrrp.BACKUP if member.vrrp is Vrrp.FAULT else member.vrrp))
        if is_round and member.is_keepalived_stopped and daemon.state.vrrp is not Vrrp.STOP:
            # It sees that it is stopped, and takes the HaVip away.
            daemon.local.append(VrrpChanged(Vrrp.STOP))
        elif is_round and daemon.state.vrrp is Vrrp.STOP and member.runs_vrrp and not member.is_keepalived_stopped:
            daemon.local.append(VrrpChanged(Vrrp.BACKUP))
        if self.tick == at_gate or (is_round and self.tick > at_gate):
            daemon.local.append(GateSeen(member.gate))
        if self.tick == at_track or (is_round and self.tick > at_track):
            daemon.local.append(PrioritySeen(member.track))
        if self.tick < at_health:
            return
        shown = member.clock(self.now)
        daemon.is_fit = member.is_fit
        daemon.damping = daemon.damping.seen(is_well=member.is_fit, now=shown)
        is_damped = member.is_fit and daemon.damping.left_s(shown) > 0.0
        is_starting = member.is_fit and self.is_starting(member)
        caution = Caution.DAMPED if is_damped else Caution.STARTING if is_starting else Caution.NONE
        told = (member.is_fit, caution)
        if told != daemon.told:
            daemon.told = told
            daemon.local.append(HealthSeen(frozenset() if member.is_fit else frozenset({"eni-down"}), told[1]))

    def _listen(self, member: Member, daemon: Daemon) -> None:
        """To the underlay: a daemon that has just started takes it for alive."""
        if not member.is_isolated:
            daemon.heard_at = self.tick
        is_silent = self.tick - daemon.heard_at >= SILENT_TICKS
        if is_silent is not daemon.is_silence_told:
            daemon.is_silence_told = is_silent
            daemon.local.append(UnderlaySeen(is_silent))

    def _run_daemon(self, member: Member) -> None:
        daemon = member.daemon
        if daemon is None or member.is_daemon_stopped:
            return
        for news in daemon.client.run(self.now, is_cut=member.is_cut):
            daemon.post_remote(self.tick + next(self._latencies), news)
        member.session = daemon.client.session
        self._look(member, daemon)
        self._listen(member, daemon)
        deadline, shown = daemon.state.next_deadline, member.clock(self.now)
        if deadline is not None and shown >= deadline:
            daemon.local.append(Tick())
        if daemon.state.wants_claim(shown):
            daemon.local.append(ClaimAllowed())
        while member.daemon is daemon and (event := daemon.next_event(self.tick)) is not None:
            self._step(member, daemon, event)

    def _renew_lease(self, member: Member, state: MemberState, shown: float) -> None:
        """Before any effect: whoever leaves the election has closed its kernel first."""
        member.permitted_epoch = state.permitted_epoch
        if not state.is_permitted or state.must_yield or state.lease is None:
            if state.lease is not None:
                member.lease_until = -math.inf
        else:
            member.lease_until = member.world(shown + math.floor(state.lease.until - shown))

    def _step(self, member: Member, daemon: Daemon, event: Event) -> None:
        old = daemon.state
        shown = member.clock(self.now)
        daemon.state, effects = step(old, event, shown)
        assert daemon.state.epoch >= old.epoch, "an epoch went back"
        self._renew_lease(member, daemon.state, shown)
        for effect in effects:
            if member.dies_after == 0:
                self.transcript.append(f"{self.now:7.2f} {member.node} dies before {effect}")
                self.kill_daemon(member)
                return
            member.dies_after = None if member.dies_after is None else member.dies_after - 1
            self.transcript.append(f"{self.now:7.2f} {member.node} {event} -> {effect}")
            match effect:
                case SetGate(is_open):
                    member.gate = is_open
                case SetPriority(value):
                    self._prefer(member, value)
                case SetContending(contend):
                    daemon.client.wish = contend
                case RoleChanged():
                    self.role_changes.append((self.now, member.node, effect))
                case _:
                    pass
