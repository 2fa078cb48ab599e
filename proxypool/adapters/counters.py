"""Cheap reads of one namespace's counters: handles opened inside once, read from any thread for microseconds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from proxypool.adapters.sysctl import SysctlHandle
from proxypool.core.errors import TransientError

_MAX_BYTES = 65536
_RX_BYTES, _RX_PACKETS, _TX_BYTES, _TX_PACKETS = 0, 1, 8, 9
"""Columns of /proc/net/dev after the name."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What one look gives; None where the kernel has no such number."""

    conntrack: int | None
    conntrack_limit: int | None
    rx_bytes: int
    rx_packets: int
    tx_bytes: int
    tx_packets: int


class NamespaceCounters:
    """Counters of the namespace it was made in: conntrack entries, and traffic of one device."""

    def __init__(self, device: str) -> None:
        """Open the handles in the calling thread's namespace."""
        self._device = device
        self._fd = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
        self._count = _open("netfilter/nf_conntrack_count")
        self._limit = _open("netfilter/nf_conntrack_max")

    def entries(self) -> int | None:
        """The connection table's entries now, about a microsecond's work; None where the kernel has no such number."""
        return self._count.read() if self._count else None

    def read(self) -> Counters:
        """The numbers now."""
        columns = self._columns()
        return Counters(
            self.entries(),
            self._limit.read() if self._limit else None,
            columns[_RX_BYTES],
            columns[_RX_PACKETS],
            columns[_TX_BYTES],
            columns[_TX_PACKETS],
        )

    def _columns(self) -> list[int]:
        text = os.pread(self._fd, _MAX_BYTES, 0).decode()
        for line in text.splitlines():
            name, separator, rest = line.partition(":")
            if separator and name.strip() == self._device:
                return [int(word) for word in rest.split()]
        return [0] * 16

    def close(self) -> None:
        """Close the handles."""
        os.close(self._fd)
        for handle in (self._count, self._limit):
            if handle is not None:
                handle.close()


def _open(path: str) -> SysctlHandle | None:
    try:
        return SysctlHandle(path)
    except TransientError:
        return None
