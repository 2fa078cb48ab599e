"""What the node daemon waits for: the fifo, the underlay's addresses, each subnet's namespace, keepalived.

Runs on the watch thread, posts messages and touches scopes; decides nothing. Handles into namespaces are opened on the
dataplane thread, which alone may enter them.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from proxypool.adapters import netlink
from proxypool.adapters.announcer import Announcer
from proxypool.adapters.counters import DeviceCounters, NamespaceCounters
from proxypool.adapters.gate import Gate
from proxypool.adapters.iptables import TableProbe
from proxypool.adapters.keepalived import Keepalived, NotifyFifo, make_real_time
from proxypool.core.addressing import ENI_DEVICE, TUNNEL_DEVICE_PREFIX, namespace_of, tunnel_device_of
from proxypool.core.errors import ProxypoolError
from proxypool.core.firewall import LEASE_SET, NODES_SET, PEERS_SET
from proxypool.core.keepalived import STARTED_AFTER_S, STARTUP_DELAY_S, fifo_path, gate_lock
from proxypool.core.model import PoolSpec
from proxypool.daemons.claims import Claims
from proxypool.daemons.dataplane import NODE_SCOPE, Dataplane
from proxypool.daemons.haste import Haste
from proxypool.daemons.hearing import Asker, Hearing
from proxypool.daemons.messages import (
    AddressesSeen,
    AddressMoved,
    FifoSpoke,
    GateTouched,
    Handles,
    KeepalivedFilesTouched,
    KeepalivedSeen,
    LinksSeen,
    Message,
    NamespaceGone,
    NamespaceOpened,
    PeerHeard,
    SecondPassed,
)
from proxypool.daemons.watcher import Watcher

log = logging.getLogger(__name__)
TICK_S = 0.1
FULL_LOOK_S = 1.0
IPPROTO_VRRP = 112
SUBNET_TABLES = ("filter", "nat")


class NodeWatch:
    """The watch of a node."""

    def __init__(
        self,
        post: Callable[[Message], None],
        dataplane: Dataplane,
        underlay: str,
        run_dir: Path,
        keepalived: Keepalived,
        *,
        needs_real_time: bool = False,
    ) -> None:
        """Nothing is opened before `start`. `needs_real_time`: keepalived's VRRP process is given that scheduling."""
        self._needs_real_time = needs_real_time
        self._post, self._dataplane, self._underlay, self._keepalived = post, dataplane, underlay, keepalived
        self._run_dir = str(run_dir)
        self._fifo_path = fifo_path(self._run_dir)
        self._fifo: NotifyFifo | None = None
        self._handles: dict[str, Handles] = {}
        self._inodes: dict[str, int | None] = {}
        """Which namespace the handles lead into."""
        self._down: dict[str, frozenset[str]] = {}
        self.tunnel_range = PoolSpec().tunnel_range
        """The pool's, set before a namespace is ready."""
        self._watcher = Watcher(TICK_S, self._tick, is_urgent=True)
        self._haste = Haste()
        self._seen: KeepalivedSeen | None = None
        self._file_traces: tuple[tuple[str, int, int, int], ...] = ()
        self._vrrp: socket.socket | None = None
        self.claims = Claims(underlay, post)
        self._is_root_dirty = self._is_scope_dirty = False
        self._full_look_at = 0.0
        self.neighbours: tuple[IPv4Address, ...] = ()
        """Machines of the pool on the underlay; replaced whole, by another thread."""

    def start(self) -> None:
        """Look at everything once, in the order in which the answers are needed, then watch. Called on the main loop's
        thread.
        """
        self._root_events = netlink.open_event_socket("link", "ipv4_ifaddr")
        self._root_probe = TableProbe(("raw",))
        self._set_probes = [netlink.SetProbe(name) for name in (PEERS_SET, NODES_SET)]
        self._see_addresses()
        self._open_fifo()
        self._see_keepalived()
        counters = DeviceCounters(self._underlay)
        self.hearing = Hearing(lambda: _received(counters), Asker().ask, self._post, self.neighbours)
        self._watcher.add(self._root_events, self._root_changed)
        self._addresses = netlink.AddressEvents(self._underlay)
        self._watcher.add(self._addresses, self._addresses_moved)
        self.claims.open(self._watcher)
        self._watcher.start()
        self._haste.threads = (threading.get_native_id(), self._watcher.native_id)

    def stop(self) -> None:
        """End the thread and close what is open; the namespaces stay."""
        self._watcher.stop()

    # ---- the machine's own namespace -----------------------------------------------------------------------------

    def _open_fifo(self) -> None:
        try:
            self._fifo = NotifyFifo(self._fifo_path)
        except ProxypoolError as error:
            log.error("%s", error)
            return
        self._watcher.add(self._fifo, self._read_fifo)

    def _read_fifo(self) -> None:
        if self._fifo is not None:
            lines = tuple(self._fifo.lines())
            if lines:
                self._post(FifoSpoke(lines, time.monotonic()))

    def _root_changed(self) -> None:
        """Looked at on the next tick: moved cards cause bursts of notifications, and nothing waits for this."""
        if self._root_events.drain():
            self._is_root_dirty = True

    def _addresses_moved(self) -> None:
        """keepalived adds the HaVip, announces it, and then writes to the fifo: this is the first of the three."""
        now = time.monotonic()
        for address, is_here in self._addresses.changes():
            self._haste.moved(now)
            self._post(AddressMoved(address, is_here, now))

    def _see_addresses(self) -> None:
        try:
            self._post(AddressesSeen(netlink.local_addresses(self._underlay)))
        except ProxypoolError as error:
            log.warning("%s", error)

    def _see_keepalived(self) -> None:
        process = self._keepalived.process
        pid, is_stopped = process.pid(), process.is_stopped()
        vrrp = process.vrrp_process(self._fifo_path)
        is_on_time = not self._needs_real_time or vrrp is None or make_real_time(vrrp)
        age_s = process.age_s()
        is_starting = age_s is not None and age_s < STARTED_AFTER_S
        seen = KeepalivedSeen(pid, pid is not None and vrrp is not None, is_on_time, is_stopped, is_starting)
        if seen != self._seen:
            self._seen = seen
            self._post(seen)

    def _has_keepalived_changed(self, seen: KeepalivedSeen) -> bool:
        """Whether it ended, began, or was stopped: some 0.1 ms, because a dead one must not keep a HaVip for long."""
        process = self._keepalived.process
        return (process.pid(), process.is_stopped()) != (seen.pid, seen.is_stopped)

    def is_advertising(self) -> bool:
        """Whether keepalived runs, was not stopped, and has not just begun. Asked when it matters: what was last posted
        may be a tenth of a second old.
        """
        process = self._keepalived.process
        age_s = process.age_s()
        return age_s is not None and age_s > STARTUP_DELAY_S and not process.is_stopped()

    def listen_for_peers(self, is_wanted: bool) -> None:  # noqa: FBT001 - says what is wanted
        """Hear the other members' advertisements, only while somebody waits for them: they are many."""
        if is_wanted and self._vrrp is None:
            self._vrrp = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, IPPROTO_VRRP)
            self._vrrp.setblocking(False)
            self._watcher.add(self._vrrp, self._hear)
        elif not is_wanted and self._vrrp is not None:
            self._watcher.remove(self._vrrp)
            self._vrrp.close()
            self._vrrp = None

    def _hear(self) -> None:
        heard, masters = set[IPv4Address](), set[tuple[IPv4Address, int]]()
        while self._vrrp is not None:
            try:
                data, address = self._vrrp.recvfrom(256)
            except OSError:
                break
            heard.add(IPv4Address(address[0]))
            _, vrid, priority = data[(data[0] & 15) * 4 :][:3]
            if priority:
                masters.add((IPv4Address(address[0]), vrid))
        if heard:
            self._post(PeerHeard(frozenset(heard), frozenset(masters)))

    # ---- the subnets' namespaces ---------------------------------------------------------------------------------

    def reconciled(self, subnet: str, *, needs_handles: bool) -> None:
        """A namespace is as it must be, with other devices perhaps: open handles if there are none."""
        if subnet in self._handles:
            self._dataplane.submit(lambda: self._follow_neighbours(subnet))
        elif needs_handles:
            self._dataplane.submit(lambda: self._open(subnet))

    def _follow_neighbours(self, subnet: str) -> None:
        """On the dataplane thread."""
        home, handles = self._dataplane.home, self._handles.get(subnet)
        if home is not None and handles is not None:
            with home.inside(namespace_of(subnet)):
                handles.events.follow_neighbours(TUNNEL_DEVICE_PREFIX)

    def _open(self, subnet: str) -> None:
        """On the dataplane thread."""
        home = self._dataplane.home
        if home is None or subnet in self._handles:
            # Two rounds in quick succession ask twice.
            return
        device = tunnel_device_of(subnet)
        with home.inside(namespace_of(subnet)):
            handles = Handles(
                Gate((device, ENI_DEVICE), gate_lock(self._run_dir, subnet)),
                NamespaceCounters(device, ENI_DEVICE),
                TableProbe(SUBNET_TABLES),
                netlink.open_event_socket(),
                netlink.ProxyProbe(),
                Announcer(ENI_DEVICE),
                netlink.LinkWatch((device, ENI_DEVICE)),
                netlink.LeaseHandle(LEASE_SET, self.tunnel_range),
            )
            handles.events.follow_neighbours(TUNNEL_DEVICE_PREFIX)
            self._inodes[subnet] = netlink.namespace_inode(namespace_of(subnet))
        # The probe remembers nothing yet: the next tick sees a change and has the namespace observed once more, so
        # nothing that happened between the last observation and now is missed.
        self._handles[subnet] = handles
        self._watcher.add(handles.events, lambda: self._subnet_changed(subnet))
        self._post(NamespaceOpened(subnet, handles))
        self._watcher.add(handles.links, lambda: self._links_changed(subnet, handles))

    def close(self, subnet: str) -> None:
        """Stop watching a namespace; its member closes the handles."""
        handles = self._handles.pop(subnet, None)
        self._inodes.pop(subnet, None)
        self._down.pop(subnet, None)
        if handles is not None:
            self._watcher.remove(handles.events)
            self._watcher.remove(handles.links)

    def _subnet_changed(self, subnet: str) -> None:
        handles = self._handles.get(subnet)
        change = handles.events.drain() if handles is not None else netlink.Change.NONE
        if change is netlink.Change.NONE:
            return
        self._post(GateTouched(subnet))
        if change is netlink.Change.SCENE:
            # The gate alone is no reason to look at all of a namespace: at a failover it moves in many at once.
            self._dataplane.touch(subnet)

    def _links_changed(self, subnet: str, handles: Handles) -> None:
        down = handles.links.down()
        if down is not None and down != self._down.get(subnet):
            self._down[subnet] = down
            self._post(LinksSeen(subnet, down))

    # ---- what sends no notification ------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._is_root_dirty:
            self._is_root_dirty = False
            self._see_addresses()
            self._is_scope_dirty = True
        if self._seen is not None and (self._seen.is_starting or self._has_keepalived_changed(self._seen)):
            self._see_keepalived()
        now = time.monotonic()
        self._haste.end_if_due(now)
        for handles in list(self._handles.values()):
            handles.announcer.repeat(now)
        self.hearing.neighbours = self.neighbours
        self.hearing.look(now)
        if now >= self._full_look_at:
            self._full_look_at = now + FULL_LOOK_S
            self._look_at_everything(now)

    def _look_at_everything(self, now: float) -> None:
        self._see_keepalived()
        traces = self._keepalived.traces()
        if traces != self._file_traces:
            self._file_traces = traces
            self._post(KeepalivedFilesTouched())
        if self._is_scope_dirty:
            self._is_scope_dirty = False
            self._dataplane.touch(NODE_SCOPE)
        probes: list[TableProbe | netlink.SetProbe] = [self._root_probe, *self._set_probes]
        for probe in probes:
            if probe.has_changed():
                probe.remember()
                self._dataplane.touch(NODE_SCOPE)
        for subnet, handles in list(self._handles.items()):
            if netlink.namespace_inode(namespace_of(subnet)) != self._inodes.get(subnet):
                # Gone, or made anew meanwhile: the handles keep the old one alive, and with it its tunnel's key.
                self._post(NamespaceGone(subnet))
                continue
            handles.proxies.look()
            handles.counters.look(now)
            if handles.probe.has_changed():
                handles.probe.remember()
                self._dataplane.touch(subnet)
        self._post(SecondPassed())


def _received(counters: DeviceCounters) -> int:
    """Packets that came in; 0 while the device is not there."""
    (traffic,) = counters.read()
    return traffic.rx_packets if traffic is not None else 0
