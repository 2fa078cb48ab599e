"""The host agent: registers the function host, attaches its instances, and keeps tunnels, routes and rules.

Composition root and main loop. Threads: this loop (decides), `watcher` and `dataplane` as in the node daemon,
`registrar` (tells ZooKeeper which subnets are in use), `pair-watch` (asks the HaVips), `api` and one for each of its
connections.
The agent may be away for as long as it likes: what it programmed and registered stays.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from proxypool import __version__
from proxypool.adapters import netlink
from proxypool.adapters.agent import SOCKET_NAME
from proxypool.adapters.attachment_log import AttachmentLog
from proxypool.adapters.conntrack import Conntrack
from proxypool.adapters.ip_masq_agent import read_non_masquerade_cidrs
from proxypool.adapters.iptables import TableProbe
from proxypool.adapters.sysctl import read_sysctl
from proxypool.adapters.zookeeper import PoolMirror, PoolSession, Presence
from proxypool.adapters.zookeeper.registry import Registry
from proxypool.core.addressing import TUNNEL_DEVICE_PREFIX
from proxypool.core.config import HOST_METRICS, Config, HostConfig
from proxypool.core.errors import InvalidInput, PermanentError, ProxypoolError
from proxypool.core.host_firewall import ATTACHED_SET
from proxypool.core.host_scene import HostFacts
from proxypool.core.model import HostSpec, Snapshot, TunnelKind
from proxypool.core.role import Coordinator
from proxypool.core.scene import Scene
from proxypool.core.steering import MarkLayout
from proxypool.daemons import singleton
from proxypool.daemons.api_server import ApiServer
from proxypool.daemons.attachments import Attachments
from proxypool.daemons.beat import Beat
from proxypool.daemons.dataplane import HOST_SCOPE, Dataplane, Reconciled
from proxypool.daemons.host_api import HostApi
from proxypool.daemons.mainloop import run_until_stopped, stop_on_signals
from proxypool.daemons.messages import (
    CoordinatorMoved,
    GroupsWanted,
    HavipsSilent,
    MachineSeen,
    Message,
    SecondPassed,
    SnapshotArrived,
    SubnetJoined,
)
from proxypool.daemons.pair_watch import PairWatch
from proxypool.daemons.problems import Problems, silence_of
from proxypool.daemons.registrar import Registrar
from proxypool.daemons.steerer import Steerer
from proxypool.daemons.underlay import wait_for_underlay
from proxypool.daemons.watcher import Watcher
from proxypool.telemetry import logs
from proxypool.telemetry.metrics import HostMetrics, HostView
from proxypool.telemetry.server import MetricsServer

log = logging.getLogger(__name__)

HOST_TABLES = ("mangle", "filter", "nat")
RETRY_S = 1.0
REGISTRATION_CHECK_S = 30.0
TICK_S = 1.0
BEAT_S = 60.0
"""Hosts are many: a beat of each is a write to ZooKeeper."""
MASQ_AGENT_CHECK_S = 60.0
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from an attach that waits for it; Python's default is ten times that."""


class HostDaemon:
    """Wires adapters, steering and telemetry together and runs the loop."""

    def __init__(self, config: Config, host: HostConfig) -> None:
        """Nothing is started."""
        self.config, self.host = config, host
        self.name = host.name or socket.gethostname()
        self.run_dir = Path(config.run_dir)
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.started_at = time.monotonic()
        self.snapshot = Snapshot()
        self.problems = Problems()
        self.tunnel_address: IPv4Address | None = None
        self.open_cidrs = host.open_cidrs
        self.is_ready = False
        self._registration_due = self._masq_agent_due = 0.0
        self._probed: TunnelKind | None = None

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Kernel state and registration are left as they are."""
        stop_on_signals(self.inbox)
        underlay = wait_for_underlay(self.host.underlay, self.inbox)
        if underlay is None:
            return 0
        self.underlay = underlay
        self._compose()
        try:
            self._loop()
        finally:
            self._close()
        return 0

    def _compose(self) -> None:
        self.session = PoolSession(
            self.config.zookeeper,
            self.config.pool,
            session_file=self.run_dir / "host.session",
            identity=f"host:{self.name}",
            on_state=lambda state: self.inbox.put(CoordinatorMoved(state)),
        )
        self.registry = Registry(self.session)
        self.presence = Presence(self.session)
        self.beat = Beat(self.presence, f"hosts/{self.name}/alive", self.underlay.address, BEAT_S)
        self.mirror = PoolMirror(self.session, lambda snapshot: self.inbox.put(SnapshotArrived(snapshot)))
        self.metrics = HostMetrics(self._view)
        self.dataplane = Dataplane(on_result=self.inbox.put)
        self.watcher = Watcher(TICK_S, self._tick)
        self._compose_steering()
        self.listen = self.config.metrics.listen or HOST_METRICS
        self.server: MetricsServer | None = None
        try:
            self.server = MetricsServer(self.listen, self.metrics.registry)
        except ProxypoolError as error:
            self.problems.note("metrics", str(error))

    def _compose_steering(self) -> None:
        self.marks = MarkLayout(self.host.mark_shift)
        kept = AttachmentLog(Path(self.host.state_dir) / f"attachments-{self.config.pool}.jsonl")
        self.attachments = Attachments(kept, self.marks, lambda: self.inbox.put(GroupsWanted()))
        self.attachments.use(netlink.MarkedSetHandle(ATTACHED_SET, self.marks.mask))
        self.registrar = Registrar(self.session, self.name, lambda subnet: self.inbox.put(SubnetJoined(subnet)))
        self.pair_watch = PairWatch(
            self.host.probe_interval_ms / 1000, lambda silent: self.inbox.put(HavipsSilent(silent))
        )
        self.steerer = Steerer(
            served=self.host.subnets,
            attaches_all=self.host.attach_all,
            linger_s=self.host.linger_s,
            dataplane=self.dataplane,
            attachments=self.attachments,
            registrar=self.registrar,
            pair_watch=self.pair_watch,
            conntrack=Conntrack(),
            is_connected=lambda: self.session.state is Coordinator.CONNECTED,
        )
        self.api = HostApi(self.attachments, self._describe, self.metrics.attach_answered)
        self.api_server: ApiServer | None = None

    def _loop(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._load_attachments()
        self.dataplane.start()
        self.dataplane.submit(self._look_at_machine)
        self.events = netlink.open_event_socket()
        self.probe = TableProbe(HOST_TABLES)
        self.watcher.add(self.events, self._kernel_changed)
        self.watcher.start()
        self.session.start()
        self.mirror.start()
        self.presence.start()
        self.registrar.start()
        self.pair_watch.start()
        self._serve_api()
        log.info("host %s on %s: started", self.name, self.underlay.address)
        run_until_stopped(self.inbox.get, self._dispatch)

    def _load_attachments(self) -> None:
        """Before anything is programmed: what is not known to be attached would be cut off."""
        for sentence in self.attachments.load(self.host.instance_cidrs):
            log.warning("%s", sentence)

    def _serve_api(self) -> None:
        if self.api_server is not None and self.api_server.is_reachable():
            return
        if self.api_server is not None:
            log.warning("somebody removed the local API's socket; making it again")
            self.api_server.close()
            self.api_server = None
        try:
            self.api_server = ApiServer(self.run_dir / SOCKET_NAME, self.api, self.host.api_group)
            self.problems.note("api", None)
        except ProxypoolError as error:
            self.problems.note("api", str(error))

    # ---- on the dataplane thread ---------------------------------------------------------------------------------

    def _look_at_machine(self) -> None:
        """What a predecessor left: its numbers are in the connections' marks."""
        with netlink.View("this machine") as view:
            self.inbox.put(MachineSeen(Scene(None, view.objects(Scene(None)))))

    # ---- on the watch thread -------------------------------------------------------------------------------------

    def _kernel_changed(self) -> None:
        if self.events.drain():
            self.dataplane.touch(HOST_SCOPE)

    def _tick(self) -> None:
        if self.probe.has_changed():
            self.probe.remember()
            self.dataplane.touch(HOST_SCOPE)
        self.inbox.put(SecondPassed())

    # ---- on the main loop ----------------------------------------------------------------------------------------

    def _dispatch(self, message: Message) -> None:
        now = time.monotonic()
        match message:
            case SnapshotArrived(snapshot):
                self.snapshot = self.steerer.snapshot = snapshot
                self._register(now)
                self._serve(now)
            case CoordinatorMoved(state):
                log.info("ZooKeeper %s", state.value)
                self._registration_due = now
                self._register(now)
            case MachineSeen(scene):
                self.steerer.found = scene
                self._serve(now)
            case GroupsWanted():
                self._serve(now)
            case HavipsSilent(havips):
                self.steerer.silent = havips
                self._serve(now)
            case SubnetJoined(subnet):
                self.steerer.joined(subnet)
            case SecondPassed():
                self._second_passed(now)
            case Reconciled():
                self._reconciled(message)
            case _:
                return

    def _second_passed(self, now: float) -> None:
        self._register(now)
        self._read_masq_agent(now)
        self.steerer.second_passed(now)
        self._mend_set(now)
        self._serve_api()
        try:
            self.attachments.sync_log()
            self.problems.note("attachments", None)
        except ProxypoolError as error:
            self.problems.note("attachments", str(error))
        self._check_machine()
        self._publish(now)

    def _register(self, now: float) -> None:
        """Get our tunnel address and tell the pool who we are; again from time to time, should somebody remove it."""
        spec = self.snapshot.spec
        if self.session.state is not Coordinator.CONNECTED or now < self._registration_due or spec is None:
            return
        self._registration_due = now + RETRY_S
        try:
            address = self.registry.allocate_tunnel_address(self.name, spec.tunnel_range)
            self.registry.register_host(
                HostSpec(
                    id=self.name,
                    underlay=self.underlay.address,
                    tunnel_address=address,
                    metrics=self.listen.replace("0.0.0.0", str(self.underlay.address)),  # noqa: S104 - only read
                    version=__version__,
                ),
                self.beat.alive,
            )
        except ProxypoolError as error:
            self.problems.note("registration", str(error))
            return
        self.problems.note("registration", None)
        self._registration_due = now + REGISTRATION_CHECK_S
        if address != self.tunnel_address:
            log.info("registered as %s, tunnel address %s", self.name, address)
            self.tunnel_address = address
            self._serve(now)

    def _serve(self, now: float) -> None:
        """Program what the documents say. Without the pool's spec, or before we have an address, nothing changes."""
        spec = self.snapshot.spec
        if spec is None or self.tunnel_address is None or not self._can_tunnel(spec.tunnel):
            return
        self.steerer.facts = HostFacts(
            self.name,
            self.underlay.address,
            self.underlay.mtu,
            self.tunnel_address,
            self.host.instance_cidrs,
            self.marks,
            self.open_cidrs,
            masquerades=self.host.ip_masq_agent is not None,
        )
        self.steerer.refresh(now)

    def _read_masq_agent(self, now: float) -> None:
        """An ip-masq-agent reads its configuration every minute, and so do we in its place."""
        path = self.host.ip_masq_agent
        if path is None or now < self._masq_agent_due:
            return
        self._masq_agent_due = now + MASQ_AGENT_CHECK_S
        try:
            found = read_non_masquerade_cidrs(Path(path))
        except ProxypoolError as error:
            self.problems.note("ip-masq-agent", str(error))
            return
        self.problems.note("ip-masq-agent", None)
        both = tuple(sorted({*self.host.open_cidrs, *found}))
        if both != self.open_cidrs:
            self.open_cidrs = both
            self._serve(now)

    def _mend_set(self, now: float) -> None:
        """ipsets send no notifications."""
        if not self.steerer.is_programmed:
            return
        try:
            if not self.attachments.is_intact(now):
                wrong = self.attachments.repair()
                log.warning("repaired drift: %d entries of the set of attached instances", wrong)
                self.metrics.repairs.labels(HOST_SCOPE).inc()
            self.problems.note("attached-set", self.steerer.problem)
        except ProxypoolError as error:
            self.problems.note("attached-set", str(error))

    def _can_tunnel(self, kind: TunnelKind) -> bool:
        if self._probed is not kind:
            self._probed = kind
            try:
                netlink.probe_tunnel(kind)
                self.problems.note("tunnel", None)
            except ProxypoolError as error:
                self.problems.note("tunnel", str(error))
        return "tunnel" not in self.problems

    def _reconciled(self, result: Reconciled) -> None:
        self.metrics.reconciled(
            result.scope,
            ok=not result.problems,
            is_repair=result.is_repair,
            operations=result.operations,
            duration_s=result.duration_s,
            now=time.time(),
        )
        self.steerer.reconciled(result)
        if not self.is_ready and self.steerer.is_programmed:
            self._become_ready()
        self.problems.note("dataplane", "; ".join(result.problems) or None)
        self.events.neighbour_devices = frozenset(
            index for index, name in socket.if_nameindex() if name.startswith(TUNNEL_DEVICE_PREFIX)
        )

    def _become_ready(self) -> None:
        """What a predecessor's set holds is compared once, whatever its size."""
        self.is_ready = True
        self.metrics.ready.set(time.time())
        try:
            wrong = self.attachments.repair()
        except ProxypoolError as error:
            self.problems.note("attached-set", str(error))
            wrong = 0
        log.info(
            "ready after %.1f s: %d subnets, %d attachments; %d entries of the set were others",
            time.monotonic() - self.started_at,
            len(self.steerer.subnets_in_use),
            self.attachments.count(),
            wrong,
        )

    def _check_machine(self) -> None:
        is_forwarding = read_sysctl("ipv4/ip_forward") == "1"
        problem = None if is_forwarding else "this host does not forward: set net.ipv4.ip_forward=1"
        self.problems.note("ip_forward", problem)
        silence = silence_of(self.session, self.config.zookeeper.hosts, self.started_at, "traffic goes on")
        self.problems.note("zookeeper", silence)

    def _publish(self, now: float) -> None:
        if self.tunnel_address is not None:
            self.beat.publish((*self.problems, *self._findings()), self.snapshot, now)

    def _findings(self) -> Iterator[str]:
        """What is wrong with single subnets."""
        for name, why in sorted(self.steerer.refused.items()):
            yield f"subnet {name} is not served to all instances: {why}"
        for name in self.steerer.unknown_subnets:
            yield f"subnet {name} of this host's configuration: the pool has no such subnet"
        for name in sorted(self.attachments.unknown_subnets()):
            yield f"instances are attached to subnet {name}, which the pool does not have: detach them"
        for group in self.steerer.book.crowded if self.steerer.book is not None else ():
            yield f"subnet {', '.join(group)}: too many pairs or ways of sharing; some get no new connections"
        if self.registrar.problem is not None and "zookeeper" not in self.problems:
            yield self.registrar.problem

    def _describe(self) -> dict[str, object]:
        """For the local API, on its threads: reads values that the loop replaces whole."""
        return {
            "host": self.name,
            "ready": self.is_ready,
            "zookeeper": self.session.state.value,
            "tunnelAddress": str(self.tunnel_address) if self.tunnel_address else None,
            "subnets": sorted(self.steerer.subnets_in_use),
            "problems": [*self.problems, *self._findings()],
        }

    def _view(self) -> HostView:
        """For the metrics, on the server's thread."""
        book = self.steerer.book
        return HostView(
            is_zookeeper_connected=self.session.state is Coordinator.CONNECTED,
            zookeeper_silence_s=time.monotonic() - (self.session.last_seen or self.started_at),
            subnets_served=len(self.steerer.subnets_in_use),
            subnets_refused=len(self.steerer.refused),
            malformed_documents=len(self.snapshot.malformed),
            attachments=self.attachments.count(),
            paths=len(book.paths) if book is not None else 0,
            retired_paths=len(book.retired()) if book is not None else 0,
            havips_silent=len(self.steerer.silent),
            havips_dead=len(self.steerer.dead),
            connections_cut=self.steerer.cuts,
        )

    def _close(self) -> None:
        log.info("host %s: stopping; traffic goes on", self.name)
        if self.api_server is not None:
            self.api_server.close()
        self.watcher.stop()
        self.pair_watch.stop()
        self.registrar.stop()
        self.dataplane.stop()
        self.mirror.stop()
        self.presence.stop()
        self.session.stop(close_session=False)
        self.attachments.close()
        if self.server is not None:
            self.server.close()


def main(config: Config) -> int:
    """Entry of `proxypool run host`.

    Raises:
        InvalidInput: the configuration has no [host] section.
        PermanentError: not root, or a daemon runs on this machine already.
    """
    if config.host is None:
        raise InvalidInput(
            "the configuration has no [host] section: add one with at least "
            '`underlay = "eth0"` and `instance_cidrs = ["10.244.1.0/24"]`'
        )
    if os.geteuid() != 0:
        raise PermanentError("the host agent programs the kernel: run it as root")
    logs.configure(config.log)
    lock = singleton.acquire(Path(config.run_dir), "host")
    try:
        return HostDaemon(config, config.host).run()
    finally:
        os.close(lock)
