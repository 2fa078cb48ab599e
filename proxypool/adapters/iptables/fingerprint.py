"""Has a table changed since the last look? Asked every second for every namespace, so it must cost microseconds.

Legacy iptables sends no events. The probe reads the table as the kernel holds it (getsockopt IPT_SO_GET_INFO and
IPT_SO_GET_ENTRIES of linux/netfilter_ipv4/ip_tables.h) and compares all but the counters with the bytes seen last. The
socket stays in the namespace it was opened in, so any thread may ask.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from contextlib import closing
from dataclasses import dataclass

IPT_SO_SET_REPLACE = 64
IPT_SO_GET_INFO = 64
IPT_SO_GET_ENTRIES = 65
_HEADER_BYTES = 40
"""struct ipt_get_entries up to the first entry: name[32], size, padding."""
TARGET_OFFSET_AT, NEXT_OFFSET_AT = 88, 90
"""Offsets of target_offset and next_offset in struct ipt_entry: after ip (84) and nfcache (4)."""
_COUNTERS = slice(96, 112)
_ERROR = b"error "
"""What a table that cannot be read reads as."""

_INFO = struct.Struct("=32sI20s20sII")
"""struct ipt_getinfo: name, valid_hooks, hook_entry, underflow, num_entries, size."""
_REPLACE = struct.Struct("@32sIII20s20sIP")
"""struct ipt_replace up to the entries: name, valid_hooks, num_entries, size, hook_entry, underflow, num_counters,
counters.
"""
_COUNTER_BYTES = 16

_libc = ctypes.CDLL(None, use_errno=True)
_getsockopt, _setsockopt = _libc.getsockopt, _libc.setsockopt


@dataclass(frozen=True, slots=True)
class Contents:
    """A table as the kernel holds it: where its chains begin and end, and its entries."""

    info: bytes
    entries: bytes

    @property
    def number(self) -> int:
        """Of the entries."""
        return int(_INFO.unpack(self.info)[4])

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule in it: each built-in chain has its policy, and the table its end."""
        return self.number == int(_INFO.unpack(self.info)[1]).bit_count() + 1

    def without_counters(self) -> bytes:
        """What tells one state of the table from another."""
        return _without_counters(self.entries)


def read_table(name: str) -> bytes:
    """A table of the calling thread's namespace as the kernel holds it, without the counters.

    Raises:
        OSError: it cannot be read.
    """
    with closing(TableProbe((name,))) as probe:
        return probe.read(name)


class TableProbe:
    """Watches tables of the namespace it was made in."""

    def __init__(self, tables: tuple[str, ...]) -> None:
        """Open the socket in the calling thread's namespace."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        self._tables = tables
        self._seen: dict[str, bytes] = {}
        self._segments: dict[str, tuple[tuple[int, int], ...]] = {}
        """Where what was seen is not counters."""

    def remember(self) -> None:
        """Take the tables as they are now for unchanged."""
        self._seen = {name: self._read(name) for name in self._tables}
        self._segments = {name: _segments(entries) for name, entries in self._seen.items()}

    def read(self, name: str) -> bytes:
        """One table now, without the counters.

        Raises:
            OSError: it cannot be read.
        """
        return _without_counters(self._entries(name, self._size(name)))

    def contents(self, name: str) -> Contents:
        """One table now.

        Raises:
            OSError: it cannot be read, or was replaced at this moment.
        """
        info = self._info(name)
        return Contents(info, self._entries(name, int(_INFO.unpack(info)[5])))

    def replace(self, name: str, wanted: Contents, before: Contents) -> None:
        """Make the table be this, counters at zero. The kernel refuses if it has another number of entries than before;
        whoever asks holds the lock of all tables.

        Raises:
            OSError: the kernel refused; the table is as it was.
        """
        _, hooks, begins, ends, number, size = _INFO.unpack(wanted.info)
        counters = ctypes.create_string_buffer(before.number * _COUNTER_BYTES)
        place = ctypes.addressof(counters)
        head = _REPLACE.pack(name.encode(), hooks, number, size, begins, ends, before.number, place)
        request = head + wanted.entries
        answer = _setsockopt(self._socket.fileno(), socket.IPPROTO_IP, IPT_SO_SET_REPLACE, request, len(request))
        if answer != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def has_changed(self) -> bool:
        """Whether a table differs from what was remembered, counters aside."""
        return any(self._differs(name) for name in self._tables)

    def _differs(self, name: str) -> bool:
        seen = self._seen.get(name)
        if seen is None:
            return True
        if seen.startswith(_ERROR):
            return self._read(name) != seen
        try:
            # The kernel refuses with EAGAIN where the table no longer has this size.
            entries = self._entries(name, len(seen))
        except OSError:
            return True
        return any(seen[begin:end] != entries[begin:end] for begin, end in self._segments[name])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read(self, name: str) -> bytes:
        try:
            return self._entries(name, self._size(name))
        except OSError as error:
            # EAGAIN: replaced between the two calls; anything else differs from what is remembered all the same.
            return _ERROR + str(error.errno).encode()

    def _info(self, name: str) -> bytes:
        return self._ask(IPT_SO_GET_INFO, name, b"", _INFO.size)

    def _size(self, name: str) -> int:
        return int(_INFO.unpack(self._info(name))[5])

    def _entries(self, name: str, size: int) -> bytes:
        return self._ask(IPT_SO_GET_ENTRIES, name, struct.pack("=I", size), _HEADER_BYTES + size)[_HEADER_BYTES:]

    def _ask(self, option: int, name: str, argument: bytes, size: int) -> bytes:
        request = name.encode().ljust(32, b"\0") + argument
        buffer = ctypes.create_string_buffer(request, size)
        length = ctypes.c_uint32(size)
        if _getsockopt(self._socket.fileno(), socket.IPPROTO_IP, option, buffer, ctypes.byref(length)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return buffer.raw


def _without_counters(entries: bytes) -> bytes:
    return b"".join(entries[begin:end] for begin, end in _segments(entries))


def _segments(entries: bytes) -> tuple[tuple[int, int], ...]:
    """The parts of a table between its counters."""
    found = []
    offset = begin = 0
    while offset + _COUNTERS.stop <= len(entries):
        found.append((begin, offset + _COUNTERS.start))
        begin = offset + _COUNTERS.stop
        step = struct.unpack_from("=H", entries, offset + NEXT_OFFSET_AT)[0]
        if step == 0:
            break
        offset += step
    found.append((begin, len(entries)))
    return tuple(found)
