"""Cheap reads of one namespace's counters: handles opened inside once, read from any thread for microseconds.

Of a subnet's namespace, by what each costs on the machine of docs/measurements.md: docs/scaling.md, "Signals".
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxypool.adapters.iptables import BlockedCounts, NewFlows
from proxypool.adapters.netlink import GuardDrops
from proxypool.adapters.sysctl import SysctlHandle
from proxypool.core.blocking import Blocked
from proxypool.core.errors import TransientError

_MAX_BYTES = 65536
_COLUMNS = (0, 1, 3, 8, 9, 11)
"""Of /proc/net/dev after the name: bytes, packets and drop, received and transmitted."""
_SIOCETHTOOL, _ETHTOOL_GSET = 0x8946, 0x00000001
_ETHTOOL_CMD = struct.Struct("=I8xH14xH14x")
"""struct ethtool_cmd of linux/ethtool.h: cmd, speed and speed_hi in Mbit/s."""
_INTERFACE_REQUEST = struct.Struct("16sP16x")
_UNKNOWN_SPEED = 0xFFFFFFFF
_BYTES_PER_MBIT = 125_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of a device since it was made."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class TableDrops:
    """Of the connection table since the namespace was made; the kernel counts in 32 bits for each processor."""

    table_full: int
    """Packets of new connections dropped because the table was full (`drop`)."""
    early: int
    """Connections forgotten to make room in a full table (`early_drop`)."""
    insert_failed: int
    """Packets of new connections dropped because their entry, after NAT, was there already: no free port, or a race."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What one look gives; None where the kernel has no such number."""

    conntrack: int | None
    conntrack_limit: int | None
    tunnel: Traffic | None
    eni: Traffic | None = None
    new_connections: int | None = None
    """Since the rule for source NAT was made."""
    drops: TableDrops | None = None
    eni_bytes_per_s: float | None = None
    """The speed of the ENI's link, as its driver says."""
    blocked: Mapping[Blocked, int] = field(default_factory=dict)
    """Packets, of master and backup."""


class NamespaceCounters:
    """Of the namespace it was made in: the connection table, and traffic of the tunnel and the ENI."""

    def __init__(self, tunnel: str, eni: str) -> None:
        """Open the handles in the calling thread's namespace."""
        self._devices = DeviceCounters(tunnel, eni)
        self._count = _open("netfilter/nf_conntrack_count")
        self._limit = _open("netfilter/nf_conntrack_max")
        self._stat = _open_file("/proc/thread-self/net/stat/nf_conntrack")
        self._flows = NewFlows()
        self._blocked = BlockedCounts(("filter",))
        self._guard = GuardDrops()
        self._speed = link_bytes_per_s(eni)

    def look(self, now: float) -> None:
        """Read what may have to wait for a lock of the kernel's, for `read` to tell: on a thread that can wait."""
        self._guard.look(now)

    def entries(self) -> int | None:
        """The connection table's entries now, about a microsecond's work; None where the kernel has no such number."""
        return self._count.read() if self._count else None

    def read(self, *, is_master: bool) -> Counters:
        """The numbers now. New connections and what the table drops are a master's: nothing passes a backup."""
        tunnel, eni = self._devices.read()
        return Counters(
            self.entries(),
            self._limit.read() if self._limit else None,
            tunnel,
            eni,
            self._flows.read() if is_master else None,
            _drops(os.pread(self._stat, _MAX_BYTES, 0).decode()) if is_master and self._stat is not None else None,
            self._speed,
            self._blocked_by_reason(),
        )

    def _blocked_by_reason(self) -> Mapping[Blocked, int]:
        dropped = self._guard.packets
        return self._blocked.read() if dropped is None else {**self._blocked.read(), Blocked.SOURCE: dropped}

    def close(self) -> None:
        """Close the handles."""
        self._devices.close()
        self._flows.close()
        self._blocked.close()
        self._guard.close()
        if self._stat is not None:
            os.close(self._stat)
        for handle in (self._count, self._limit):
            if handle is not None:
                handle.close()


class DeviceCounters:
    """Traffic of devices of the namespace it was made in."""

    def __init__(self, *devices: str) -> None:
        """Open the file in the calling thread's namespace."""
        self._devices = devices
        self._fd = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> tuple[Traffic | None, ...]:
        """Of each device, now; None: it is not there."""
        found = {}
        for line in os.pread(self._fd, _MAX_BYTES, 0).decode().splitlines():
            name, _, rest = line.partition(":")
            if (device := name.strip()) in self._devices:
                words = rest.split()
                found[device] = Traffic(*(int(words[column]) for column in _COLUMNS))
        return tuple(found.get(device) for device in self._devices)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def link_bytes_per_s(device: str) -> float | None:
    """The speed of a device's link in the calling thread's namespace; None: its driver does not say.

    The kernel takes RTNL for the answer, so it is asked once. Virtual cards may say anything: veth always 10 Gbit/s.
    """
    command = ctypes.create_string_buffer(_ETHTOOL_CMD.pack(_ETHTOOL_GSET, 0, 0), _ETHTOOL_CMD.size)
    request = _INTERFACE_REQUEST.pack(device.encode(), ctypes.addressof(command))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        try:
            fcntl.ioctl(link, _SIOCETHTOOL, request)
        except OSError:
            return None
    _, low, high = _ETHTOOL_CMD.unpack(command.raw)
    speed = high << 16 | low
    return None if speed in {0, 0xFFFF, _UNKNOWN_SPEED} else float(speed * _BYTES_PER_MBIT)


def _drops(text: str) -> TableDrops | None:
    """A row of hexadecimal numbers for each processor below their names."""
    names, *rows = (line.split() for line in text.splitlines())
    try:
        columns = [names.index(name) for name in ("drop", "early_drop", "insert_failed")]
    except ValueError:
        return None
    return TableDrops(*(sum(int(row[column], 16) for row in rows) for column in columns))


def _open(path: str) -> SysctlHandle | None:
    try:
        return SysctlHandle(path)
    except TransientError:
        return None


def _open_file(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
