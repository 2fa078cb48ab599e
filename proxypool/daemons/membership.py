"""All pairs of one node: from the pool's documents and the kernel's messages to members and scenes.

Runs on the main loop. What a member does with an event is the role machine's business; here is only who gets which.
"""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from proxypool.adapters.havip_loan import HavipLoan
from proxypool.adapters.zookeeper import Presence
from proxypool.core.breaker import Breaker
from proxypool.core.keepalived import KeepalivedFacts
from proxypool.core.model import Candidate, PairSpec, Snapshot
from proxypool.core.node_scene import HostChanges, NodeFacts, RootScenes, SubnetScenes
from proxypool.core.role import (
    ClaimAllowed,
    Coordinator,
    CoordinatorChanged,
    ElectionSeen,
    LeaseSeen,
    Timers,
    UnderlaySeen,
)
from proxypool.daemons.bare import cut_bare
from proxypool.daemons.counting import Counting
from proxypool.daemons.dataplane import NODE_SCOPE, Dataplane, Reconciled
from proxypool.daemons.defence import Defence
from proxypool.daemons.forgetting import Forgetting
from proxypool.daemons.keepalived_control import KeepalivedControl
from proxypool.daemons.leasing import Leasing
from proxypool.daemons.left_over import remove_left_over
from proxypool.daemons.member import Member
from proxypool.daemons.messages import (
    ConnectionsCounted,
    EniProbed,
    GateTouched,
    HavipsContested,
    KeepalivedFilesTouched,
    KeepalivedSeen,
    LeaseRenewed,
    LinksSeen,
    MasterRecorded,
    Message,
    NamespaceGone,
    NamespaceOpened,
    PeerHeard,
    PortsCounted,
    SyncSeen,
    UnderlayHeard,
)
from proxypool.daemons.neighbourhood import Neighbourhood
from proxypool.daemons.node_watch import NodeWatch
from proxypool.daemons.port_sampling import PortSampling
from proxypool.daemons.probing import Probing, Target
from proxypool.daemons.publisher import Publisher
from proxypool.daemons.state_sync import StateSync
from proxypool.daemons.table_reader import TableReader
from proxypool.daemons.tunnel_check import TunnelCheck
from proxypool.daemons.vrrp_side import VrrpSide
from proxypool.daemons.wishes import Wishes
from proxypool.telemetry.failovers import FailoverClock
from proxypool.telemetry.metrics import NodeMetrics

log = logging.getLogger(__name__)


@dataclass
class Membership:
    """Members by subnet: a node is in at most one pair of a subnet."""

    facts: NodeFacts
    keepalived: KeepalivedFacts
    run_dir: Path
    timers: Timers
    dataplane: Dataplane
    watch: NodeWatch
    control: KeepalivedControl
    presence: Presence
    loan: HavipLoan
    own_session: Callable[[], int | None]
    clock: FailoverClock
    metrics: NodeMetrics
    post: Callable[[Message], None]
    members: dict[str, Member] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    vrrp: VrrpSide = field(init=False)
    publisher: Publisher = field(init=False)
    tables: TableReader = field(init=False)
    counting: Counting = field(init=False)
    port_sampling: PortSampling = field(init=False)
    forgetting: Forgetting = field(init=False)
    wishes: Wishes = field(init=False)
    state_sync: StateSync = field(init=False)
    probing: Probing = field(init=False)
    leasing: Leasing = field(init=False)
    neighbourhood: Neighbourhood = field(init=False)
    defence: Defence = field(init=False)
    breaker: Breaker = field(default_factory=Breaker)
    tunnel: TunnelCheck = field(default_factory=TunnelCheck)
    is_machine_known: bool = False
    """Whether the machine's own namespace was looked at since the start."""
    _changes: HostChanges = field(default_factory=HostChanges)
    _served: dict[str, tuple[int | None, tuple[object, ...]]] = field(default_factory=dict)
    """What each member was last served by: our session, and what is the same object while it is unchanged."""
    _pool: tuple[object, ...] = ()
    """What keepalived's files depend on."""

    def __post_init__(self) -> None:
        """The sides that work on the same members."""
        self.vrrp = VrrpSide(
            self.keepalived, self.members, self.dataplane, self.control, self.clock, self._look_at_health
        )
        self.neighbourhood = Neighbourhood(self.facts.name, self.members, self.watch, self.vrrp)
        watch = self.watch
        self.defence = Defence(self.members, watch.is_advertising, watch.claims.announce, self.metrics.defences.inc)
        self.publisher = Publisher(self.facts.name, self.presence)
        self.tables = TableReader(self.dataplane, self.post)
        self.counting = Counting(self.members, self.tables)
        self.port_sampling = PortSampling(self.members, self.tables)
        self.forgetting = Forgetting(self.members, self.dataplane)
        self.wishes = Wishes(self.dataplane)
        self.state_sync = StateSync(self.run_dir, self.post, time.monotonic)
        self.probing = Probing(self.dataplane, self.post)
        self.leasing = Leasing(self.presence, self.facts.name, self.timers.lease_s, self.post)
        self._root = RootScenes(self.facts, self._changes)

    # ---- the pool's documents ------------------------------------------------------------------------------------

    def snapshot_arrived(self, snapshot: Snapshot, now: float) -> None:
        """Serve what the documents say. Without the pool's spec everything stays as it is."""
        self.snapshot = snapshot
        if snapshot.spec is None:
            return
        if self.tunnel.look(snapshot.spec.tunnel):
            # What was wanted before the pool's mistake is wanted again; only a look tells that it is there.
            for subnet in self.members:
                self.dataplane.touch(subnet)
        self.watch.tunnel_range = snapshot.spec.tunnel_range
        wanted = {pair.subnet: pair for pair in snapshot.pairs_on(self.facts.name)}
        for subnet in [name for name, member in self.members.items() if not _same(wanted.get(name), member.pair)]:
            self._forget(subnet)
        changed = [subnet for subnet, pair in wanted.items() if self._concerns(subnet, pair)]
        for subnet in changed:
            self._serve(subnet, wanted[subnet], now)
        self._follow_sync()
        remove_left_over(self.dataplane, self.run_dir, (*wanted, *snapshot.unread_subnets))
        strict = (member.pair for member in self.members.values() if member.state.is_strict)
        self.leasing.want(frozenset((pair.subnet, pair.id) for pair in strict))
        if self.tunnel.problem is None:
            self.wishes.want(NODE_SCOPE, self._root.next(snapshot.spec, snapshot))
            self.wishes.list_hosts(self.members.values(), snapshot, now)
        self.neighbourhood.follow(snapshot)
        pool = (snapshot.spec, snapshot.subnets, snapshot.pairs, snapshot.nodes)
        if pool != self._pool:
            self._pool = pool
            self.vrrp.sync(snapshot)

    def _concerns(self, subnet: str, pair: PairSpec) -> bool:
        """Whether something of what a member is served by is new: most snapshots are about other subnets."""
        snapshot = self.snapshot
        inputs = (
            *(pair, snapshot.spec, snapshot.subnets[subnet], snapshot.nodes, snapshot.hosts),
            *(snapshot.subnet_hosts.get(subnet), snapshot.elections.get(f"{subnet}/{pair.id}"), self.tunnel.problem),
        )
        session = self.own_session()
        before = self._served.get(subnet)
        self._served[subnet] = (session, inputs)
        return before is None or before[0] != session or not all(map(operator.is_, inputs, before[1]))

    def _serve(self, subnet: str, pair: PairSpec, now: float) -> None:
        member = self.members.get(subnet)
        if member is None:
            member = self._new_member(pair, now)
        member.obey(pair, now)
        self._probe(member)
        if self.tunnel.problem is not None:
            member.problems = (self.tunnel.problem,)
            member.is_programmed = False
            self._look_at_health(member, now)
        else:
            self.wishes.want(subnet, member.scenes.next(self.snapshot, pair))
        candidates = self.snapshot.elections.get(f"{pair.subnet}/{pair.id}")
        if candidates is not None:
            living = tuple(candidate for candidate in candidates if not self._is_predecessor(candidate))
            if living != member.state.candidates:
                member.handle(ElectionSeen(living), now)

    def _probe(self, member: Member, *, anew: bool = False) -> None:
        target = Target.of(member.pair, self.facts.name)
        if target is not None and member.handles is not None:
            self.probing.want(member.pair.subnet, target, anew=anew)

    def _is_predecessor(self, candidate: Candidate) -> bool:
        """A candidate of this node from before a reboot: its session is not over yet, but nobody stands behind it."""
        return candidate.node == self.facts.name and candidate.session != self.own_session()

    def _new_member(self, pair: PairSpec, now: float) -> Member:
        member = Member(
            node=self.facts.name,
            pair=pair,
            timers=self.timers,
            run_dir=self.run_dir,
            set_contending=self._set_contending,
            clock=self.clock,
            wall=time.time,
            loan=self.loan,
            monotonic=time.monotonic,
            probe_rtt_s=lambda: self.probing.rtt_s(pair.subnet),
            on_repair=lambda: self.metrics.repaired(pair.subnet),
            scenes=SubnetScenes(self.facts, self._changes),
        )
        self.members[pair.subnet] = member
        member.obey(pair, now)
        member.handle(CoordinatorChanged(Coordinator.CONNECTED), now)
        member.handle(UnderlaySeen(self.neighbourhood.is_silent), now)
        member.has_havip = pair.havip in self.vrrp.addresses
        member.see_priority(now)
        self.vrrp.adopt(member, now)
        return member

    def _set_contending(self, pair: PairSpec, contend: bool) -> None:  # noqa: FBT001 - a callback of one fact
        if contend:
            self.presence.contend(pair.subnet, pair.id, self.facts.name)
        else:
            self.presence.withdraw(pair.subnet, pair.id, self.facts.name)

    def _forget(self, subnet: str) -> None:
        member = self.members.pop(subnet)
        self._served.pop(subnet, None)
        log.info("%s: no longer served here", member.label)
        self.watch.close(subnet)
        self.probing.forget(subnet)
        member.forget()
        self.wishes.forget(subnet)
        self.publisher.forget(subnet, member)
        if member.pair.id not in self.snapshot.pairs.get(subnet, {}):
            # All that was below the pair went with it: there is nothing to leave.
            self.presence.forget(subnet, member.pair.id, self.facts.name)
        self.metrics.forget(subnet)

    # ---- the kernel ----------------------------------------------------------------------------------------------

    def kernel_spoke(self, message: Message, now: float) -> None:  # noqa: C901, PLR0912 - one case for each kind
        """Results of the dataplane and of the watch."""
        match message:
            case Reconciled():
                self._reconciled(message, now)
            case NamespaceOpened(subnet, handles):
                member = self.members.get(subnet)
                if member is None:
                    handles.close()
                    return
                member.take_handles(handles, now)
                member.check(now)
                self._probe(member, anew=True)
            case NamespaceGone(subnet):
                self.watch.close(subnet)
                # Its socket keeps the old namespace, and with it the tunnel's key.
                self.probing.forget(subnet)
                if (member := self.members.get(subnet)) is not None:
                    log.warning("%s: its namespace was removed", member.label)
                    member.drop_handles()
                    self.dataplane.touch(subnet)
            case GateTouched(subnet):
                if (member := self.members.get(subnet)) is not None:
                    member.check_gate(now)
            case LeaseRenewed(pairs, session, until):
                for subnet, pair in pairs:
                    member = self.members.get(subnet)
                    if member is not None and member.pair.id == pair and member.state.is_strict:
                        member.handle(LeaseSeen(session, until), now)
            case LinksSeen() | EniProbed():
                if (member := self.members.get(message.subnet)) is not None:
                    member.is_touched = member.condition.saw(message) or member.is_touched
                    self._look_at_health(member, now)
            case _:
                self._told(message, now)

    def _told(self, message: Message, now: float) -> None:
        """What other threads found out."""
        match message:
            case ConnectionsCounted():
                self.counting.counted(message, now)
            case PortsCounted():
                self.port_sampling.counted(message, now)
            case SyncSeen(subnet, report):
                if (member := self.members.get(subnet)) is not None and member.scenes.link is not None:
                    member.saw_sync(report)
            case KeepalivedFilesTouched():
                self.vrrp.sync()
            case UnderlayHeard(is_silent):
                self.neighbourhood.heard(now, is_silent=is_silent)
            case PeerHeard():
                self.neighbourhood.peers_heard(message, self.snapshot, now)
            case HavipsContested(havips):
                self.defence.contested(havips, now)
            case MasterRecorded(record):
                if (member := self.members.get(record.subnet)) is not None:
                    member.see_record(record)
            case _:
                return

    def _reconciled(self, result: Reconciled, now: float) -> None:
        self.metrics.reconciled(
            result.scope,
            ok=not result.problems,
            is_repair=result.is_repair,
            operations=result.operations,
            duration_s=result.duration_s,
            now=time.time(),
        )
        self.is_machine_known = self.is_machine_known or result.scope == NODE_SCOPE
        self.wishes.fulfilled(result, self.members.values())
        member = self.members.get(result.scope)
        if member is None:
            if result.scope != NODE_SCOPE and not result.problems:
                # Its namespace is gone: it was counted for the last time.
                self.metrics.forget(result.scope)
            return
        member.is_touched = member.is_touched or member.problems != result.problems
        member.problems = result.problems
        was_programmed, member.is_programmed = member.is_programmed, not result.problems
        if result.is_repair:
            member.repairs += 1
            if self.snapshot.spec is not None:
                cut_bare(self.dataplane, result.scope, self.snapshot.spec.tunnel_range)
        if member.is_programmed:
            self.watch.reconciled(result.scope, needs_handles=member.handles is None)
        if member.is_programmed and not was_programmed:
            self.vrrp.sync()
        self._look_at_health(member, now)

    def _look_at_health(self, member: Member, now: float) -> None:
        """Only what was looked at counts: before the first results a predecessor's work is left alone."""
        if member.is_programmed is None or not self.vrrp.is_known:
            return
        member.look_at_health(self.vrrp.sight(member), now)

    # ---- time ----------------------------------------------------------------------------------------------------

    def coordinator_moved(self, state: Coordinator, now: float) -> None:
        """The ZooKeeper connection changed."""
        for member in self.members.values():
            member.handle(CoordinatorChanged(state), now)

    def keepalived_seen(self, seen: KeepalivedSeen, now: float) -> None:
        """It started, ended, was stopped, or its startup delay is over."""
        self.vrrp.seen(seen, now)
        self.neighbourhood.listen()

    def second_passed(self, now: float) -> None:
        """Repair what sends no notification, and let time pass for the machines."""
        for member in self.members.values():
            member.check(now)
            if member.has_stale_handles:
                self.watch.close(member.pair.subnet)
                member.drop_handles()
            member.observe_counters(now)
            if member.misses_egress:
                # Nobody is told when such an entry goes.
                self.dataplane.touch(member.pair.subnet)
            self._look_at_health(member, now)
            self._let_claim(member, now)
            if member.is_programmed and member.handles is None:
                # They could not be opened the first time.
                self.watch.reconciled(member.pair.subnet, needs_handles=True)
        self.neighbourhood.listen()
        self.wishes.second_passed(self.members.values(), now)
        self.vrrp.second_passed(now)
        self.counting.second_passed(now)
        self.port_sampling.second_passed(now)
        self._follow_sync()
        self.forgetting.second_passed(now)
        self.publisher.publish_numbers(self.members, now)

    def _follow_sync(self) -> None:
        for member in self.members.values():
            if member.scenes.link is None:
                member.sync = None
        if self.snapshot.spec is not None and self.tunnel.problem is None:
            self.state_sync.follow(self.members, self.wishes.is_fulfilled)

    def _let_claim(self, member: Member, now: float) -> None:
        """See `core.breaker`."""
        if member.state.wants_claim(now):
            self.breaker, is_allowed = self.breaker.take(now)
            if is_allowed:
                log.warning("%s: the master's daemon does not stand in the election: taking over", member.label)
                member.handle(ClaimAllowed(), now)

    def next_deadline(self) -> float | None:
        """When the next machine wants to be called at the latest."""
        deadlines = [member.next_deadline for member in self.members.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def is_adopted(self) -> bool:
        """Whether keepalived's files and every namespace to be served were looked at since the start."""
        if self.snapshot.spec is None or self.tunnel.problem is not None:
            return True
        return (
            self.is_machine_known
            and self.vrrp.is_known
            and all(member.is_programmed is not None for member in self.members.values())
        )

    # ---- what others see -----------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """What is wrong with the whole node as far as tunnels and announcements go."""
        found = [self.tunnel.problem] if self.tunnel.problem else []
        has_egress = any(member.pair.egress_address for member in self.members.values())
        if has_egress and not Path(self.keepalived.arping).exists():
            found.append(
                f"{self.keepalived.arping} is not there: while the daemon is dead, a new master cannot announce its "
                "egress addresses; install the package iputils-arping"
            )
        return found


def _same(wanted: PairSpec | None, served: PairSpec) -> bool:
    return wanted is not None and wanted.id == served.id
