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
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from proxypool.adapters import netlink
from proxypool.adapters.agent import SOCKET_NAME
from proxypool.adapters.iptables import BlockedCounts, TableProbe
from proxypool.adapters.sysctl import read_sysctl
from proxypool.core.addressing import TUNNEL_DEVICE_PREFIX
from proxypool.core.config import HOST_METRICS, Config, HostConfig
from proxypool.core.discovery import Daemon
from proxypool.core.errors import InvalidInput, PermanentError, ProxypoolError
from proxypool.core.host_firewall import HAVIPS_SET, PLATFORM_SET
from proxypool.core.host_scene import HostFacts
from proxypool.core.model import Snapshot, TunnelKind
from proxypool.core.remembering import with_remembered
from proxypool.core.scene import Scene
from proxypool.daemons import singleton
from proxypool.daemons.api_server import ApiServer
from proxypool.daemons.dataplane import HOST_SCOPE, Reconciled
from proxypool.daemons.doors import metrics_server
from proxypool.daemons.host_parts import compose
from proxypool.daemons.mainloop import Reload, run_until_stopped, stop_on_signals
from proxypool.daemons.messages import (
    CoordinatorMoved,
    GroupsWanted,
    HavipsAsked,
    MachineSeen,
    Message,
    SecondPassed,
    SnapshotArrived,
    SubnetJoined,
)
from proxypool.daemons.port import Port
from proxypool.daemons.problems import Problems, silence_of
from proxypool.daemons.reloading import Reloading
from proxypool.daemons.service import Service
from proxypool.daemons.underlay import coordinators_of, wait_for_underlay
from proxypool.daemons.watcher import Watcher
from proxypool.telemetry import logs

log = logging.getLogger(__name__)

HOST_TABLES = ("mangle", "filter", "nat", "raw")
BLOCKING_TABLES = ("mangle", "filter")
TICK_S = 1.0
REMEMBER_AFTER_S = 3.0
"""Without ZooKeeper for so long after a restart, the agent begins with what it last knew."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from an attach that waits for it; Python's default is ten times that."""


class HostDaemon:
    """Wires adapters, steering and telemetry together and runs the loop."""

    def __init__(self, config: Config, host: HostConfig, reread: Callable[[], Config]) -> None:
        """Nothing is started. `reread`: reads the configuration again."""
        self.config, self.host, self._reread = config, host, reread
        self.name = host.name or socket.gethostname()
        self.run_dir = Path(config.run_dir)
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.started_at = time.monotonic()
        self.snapshot: Snapshot | None = None
        """The pool as ZooKeeper has it; None: not read yet."""
        self.problems = Problems()
        self.has_attachments = False
        """Whether the file was read: before that nothing is programmed, as everybody would be cut off."""
        self.api_server: ApiServer | None = None
        self._probed: TunnelKind | None = None
        self._predecessors: Snapshot | None = None
        """What was known of the pool before the start; None: not looked at."""
        self.service = Service.of_this_process(Daemon.HOST, config.zookeeper.session_timeout_s)
        self.coordinators: tuple[IPv4Address, ...] = ()

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Kernel state and registration are left as they are."""
        stop_on_signals(self.inbox)
        underlay = wait_for_underlay(self.host.underlay, self.inbox, self.service)
        if underlay is None:
            return 0
        found = coordinators_of(self.config.zookeeper.hosts)
        self.coordinators = tuple(sorted({address for address, _ in found}))
        self.parts = compose(self.config, self.host, self.name, underlay, self.problems, self.inbox.put)
        self.reloading = Reloading(
            Daemon.HOST, self.config, self._reread, self.problems, self.parts.metrics, self.service
        )
        serve = metrics_server(self.config.metrics, HOST_METRICS, self.parts.metrics.registry)
        self.metrics_port = Port("metrics", self.problems, serve)
        self.watcher = Watcher(TICK_S, self._tick)
        try:
            return self._loop()
        finally:
            self._close()

    def _loop(self) -> int:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.metrics_port.look(time.monotonic())
        self._load_attachments()
        self.parts.dataplane.submit(self._look_at_machine)
        self.events = netlink.open_event_socket()
        self.probe = TableProbe(HOST_TABLES)
        self.blocks = BlockedCounts(BLOCKING_TABLES)
        self.set_probes = [netlink.SetProbe(name) for name in (HAVIPS_SET, PLATFORM_SET)]
        self.watcher.add(self.events, self._kernel_changed)
        self.watcher.start()
        self.parts.start()
        self._serve_api()
        log.info("host %s on %s: started", self.name, self.parts.underlay.address)
        return run_until_stopped(self._next_message, self._dispatch)

    def _load_attachments(self) -> None:
        if self.has_attachments:
            return
        try:
            for sentence in self.parts.attachments.load(self.host.instance_cidrs):
                log.warning("%s", sentence)
        except ProxypoolError as error:
            self.problems.note("attachments", str(error))
            return
        self.has_attachments = True

    def _serve_api(self) -> None:
        if self.api_server is not None and self.api_server.is_reachable():
            return
        if self.api_server is not None:
            log.warning("somebody removed the local API's socket; making it again")
            self.api_server.close()
            self.api_server = None
        try:
            group, users = self.host.api_group, self.host.api_users
            self.api_server = ApiServer(self.run_dir / SOCKET_NAME, self.parts.api, group, users)
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
            self.parts.dataplane.touch(HOST_SCOPE)

    def _tick(self) -> None:
        probes: list[TableProbe | netlink.SetProbe] = [self.probe, *self.set_probes]
        for probe in probes:
            if probe.has_changed():
                probe.remember()
                self.parts.dataplane.touch(HOST_SCOPE)
        self.inbox.put(SecondPassed())

    # ---- on the main loop ----------------------------------------------------------------------------------------

    def _next_message(self) -> Message:
        """One comes every second at least, from the watch."""
        self.service.goes_round(time.monotonic())
        return self.inbox.get()

    def _dispatch(self, message: Message) -> None:
        now = time.monotonic()
        match message:
            case SnapshotArrived(snapshot):
                self.snapshot = self.parts.steerer.snapshot = with_remembered(snapshot, self._before_start(snapshot))
                self.parts.steerer.is_remembered = False
                self._register(now)
                self._serve(now)
            case CoordinatorMoved(state):
                log.info("ZooKeeper %s", state.value)
                self.parts.registration.hasten()
                self._register(now)
            case MachineSeen(scene):
                self.parts.steerer.found = scene
                self._remember(now)
                self._serve(now)
            case GroupsWanted():
                self._serve(now)
            case HavipsAsked(silent, proven):
                self.parts.steerer.silent, self.parts.steerer.proven = silent, proven
                self._serve(now)
            case SubnetJoined(subnet):
                self.parts.steerer.joined(subnet)
            case Reload():
                if self.reloading.reload(self._use_configuration):
                    self._serve(now)
            case SecondPassed():
                self._second_passed(now)
            case Reconciled():
                self._reconciled(message)
            case _:
                return

    def _before_start(self, snapshot: Snapshot) -> Snapshot | None:
        """What the file of a predecessor tells; looked at only if something cannot be read."""
        if not snapshot.unread_subnets:
            return None
        if self._predecessors is None:
            known = self.parts.cache.load()
            self._predecessors = known.snapshot if known is not None else Snapshot()
        return self._predecessors

    def _use_configuration(self, config: Config) -> None:
        """What can be changed while we run: see `core.reloading`."""
        if config.host is not None:
            self.config, self.host = config, config.host
            self.parts.open_cidrs.configure(config.host.open_cidrs)
            self.parts.steerer.served, self.parts.steerer.linger_s = config.host.subnets, config.host.linger_s

    def _second_passed(self, now: float) -> None:
        self.parts.metrics.loop.set_to_current_time()
        self.parts.report.blocked = self.blocks.read()
        self._load_attachments()
        self._register(now)
        is_remembered = self._remember(now)
        if self.parts.open_cidrs.refresh() or is_remembered:
            self._serve(now)
        self.problems.note("ip-masq-agent", self.parts.open_cidrs.problem)
        self.parts.steerer.second_passed(now)
        self._mend_set(now)
        self._serve_api()
        self._keep_files()
        self._check_machine()
        self.metrics_port.look(now)
        if self.snapshot is not None:
            count = self.parts.attachments.count()
            self.parts.registration.publish(self.parts.report.findings(), self.snapshot, count, now)
        self.service.say(self.parts.report.sentence())

    def _register(self, now: float) -> None:
        spec = self.snapshot.spec if self.snapshot is not None else None
        if self.parts.registration.refresh(spec, now):
            self._serve(now)
        self.problems.note("registration", self.parts.registration.problem)

    def _serve(self, now: float) -> None:
        """Program what the documents say. Without the pool's spec, or before we have an address, nothing changes."""
        spec, address = self.parts.steerer.snapshot.spec, self.parts.registration.address
        if spec is None or address is None or not self.has_attachments:
            return
        self.parts.steerer.is_held = not self._can_tunnel(spec.tunnel)
        if self.parts.steerer.is_held:
            return
        self.parts.steerer.facts = HostFacts(
            self.name,
            self.parts.underlay.address,
            self.parts.underlay.mtu,
            address,
            self.host.instance_cidrs,
            self.parts.marks,
            self.parts.open_cidrs.value,
            masquerades=self.parts.open_cidrs.masquerades,
            coordinators=self.coordinators,
            new_connections_per_s=self.host.new_connections_per_s_per_instance,
        )
        self.parts.steerer.refresh(now)

    def _remember(self, now: float) -> bool:
        """Begin with what was known before the start: when ZooKeeper is away, and after a boot at once, so that nothing
        is unguarded until ZooKeeper has answered. What a pair is by now, nobody can tell; so none is taken for dead.
        Whether there is something to serve now.
        """
        if self.snapshot is not None or self.parts.steerer.is_remembered or self.parts.steerer.found is None:
            return False
        is_after_boot = not self.parts.steerer.found.objects
        if not is_after_boot and now < self.started_at + REMEMBER_AFTER_S:
            return False
        known = self.parts.cache.load()
        if known is None:
            return False
        log.info("beginning with what was known of the pool before")
        self.parts.steerer.snapshot, self.parts.steerer.is_remembered = known.snapshot, True
        self.parts.registration.address = known.tunnel_address
        return True

    def _keep_files(self) -> None:
        if not self.has_attachments:
            return
        try:
            self.parts.attachments.sync_log()
            if self.snapshot is not None and self.parts.registration.address is not None:
                self.parts.cache.save(self.snapshot, self.parts.registration.address, self.parts.steerer.subnets_in_use)
            self.problems.note("attachments", None)
        except ProxypoolError as error:
            self.problems.note("attachments", str(error))

    def _mend_set(self, now: float) -> None:
        """ipsets send no notifications."""
        if not self.parts.steerer.is_programmed:
            return
        try:
            if not self.parts.attachments.is_intact(now):
                wrong = self.parts.attachments.repair()
                log.warning("repaired drift: %d entries of the set of attached instances", wrong)
                self.parts.metrics.repaired(HOST_SCOPE)
            self.problems.note("attached-set", self.parts.steerer.problem)
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
        self.parts.metrics.reconciled(
            result.scope,
            ok=not result.problems,
            is_repair=result.is_repair,
            operations=result.operations,
            duration_s=result.duration_s,
            now=time.time(),
        )
        self.parts.steerer.reconciled(result)
        if result.is_repair and not result.problems:
            self.parts.steerer.repaired()
        if not self.parts.report.is_ready and self.parts.steerer.is_programmed:
            self._become_ready()
        self.problems.note("dataplane", "; ".join(result.problems) or None)
        self.events.follow_neighbours(TUNNEL_DEVICE_PREFIX)

    def _become_ready(self) -> None:
        """What a predecessor's set holds is compared once, whatever its size."""
        self.parts.report.is_ready = True
        self.parts.metrics.ready.set(time.time())
        self.service.say(self.parts.report.sentence())
        self.service.ready()
        try:
            wrong = self.parts.attachments.repair()
        except ProxypoolError as error:
            self.problems.note("attached-set", str(error))
            wrong = 0
        log.info(
            "ready after %.1f s: %d subnets, %d attachments; %d entries of the set were others",
            time.monotonic() - self.started_at,
            len(self.parts.steerer.subnets_in_use),
            self.parts.attachments.count(),
            wrong,
        )

    def _check_machine(self) -> None:
        is_forwarding = read_sysctl("ipv4/ip_forward") == "1"
        problem = None if is_forwarding else "this host does not forward: set net.ipv4.ip_forward=1"
        self.problems.note("ip_forward", problem)
        is_strict = read_sysctl("netfilter/nf_conntrack_tcp_loose") == "0"
        problem = (
            "connections that are cut will hang: set net.netfilter.nf_conntrack_tcp_loose=1" if is_strict else None
        )
        self.problems.note("tcp_loose", problem)
        silence = silence_of(self.parts.session, self.config.zookeeper.hosts, self.started_at, "traffic goes on")
        self.problems.note("zookeeper", silence)

    def _close(self) -> None:
        log.info("host %s: stopping; traffic goes on", self.name)
        self.service.stopping()
        if self.api_server is not None:
            self.api_server.close()
        self.watcher.stop()
        self.parts.stop()
        self.metrics_port.close()


def main(config: Config, reread: Callable[[], Config]) -> int:
    """Entry of `proxypool run host`. `reread`: reads the configuration again.

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
        return HostDaemon(config, config.host, reread).run()
    finally:
        os.close(lock)
