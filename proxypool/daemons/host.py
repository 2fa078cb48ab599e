"""The host agent: registers the function host, and keeps its tunnels, routes and the rewrite of instances' addresses.

Composition root and main loop. Threads as in the node daemon. The agent may be away for as long as it likes: what it
programmed and registered stays.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import time
from ipaddress import IPv4Address
from pathlib import Path

from proxypool import __version__
from proxypool.adapters import netlink
from proxypool.adapters.iptables import TableProbe
from proxypool.adapters.sysctl import read_sysctl
from proxypool.adapters.zookeeper import PoolMirror, PoolSession, Presence
from proxypool.adapters.zookeeper.registry import Registry
from proxypool.adapters.zookeeper.subnet_hosts import join_subnet, leave_subnet
from proxypool.core.addressing import TUNNEL_DEVICE_PREFIX
from proxypool.core.config import HOST_METRICS, Config, HostConfig
from proxypool.core.errors import InvalidInput, PermanentError, ProxypoolError
from proxypool.core.host_scene import HostFacts, Refused, choose_subnets, host_scene
from proxypool.core.model import HostSpec, Snapshot, TunnelKind
from proxypool.core.role import Coordinator
from proxypool.daemons import singleton
from proxypool.daemons.beat import Beat
from proxypool.daemons.dataplane import HOST_SCOPE, Dataplane, Reconciled
from proxypool.daemons.mainloop import run_until_stopped, stop_on_signals
from proxypool.daemons.messages import CoordinatorMoved, Message, SecondPassed, SnapshotArrived
from proxypool.daemons.problems import Problems, silence_of
from proxypool.daemons.underlay import wait_for_underlay
from proxypool.daemons.watcher import Watcher
from proxypool.telemetry import logs
from proxypool.telemetry.metrics import HostMetrics, HostView
from proxypool.telemetry.server import MetricsServer

log = logging.getLogger(__name__)

HOST_TABLES = ("nat", "filter")
RETRY_S = 1.0
REGISTRATION_CHECK_S = 30.0
TICK_S = 1.0
BEAT_S = 60.0
"""Hosts are many: a beat of each is a write to ZooKeeper."""


class HostDaemon:
    """Wires adapters and telemetry together and runs the loop."""

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
        self.served: frozenset[str] = frozenset()
        self.is_ready = False
        self.registered: frozenset[str] | None = None
        """Subnets this host is registered in, as ZooKeeper was last told; None: not told yet."""
        self.refused: tuple[Refused, ...] = ()
        self._registration_due = 0.0
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
        self.listen = self.config.metrics.listen or HOST_METRICS
        self.server: MetricsServer | None = None
        try:
            self.server = MetricsServer(self.listen, self.metrics.registry)
        except ProxypoolError as error:
            self.problems.note("metrics", str(error))

    def _loop(self) -> None:
        self.dataplane.start()
        self.events = netlink.open_event_socket()
        self.probe = TableProbe(HOST_TABLES)
        self.watcher.add(self.events, self._kernel_changed)
        self.watcher.start()
        self.session.start()
        self.mirror.start()
        self.presence.start()
        log.info("host %s on %s: started", self.name, self.underlay.address)
        run_until_stopped(self.inbox.get, self._dispatch)

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
                self.snapshot = snapshot
                self._register(now)
                self._serve()
            case CoordinatorMoved(state):
                log.info("ZooKeeper %s", state.value)
                self._registration_due = now
                self._register(now)
            case SecondPassed():
                self._register(now)
                self._check_machine()
                self._publish(now)
            case Reconciled():
                self._reconciled(message)
            case _:
                return

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
            self._register_subnets()
        except ProxypoolError as error:
            self.problems.note("registration", str(error))
            return
        self.problems.note("registration", None)
        self._registration_due = now + REGISTRATION_CHECK_S
        if address != self.tunnel_address:
            log.info("registered as %s, tunnel address %s", self.name, address)
            self.tunnel_address = address
            self._serve()

    def _register_subnets(self) -> None:
        """Nodes map tunnel addresses of hosts that are registered in a subnet, and of no others."""
        if self.tunnel_address is None:
            return
        stale = {subnet for subnet, hosts in self.snapshot.subnet_hosts.items() if self.name in hosts} - self.served
        for subnet in sorted(stale):
            leave_subnet(self.session, self.name, subnet)
        for subnet in sorted(self.served):
            join_subnet(self.session, self.name, subnet)
        self.registered = self.served

    def _serve(self) -> None:
        """Program what the documents say. Without the pool's spec, or before we have an address, nothing changes."""
        spec = self.snapshot.spec
        if spec is None or self.tunnel_address is None or not self._can_tunnel(spec.tunnel):
            return
        subnets, refused = choose_subnets(self.host.subnets, self.host.instance_cidrs, self.snapshot)
        if refused != self.refused:
            for item in refused:
                log.warning("subnet %s is not served here: %s", item.subnet, item.why)
            self.refused = refused
        facts = HostFacts(
            self.name,
            self.underlay.address,
            self.underlay.mtu,
            self.tunnel_address,
            self.host.instance_cidrs,
            self.host.subnets,
        )
        self.dataplane.want(HOST_SCOPE, host_scene(facts, spec, self.snapshot, subnets))
        self.served = frozenset(subnet.id for subnet in subnets)
        if self.registered != self.served:
            self._registration_due = 0.0
            self._register(time.monotonic())

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
        if not self.is_ready:
            self.is_ready = True
            self.metrics.ready.set(time.time())
            log.info("ready after %.1f s: %d subnets", time.monotonic() - self.started_at, len(self.served))
        self.problems.note("dataplane", "; ".join(result.problems) or None)
        self.events.neighbour_devices = frozenset(
            index for index, name in socket.if_nameindex() if name.startswith(TUNNEL_DEVICE_PREFIX)
        )

    def _check_machine(self) -> None:
        is_forwarding = read_sysctl("ipv4/ip_forward") == "1"
        problem = None if is_forwarding else "this host does not forward: set net.ipv4.ip_forward=1"
        self.problems.note("ip_forward", problem)
        silence = silence_of(self.session, self.config.zookeeper.hosts, self.started_at, "traffic goes on")
        self.problems.note("zookeeper", silence)

    def _publish(self, now: float) -> None:
        if self.tunnel_address is not None:
            refused = (f"subnet {item.subnet} is not served: {item.why}" for item in self.refused)
            self.beat.publish((*self.problems, *refused), self.snapshot, now)

    def _view(self) -> HostView:
        """For the metrics, on the server's thread."""
        return HostView(
            is_zookeeper_connected=self.session.state is Coordinator.CONNECTED,
            zookeeper_silence_s=time.monotonic() - (self.session.last_seen or self.started_at),
            subnets_served=len(self.served),
            subnets_refused=len(self.refused),
            malformed_documents=len(self.snapshot.malformed),
        )

    def _close(self) -> None:
        log.info("host %s: stopping; traffic goes on", self.name)
        self.watcher.stop()
        self.dataplane.stop()
        self.mirror.stop()
        self.presence.stop()
        self.session.stop(close_session=False)
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
