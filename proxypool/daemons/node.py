"""The node daemon: for every pair this node is a member of, hold the election, program the namespace, follow VRRP.

Composition root and main loop. Threads: this loop (decides; never blocks on slow paths), `watcher` (waits for kernel
files), `dataplane` (programs the kernel), `tables` (reads connection tables), `state-sync` (looks after conntrackd),
`probing` (asks through the ENIs), `leasing` (mode strict), `recorder` (tells what happened), `status-page` (reads what
the page shows, while somebody looks), the ZooKeeper client's and those of the two ports.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from proxypool.adapters import netlink
from proxypool.adapters.havip_loan import HavipLoan
from proxypool.adapters.iptables import BlockedCounts
from proxypool.adapters.keepalived import Keepalived
from proxypool.adapters.outside import SOCKET_VARIABLE, OutsideKeepalived, OutsideNames
from proxypool.adapters.zookeeper import PoolMirror, PoolSession, Presence
from proxypool.core.blocking import Blocked
from proxypool.core.config import NODE_METRICS, NODE_WEB, Config, NodeConfig
from proxypool.core.detection import detection_of
from proxypool.core.discovery import Daemon
from proxypool.core.errors import InvalidInput, PermanentError, ProxypoolError
from proxypool.core.keepalived import KeepalivedFacts
from proxypool.core.model import Snapshot
from proxypool.core.node_scene import NodeFacts
from proxypool.core.role import Coordinator, Timers, Vrrp
from proxypool.daemons import member_views, singleton
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.doors import metrics_server
from proxypool.daemons.keepalived_control import KeepalivedControl
from proxypool.daemons.listening import Listening
from proxypool.daemons.mainloop import Reload, hurry, run_until_stopped, stop_on_signals
from proxypool.daemons.membership import Membership
from proxypool.daemons.messages import (
    AddressesSeen,
    AddressMoved,
    CoordinatorMoved,
    DefenceDue,
    FifoSpoke,
    KeepalivedSeen,
    KeepalivedSynced,
    MasterRecorded,
    Message,
    PublicationDue,
    SecondPassed,
    SnapshotArrived,
)
from proxypool.daemons.node_registration import NodeRegistration
from proxypool.daemons.node_watch import NodeWatch
from proxypool.daemons.port import Port
from proxypool.daemons.problems import Problems, silence_of
from proxypool.daemons.pulse import BEAT_S as LOOP_BEAT_S
from proxypool.daemons.recorder import Recorder
from proxypool.daemons.reloading import Reloading
from proxypool.daemons.service import Service
from proxypool.daemons.shown_node import NodeNow, ShownNode
from proxypool.daemons.status_site import StatusSite
from proxypool.daemons.underlay import coordinators_of, wait_for_underlay
from proxypool.daemons.usage import limits_of
from proxypool.telemetry import logs
from proxypool.telemetry.failovers import FailoverClock
from proxypool.telemetry.metrics import NodeMetrics, NodeView
from proxypool.telemetry.use_metrics import NodeUse

log = logging.getLogger(__name__)

NOT_ON_TIME = (
    "keepalived's VRRP process cannot be given real-time scheduling (CAP_SYS_NICE), so a busy processor may look like "
    'a dead master: allow it, or choose node.detection = "conservative"'
)
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from a gate that is to be opened; Python's default is ten times that. Not
before all was adopted: with many members threads would do little else than take it from each other.
"""
TELL_WITHIN_S = 0.2
"""What changed is published so soon at the latest, however much there is to do."""
NO_GUARD = (
    "this kernel has no filter for what leaves an ENI (sch_ingress, cls_bpf): until flushed iptables rules are "
    "repaired, packets may leave with a source that is not the ENI's"
)
NOT_RUNNING = "keepalived is not running: start it with `systemctl start keepalived`"
NOT_READY = "what was there when the daemon started has not been looked at yet"
STOPPED = "keepalived was stopped by a signal: `systemctl restart keepalived`, or send it SIGCONT"


class NodeDaemon:
    """Wires adapters, membership and telemetry together and runs the loop."""

    def __init__(self, config: Config, node: NodeConfig, reread: Callable[[], Config]) -> None:
        """Nothing is started. `reread`: reads the configuration again."""
        self.config, self.node, self._reread = config, node, reread
        self.name = node.name or socket.gethostname()
        self.run_dir = Path(config.run_dir)
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.problems = Problems()
        self.started_at = time.monotonic()
        self.snapshot = Snapshot()
        self.service = Service.of_this_process(Daemon.NODE, config.zookeeper.session_timeout_s)
        self.blocked: Mapping[Blocked, int] = {}
        """Packets, in the machine's own namespace, as last read."""

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Kernel state, keepalived and the ZooKeeper session are left as they are."""
        stop_on_signals(self.inbox)
        underlay = wait_for_underlay(self.node.underlay, self.inbox, self.service)
        if underlay is None:
            return 0
        self._compose(underlay)
        try:
            return self._loop()
        finally:
            self._close()

    def _compose(self, underlay: netlink.Underlay) -> None:
        # keepalived ignores a track file whose directory is not there when it reads its configuration.
        (self.run_dir / "track").mkdir(parents=True, exist_ok=True)
        zookeeper = self.config.zookeeper
        self.session = PoolSession(
            zookeeper,
            self.config.pool,
            session_file=self.run_dir / "node.session",
            identity=f"node:{self.name}",
            on_state=lambda state: self.inbox.put(CoordinatorMoved(state)),
        )
        self.presence = Presence(self.session)
        self.registration = NodeRegistration(
            self.session, self.presence, self.name, underlay.address, self.config.metrics
        )
        self.mirror = PoolMirror(
            self.session, lambda snapshot: self.inbox.put(SnapshotArrived(snapshot)), node=self.name
        )
        self.limits = limits_of(self.node)
        self.metrics = NodeMetrics(self._view, self._use)
        self.reloading = Reloading(Daemon.NODE, self.config, self._reread, self.problems, self.metrics, self.service)
        self.loan = HavipLoan(self.node.underlay)
        self.recorder = Recorder(self.session, self.metrics, lambda record: self.inbox.put(MasterRecorded(record)))
        self.listening = Listening(self.name)
        self.metrics.adverts_timed.set(self.listening.is_possible)
        outside = os.environ.get(SOCKET_VARIABLE)
        keepalived = Keepalived(Path(self.node.keepalived_dir), OutsideKeepalived(outside) if outside else None)
        self.dataplane = Dataplane(on_result=self.inbox.put, names=OutsideNames(outside) if outside else None)
        detection = detection_of(self.node.detection, self.node.advert_interval_ms, self.node.missing_adverts)
        self.watch = NodeWatch(
            self.inbox.put,
            self.dataplane,
            self.node.underlay,
            self.run_dir,
            keepalived,
            needs_real_time=detection.is_real_time,
        )
        guards = netlink.can_guard_sources()
        if not guards:
            log.warning("%s", NO_GUARD)
        facts = NodeFacts(self.name, underlay.address, underlay.mtu, coordinators_of(zookeeper.hosts), guards)
        self.membership = Membership(
            facts=facts,
            keepalived=KeepalivedFacts(
                self.name,
                self.node.underlay,
                underlay.address,
                str(self.run_dir),
                detection,
            ),
            run_dir=self.run_dir,
            timers=Timers.for_session(
                zookeeper.session_timeout_s, zookeeper.server_tick_s, detection_s=detection.longest_s
            ),
            dataplane=self.dataplane,
            watch=self.watch,
            control=KeepalivedControl(keepalived, self.inbox.put),
            presence=self.presence,
            loan=self.loan,
            own_session=lambda: self.session.session_id,
            clock=FailoverClock(self.name, self.recorder.put, time.monotonic, time.time, self.listening.heard),
            metrics=self.metrics,
            post=self.inbox.put,
        )
        self.is_ready = False
        self._told_at = 0.0
        serve = metrics_server(self.config.metrics, NODE_METRICS, self.metrics.registry)
        self.metrics_port = Port("metrics", self.problems, serve)
        shown = ShownNode(self.name, self.session, self._now, lambda: "" if self.is_ready else NOT_READY)
        self.site = StatusSite(shown, Daemon.NODE, self.name, self.config.pool, self.node.web, NODE_WEB, self.problems)

    def _loop(self) -> int:
        try:
            self.loan.end_all()
        except (ProxypoolError, OSError) as error:
            log.warning("%s", error)
        self.blocks = BlockedCounts(("raw",))
        self.dataplane.start()
        self.watch.start()
        self.session.start()
        self.mirror.start()
        self.presence.start()
        self.recorder.start()
        self.membership.probing.start()
        self.membership.leasing.start()
        log.info("node %s on %s: started", self.name, self.registration.underlay)
        self._look_at_ports()
        hurry()
        return run_until_stopped(self._next_message, self._dispatch)

    def _next_message(self) -> Message:
        membership = self.membership
        due: tuple[tuple[float | None, type[SecondPassed | DefenceDue | PublicationDue]], ...] = (
            (membership.next_deadline(), SecondPassed),
            (membership.defence.next_deadline, DefenceDue),
            (membership.publisher.next_deadline, PublicationDue),
        )
        deadline = min((moment for moment, _ in due if moment is not None), default=None)
        while True:
            now = self._look_at_ports()
            left_s = LOOP_BEAT_S if deadline is None else deadline - now
            with suppress(queue.Empty):
                return self.inbox.get(timeout=min(max(0.0, left_s), LOOP_BEAT_S))
            if deadline is not None and time.monotonic() >= deadline:
                return next(kind() for moment, kind in due if moment == deadline)

    def _look_at_ports(self) -> float:
        """Now, of the monotonic clock."""
        now = time.monotonic()
        self.metrics_port.look(now)
        self.site.look(now)
        self.service.goes_round(now)
        return now

    def _dispatch(self, message: Message) -> None:
        now = time.monotonic()
        match message:
            case SnapshotArrived(snapshot):
                self.snapshot = snapshot
                self.listening.follow(snapshot)
                if self.registration.is_registered:
                    self.membership.snapshot_arrived(snapshot, now)
            case CoordinatorMoved(state):
                log.info("ZooKeeper %s", state.value)
                self.membership.coordinator_moved(state, now)
                if state is Coordinator.CONNECTED:
                    self.registration.hasten()
                    self._register(now)
            case Reload():
                self.reloading.reload(self._use_configuration)
                self._register(now)
                self._publish(now)
            case SecondPassed():
                self.metrics.loop.set_to_current_time()
                self.blocked = self.blocks.read()
                self._register(now)
                self.membership.second_passed(now)
                hosts = self.config.zookeeper.hosts
                silence = silence_of(self.session, hosts, self.started_at, "roles stay as they are")
                self.problems.note("zookeeper", silence)
                self._publish(now)
                self.service.say(self._status())
            case KeepalivedSeen():
                problem = None if message.is_up else STOPPED if message.is_stopped else NOT_RUNNING
                self.problems.note("keepalived", problem)
                self.problems.note("real-time", None if message.is_on_time else NOT_ON_TIME)
                self.membership.keepalived_seen(message, now)
            case KeepalivedSynced(_, problem):
                self.problems.note("keepalived-config", problem)
                self.membership.vrrp.synced(message, now)
                if message.is_reloaded:
                    self.metrics.reloads.inc()
            case FifoSpoke() | AddressMoved() | AddressesSeen():
                self._vrrp_spoke(message, now)
            case DefenceDue():
                self.membership.defence.look(now)
            case _:
                self.membership.kernel_spoke(message, now)
        self._tell_others(now)

    def _vrrp_spoke(self, message: FifoSpoke | AddressMoved | AddressesSeen, now: float) -> None:
        match message:
            case FifoSpoke(lines, at):
                self.membership.vrrp.fifo_spoke(lines, at, now)
            case AddressMoved(address, is_here, at):
                self.membership.vrrp.address_moved(address, at, now, is_here=is_here)
                self.membership.neighbourhood.listen()
            case AddressesSeen(addresses):
                self.membership.vrrp.addresses_seen(addresses, now)

    def _tell_others(self, now: float) -> None:
        """First all that packets wait for, then what others read of it."""
        if self.inbox.empty() or now > self._told_at + TELL_WITHIN_S:
            self._told_at = now
            self.membership.publisher.publish_changes(self.membership.members, now)
            self._see_whether_ready(now)

    def _see_whether_ready(self, now: float) -> None:
        """Once: all that was there when the daemon started is known to it."""
        if self.is_ready:
            return
        has_read_all = self.mirror.loaded.is_set() and self.membership.snapshot is self.mirror.snapshot
        if self.registration.is_registered and has_read_all and self.membership.is_adopted:
            self.is_ready = True
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            self.metrics.ready.set(time.time())
            self.service.say(self._status())
            self.service.ready()
            count = len(self.membership.members)
            log.info("ready after %.1f s: member of %d pairs", now - self.started_at, count)

    def _status(self) -> str:
        """For the service manager."""
        members = self.membership.members.values()
        masters = sum(member.state.vrrp is Vrrp.MASTER for member in members)
        what = (
            f"member of {len(members)} pairs, master of {masters}" if self.is_ready else f"starting: {self._unready()}"
        )
        return "; ".join((what, *self.problems))

    def _unready(self) -> str:
        if self.session.state is not Coordinator.CONNECTED:
            return "waiting for ZooKeeper"
        if not self.registration.is_registered:
            return "registering this node"
        return "reading the pool" if not self.mirror.loaded.is_set() else NOT_READY

    def _register(self, now: float) -> None:
        is_new = self.registration.refresh(self.node, now)
        self.problems.note("registration", self.registration.problem)
        if is_new and self.mirror.loaded.is_set():
            self.membership.snapshot_arrived(self.mirror.snapshot, now)

    def _use_configuration(self, config: Config) -> None:
        """What can be changed while we run: see `core.reloading`."""
        if config.node is not None:
            limits = limits_of(config.node)
            self.config, self.node, self.limits = config, config.node, limits
            self.registration.hasten()

    def _publish(self, now: float) -> None:
        self.registration.publish((*self.problems, *self.membership.problems()), self.snapshot, now)

    def _view(self) -> NodeView:
        """For the metrics, on the server's thread: reads values the loop replaces whole."""
        return NodeView(
            members=member_views.views(self.membership.members),
            is_zookeeper_connected=self.session.state is Coordinator.CONNECTED,
            zookeeper_silence_s=time.monotonic() - (self.session.last_seen or self.started_at),
            is_keepalived_up=self.membership.vrrp.keepalived.is_up,
            is_keepalived_config_valid="keepalived-config" not in self.problems,
            malformed_documents=len(self.snapshot.malformed),
            problems=self.problems.topics,
            blocked={"": self.blocked, **member_views.blocked(self.membership.members)},
        )

    def _now(self) -> NodeNow | None:
        """For the status page, on its threads, as `_view`."""
        if self.snapshot.spec is None:
            return None
        own = [(view.pair, view.status) for view in member_views.views(self.membership.members)]
        return NodeNow(
            snapshot=self.snapshot, own=own, alive=msgspec.structs.replace(self.registration.last, at=time.time())
        )

    def _use(self) -> NodeUse:
        """What is used of it, and how much there is; for the metrics."""
        samples = member_views.samples(self.membership.members)
        return NodeUse(self.limits, self.membership.port_sampling.interval_s, samples)

    def _close(self) -> None:
        log.info("node %s: stopping; traffic goes on", self.name)
        self.service.stopping()
        self.site.close()
        self.metrics_port.close()
        self.watch.stop()
        self.dataplane.stop()
        self.membership.tables.stop()
        self.membership.state_sync.stop()
        self.recorder.stop()
        self.listening.close()
        self.loan.close()
        self.membership.probing.stop()
        self.membership.leasing.stop()
        self.mirror.stop()
        self.presence.stop()
        self.session.stop(close_session=False)


def main(config: Config, reread: Callable[[], Config]) -> int:
    """Entry of `proxypool run node`. `reread`: reads the configuration again.

    Raises:
        InvalidInput: the configuration has no [node] section.
        PermanentError: not root, or a node daemon runs on this machine already.
    """
    if config.node is None:
        raise InvalidInput('the configuration has no [node] section: add one with at least `underlay = "eth0"`')
    if os.geteuid() != 0:
        raise PermanentError("the node daemon programs the kernel: run it as root")
    logs.configure(config.log)
    lock = singleton.acquire(Path(config.run_dir), "node")
    try:
        return NodeDaemon(config, config.node, reread).run()
    finally:
        os.close(lock)
