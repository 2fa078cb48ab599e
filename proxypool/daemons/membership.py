"""All pairs of one node: from the pool's documents and the kernel's messages to members, scenes and keepalived's files.

Runs on the main loop. What a member does with an event is the role machine's business; here is only who gets which.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from proxypool.adapters import netlink
from proxypool.adapters.zookeeper import Presence
from proxypool.core.addressing import namespace_of
from proxypool.core.documents import encode
from proxypool.core.errors import ProxypoolError
from proxypool.core.keepalived import GLOBAL_FILE, KeepalivedFacts, file_name, parse_notification, render
from proxypool.core.model import Candidate, MemberStatus, PairSpec, Snapshot, TunnelKind
from proxypool.core.node_scene import NodeFacts, root_scene, subnet_scene
from proxypool.core.role import (
    Coordinator,
    CoordinatorChanged,
    ElectionSeen,
    HealthSeen,
    HeartbeatHeard,
    Timers,
    Vrrp,
    VrrpChanged,
)
from proxypool.core.scene import Scene
from proxypool.daemons.dataplane import Dataplane, Reconciled
from proxypool.daemons.keepalived_control import KeepalivedControl
from proxypool.daemons.member import Member
from proxypool.daemons.messages import (
    GateRead,
    KeepalivedFilesTouched,
    KeepalivedSynced,
    Message,
    NamespaceGone,
    NamespaceOpened,
    PeerHeard,
)
from proxypool.daemons.node_watch import NodeWatch
from proxypool.telemetry.failovers import FailoverClock
from proxypool.telemetry.metrics import MemberView, NodeMetrics

log = logging.getLogger(__name__)

NODE_SCOPE = "(node)"
"""Scope of the machine's own namespace; no subnet can have this name."""
MISMATCH_S = 1.0
"""How long VRRP state and HaVip may disagree before the HaVip is believed: a line of the fifo was lost."""


@dataclass
class Membership:
    """Members by subnet: a node is in at most one pair of a subnet."""

    facts: NodeFacts
    keepalived: KeepalivedFacts
    run_dir: Path
    session_timeout_s: float
    dataplane: Dataplane
    watch: NodeWatch
    control: KeepalivedControl
    presence: Presence
    own_session: Callable[[], int | None]
    clock: FailoverClock
    metrics: NodeMetrics
    members: dict[str, Member] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    addresses: frozenset[IPv4Address] = frozenset()
    keepalived_pid: int | None = None
    installed: frozenset[str] = frozenset()
    is_keepalived_known: bool = False
    is_fifo_connected: bool = False
    needs_sync: bool = False
    tunnel_problem: str | None = None
    _inputs: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _probed: TunnelKind | None = None
    _published: dict[str, tuple[MemberStatus, float]] = field(default_factory=dict)

    # ---- the pool's documents ------------------------------------------------------------------------------------

    def snapshot_arrived(self, snapshot: Snapshot, now: float) -> None:
        """Serve what the documents say. Without the pool's spec everything stays as it is."""
        self.snapshot = snapshot
        if snapshot.spec is None:
            return
        self._probe_tunnel(snapshot.spec.tunnel)
        wanted = {pair.subnet: pair for pair in snapshot.pairs_on(self.facts.name)}
        for subnet in [name for name, member in self.members.items() if not _same(wanted.get(name), member.pair)]:
            self._forget(subnet)
        for subnet, pair in wanted.items():
            self._serve(subnet, pair, now)
        self._remove_left_over(wanted)
        if self.tunnel_problem is None:
            self.dataplane.want(NODE_SCOPE, root_scene(self.facts, snapshot.spec, snapshot))
        self._sync_keepalived()

    def _probe_tunnel(self, kind: TunnelKind) -> None:
        if self._probed is kind:
            return
        self._probed = kind
        try:
            netlink.probe_tunnel(kind)
            self.tunnel_problem = None
        except ProxypoolError as error:
            self.tunnel_problem = str(error)
            log.error("%s", error)

    def _serve(self, subnet: str, pair: PairSpec, now: float) -> None:
        member = self.members.get(subnet)
        if member is None:
            member = self._new_member(pair, now)
        member.pair = pair
        if self.tunnel_problem is not None:
            member.problems = (self.tunnel_problem,)
            member.is_programmed = False
            self._look_at_health(member, now)
        else:
            self._want_scene(subnet, pair)
        candidates = self.snapshot.elections.get(f"{pair.subnet}/{pair.id}")
        if candidates is not None:
            living = tuple(candidate for candidate in candidates if not self._is_predecessor(candidate))
            if living != member.state.candidates:
                member.handle(ElectionSeen(living), now)

    def _is_predecessor(self, candidate: Candidate) -> bool:
        """A candidate of this node from before a reboot: its session is not over yet, but nobody stands behind it."""
        return candidate.node == self.facts.name and candidate.session != self.own_session()

    def _want_scene(self, subnet: str, pair: PairSpec) -> None:
        """Compute a scene only when what it depends on changed: a pool of many subnets has many snapshots."""
        hosts = tuple(self.snapshot.hosts.get(host) for host in sorted(self.snapshot.subnet_hosts.get(subnet, ())))
        inputs = (self.snapshot.spec, self.snapshot.subnets[subnet], pair, hosts)
        if self._inputs.get(subnet) != inputs:
            self._inputs[subnet] = inputs
            self.dataplane.want(subnet, subnet_scene(self.facts, self.snapshot, pair))

    def _new_member(self, pair: PairSpec, now: float) -> Member:
        member = Member(
            node=self.facts.name,
            pair=pair,
            timers=Timers(tie_break_s=self.session_timeout_s),
            run_dir=self.run_dir,
            set_contending=self._set_contending,
            clock=self.clock,
            wall=time.time,
            on_repair=lambda: self.metrics.repairs.labels(pair.subnet).inc(),
        )
        self.members[pair.subnet] = member
        member.handle(CoordinatorChanged(Coordinator.CONNECTED), now)
        member.has_havip = pair.havip in self.addresses
        self._adopt_vrrp(member, now)
        return member

    def _set_contending(self, pair: PairSpec, contend: bool) -> None:  # noqa: FBT001 - a callback of one fact
        if contend:
            self.presence.contend(pair.subnet, pair.id, self.facts.name)
        else:
            self.presence.withdraw(pair.subnet, pair.id, self.facts.name)

    def _forget(self, subnet: str) -> None:
        member = self.members.pop(subnet)
        log.info("%s: no longer served here", member.label)
        self.watch.close(subnet)
        member.forget()
        self._published.pop(subnet, None)
        self._inputs.pop(subnet, None)
        self.presence.drop(_status_path(member.pair, self.facts.name))
        self.metrics.forget(subnet)

    def _remove_left_over(self, wanted: dict[str, PairSpec]) -> None:
        """Namespaces of ours that no document asks for; whether they are ours the executor proves before it removes."""
        kept = {namespace_of(subnet) for subnet in wanted}
        for name in netlink.list_namespaces():
            if name not in kept:
                self.dataplane.want(name.removeprefix(namespace_of("")), Scene.absent(name))

    # ---- keepalived ----------------------------------------------------------------------------------------------

    def _sync_keepalived(self) -> None:
        """Instances whose namespace is ready, or that are installed already: traffic may arrive with the HaVip."""
        files = render(self.keepalived, self.snapshot)
        for member in self.members.values():
            name = file_name(member.pair.subnet, member.pair.id)
            if member.is_programmed is not True and name not in self.installed and self.is_keepalived_known:
                files.pop(name, None)
        if not self.is_keepalived_known:
            self.dataplane.later("keepalived", self.control.look)
            return
        self.dataplane.later("keepalived", lambda: self.control.sync(files))

    def keepalived_synced(self, message: KeepalivedSynced, now: float) -> None:
        """Which files are in place now."""
        first = not self.is_keepalived_known
        self.installed, self.is_keepalived_known = message.installed, True
        self.needs_sync = message.needs_reload or message.problem is not None
        if message.is_reloaded:
            self.metrics.reloads.inc()
        for member in self.members.values():
            if member.state.vrrp in {Vrrp.STOP, Vrrp.UNKNOWN}:
                self._adopt_vrrp(member, now)
            self._look_at_health(member, now)
        if first and self.snapshot.spec is not None:
            self._sync_keepalived()

    def keepalived_seen(self, pid: int | None, now: float, *, is_connected: bool) -> None:
        """keepalived started or ended. Without it nobody may keep the HaVip or an open gate here."""
        self.keepalived_pid, self.is_fifo_connected = pid, is_connected
        for member in self.members.values():
            if pid is None:
                member.handle(VrrpChanged(Vrrp.STOP), now)
                if member.has_havip:
                    self._fence(member)
            elif member.state.vrrp in {Vrrp.STOP, Vrrp.UNKNOWN}:
                self._adopt_vrrp(member, now)
            self._look_at_health(member, now)
        if pid is not None and self.is_keepalived_known:
            self._sync_keepalived()

    def _fence(self, member: Member) -> None:
        """The other member has taken over: two machines must not answer for one HaVip."""
        log.warning("%s: keepalived is dead: removing the HaVip %s it left", member.label, member.pair.havip)
        try:
            netlink.remove_local_address(self.keepalived.underlay_device, member.pair.havip)
        except ProxypoolError as error:
            log.error("%s", error)

    def _adopt_vrrp(self, member: Member, now: float) -> None:
        """keepalived spoke before we listened: it holds the HaVip if and only if it is master."""
        if self.keepalived_pid is None or file_name(member.pair.subnet, member.pair.id) not in self.installed:
            return
        member.handle(VrrpChanged(Vrrp.MASTER if member.has_havip else Vrrp.BACKUP), now)

    def fifo_spoke(self, lines: tuple[str, ...], at: float, now: float) -> None:
        """keepalived's own words about its instances."""
        for line in lines:
            parsed = parse_notification(line)
            if parsed is None:
                continue
            subnet, pair, state = parsed
            member = self.members.get(subnet)
            if member is None or member.pair.id != pair:
                continue
            if state is Vrrp.MASTER:
                self.clock.claimed(member.pair, at)
            member.mismatch_since = None
            member.handle(VrrpChanged(state), now)

    def addresses_seen(self, addresses: frozenset[IPv4Address], now: float) -> None:
        """Which HaVips are on the underlay interface."""
        self.addresses = addresses
        for member in self.members.values():
            has_havip = member.pair.havip in addresses
            member.is_touched = member.is_touched or has_havip != member.has_havip
            member.has_havip = has_havip
            if self.keepalived_pid is None and member.has_havip:
                self._fence(member)
            elif member.state.vrrp is Vrrp.UNKNOWN or not self.is_fifo_connected:
                # Without the fifo the HaVip is keepalived's only word, and what notify lines did must not be undone.
                self._adopt_vrrp(member, now)

    # ---- the kernel ----------------------------------------------------------------------------------------------

    def kernel_spoke(self, message: Message, now: float) -> None:
        """Results of the dataplane and of the watch."""
        match message:
            case Reconciled():
                self._reconciled(message, now)
            case NamespaceOpened(subnet, handles):
                member = self.members.get(subnet)
                if member is None:
                    handles.close()
                    return
                member.drop_handles()
                member.handles = handles
                member.check(now)
            case NamespaceGone(subnet):
                self.watch.close(subnet)
                if (member := self.members.get(subnet)) is not None:
                    log.warning("%s: its namespace was removed", member.label)
                    member.drop_handles()
                    self.dataplane.touch(subnet)
            case GateRead(subnet, is_open):
                if (member := self.members.get(subnet)) is not None:
                    member.saw_gate(is_open=is_open, now=now)
            case KeepalivedFilesTouched():
                if self.is_keepalived_known and self.snapshot.spec is not None:
                    self._sync_keepalived()
            case PeerHeard(peers):
                for member in self.members.values():
                    peer = member.pair.peer_of(self.facts.name)
                    spec = self.snapshot.nodes.get(peer.node) if peer else None
                    if member.state.is_aside and spec is not None and spec.underlay in peers:
                        member.handle(HeartbeatHeard(), now)
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
        member = self.members.get(result.scope)
        if member is None:
            return
        member.is_touched = member.is_touched or member.problems != result.problems
        member.problems = result.problems
        was_programmed, member.is_programmed = member.is_programmed, not result.problems
        if result.is_repair:
            member.repairs += 1
        if member.is_programmed:
            self.watch.reconciled(result.scope, needs_handles=member.handles is None)
        if member.is_programmed and not was_programmed:
            self._sync_keepalived()
        self._look_at_health(member, now)

    def _look_at_health(self, member: Member, now: float) -> None:
        """Only what was looked at counts: before the first results a predecessor's work is left alone."""
        if member.is_programmed is None or not self.is_keepalived_known:
            return
        reasons = set()
        if not member.is_programmed:
            reasons.add("not-programmed")
        if self.keepalived_pid is None:
            reasons.add("keepalived-down")
        elif file_name(member.pair.subnet, member.pair.id) not in self.installed:
            reasons.add("vrrp-not-configured")
        if frozenset(reasons) != member.state.health:
            member.handle(HealthSeen(frozenset(reasons)), now)

    # ---- time ----------------------------------------------------------------------------------------------------

    def coordinator_moved(self, state: Coordinator, now: float) -> None:
        """The ZooKeeper connection changed."""
        for member in self.members.values():
            member.handle(CoordinatorChanged(state), now)

    def second_passed(self, now: float) -> None:
        """Repair what sends no notification, and let time pass for the machines."""
        for member in self.members.values():
            member.check(now)
            member.observe_counters(now)
            self._distrust_fifo(member, now)
            if member.is_programmed and member.handles is None:
                # They could not be opened the first time.
                self.watch.reconciled(member.pair.subnet, needs_handles=True)
        self.watch.listen_for_peers(any(member.state.is_aside for member in self.members.values()))
        if self.keepalived_pid is not None and not self.is_fifo_connected and GLOBAL_FILE in self.installed:
            self.dataplane.submit(self.control.reconnect)
        if self.needs_sync:
            self._sync_keepalived()

    def _distrust_fifo(self, member: Member, now: float) -> None:
        agrees = member.state.vrrp not in {Vrrp.MASTER, Vrrp.BACKUP} or (
            member.has_havip == (member.state.vrrp is Vrrp.MASTER)
        )
        if agrees or self.keepalived_pid is None:
            member.mismatch_since = None
        elif member.mismatch_since is None:
            member.mismatch_since = now
        elif now - member.mismatch_since > MISMATCH_S:
            member.mismatch_since = None
            log.warning("%s: keepalived said %s, but the HaVip says otherwise", member.label, member.state.vrrp)
            self._adopt_vrrp(member, now)

    def next_deadline(self) -> float | None:
        """When the next machine wants to be called at the latest."""
        deadlines = [member.state.next_deadline for member in self.members.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # ---- what others see -----------------------------------------------------------------------------------------

    def publish_urgent(self, now: float) -> None:
        """Publish members whose role, gate, HaVip, epoch or health changed."""
        for subnet, member in self.members.items():
            if not member.is_touched:
                continue
            member.is_touched = False
            last = self._published.get(subnet)
            if last is None or _essence(last[0], member):
                self._publish(subnet, member, now)

    def publish_counters(self, now: float, interval_s: float) -> None:
        """Publish members whose numbers or gate changed, not too often."""
        for subnet, member in self.members.items():
            last = self._published.get(subnet)
            if last is None:
                continue
            status = member.status()
            if status.gate != last[0].gate or (now - last[1] >= interval_s and _numbers(status) != _numbers(last[0])):
                self._publish(subnet, member, now)

    def _publish(self, subnet: str, member: Member, now: float) -> None:
        status = member.status()
        self._published[subnet] = (status, now)
        self.presence.want(_status_path(member.pair, self.facts.name), encode(status))

    def views(self) -> tuple[MemberView, ...]:
        """For the metrics; called on another thread, so it works on a copy."""
        return tuple(
            MemberView(member.pair, member.status(), member.state.is_elected) for member in list(self.members.values())
        )

    def problems(self) -> list[str]:
        """What is wrong with the whole node as far as tunnels go."""
        return [self.tunnel_problem] if self.tunnel_problem else []


def _status_path(pair: PairSpec, node: str) -> str:
    return f"subnets/{pair.subnet}/pairs/{pair.id}/status/{node}"


def _same(wanted: PairSpec | None, served: PairSpec) -> bool:
    return wanted is not None and wanted.id == served.id


def _essence(published: MemberStatus, member: Member) -> bool:
    """Whether what matters at 3 a.m. differs from what was published."""
    state = member.state
    health = tuple(sorted(state.health)) if state.health is not None else ("starting",)
    now = (state.role.value, state.vrrp.value, member.has_havip, state.epoch, health + member.problems)
    return now != (published.role, published.vrrp, published.has_havip, published.epoch, published.health)


def _numbers(status: MemberStatus) -> tuple[object, ...]:
    return (
        status.conntrack, status.rx_bytes, status.tx_bytes, status.repairs, status.rx_bytes_per_s, status.tx_bytes_per_s
    )  # fmt: skip
