"""Has an ipset changed since the last look? Asked every second, because ipsets send no notifications.

A set of ours that somebody emptied drops every tunnel packet. The probe lists the set as the kernel holds it
(IPSET_CMD_LIST of linux/netfilter/ipset/ip_set.h) and compares the bytes with those seen last: some 10 µs for a hundred
members. The socket stays in the namespace it was opened in.
"""

from __future__ import annotations

import socket
import struct

NETLINK_NETFILTER = 12
_LIST = 6 << 8 | 7
"""NFNL_SUBSYS_IPSET, IPSET_CMD_LIST."""
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_HEADER = struct.Struct("=IHHII")
_TIMEOUT_S = 1.0


class SetProbe:
    """Watches one set of the namespace it was made in."""

    def __init__(self, name: str) -> None:
        """Open the socket in the calling thread's namespace."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        body = struct.pack("=BBH", socket.AF_INET, 0, 0) + _attribute(1, b"\x06") + _attribute(2, name.encode() + b"\0")
        self._body = body
        self._sequence = 0
        self._seen = b""

    def remember(self) -> None:
        """Take the set as it is now for unchanged."""
        self._seen = self._read()

    def has_changed(self) -> bool:
        """Whether it differs from what was remembered."""
        return self._read() != self._seen

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read(self) -> bytes:
        """The answers without their headers; a set that is not there reads as the error it is."""
        self._sequence += 1
        length = _HEADER.size + len(self._body)
        self._socket.send(_HEADER.pack(length, _LIST, _REQUEST_DUMP, self._sequence, 0) + self._body)
        found = b""
        while True:
            try:
                data = self._socket.recv(1 << 17)
            except OSError as error:
                return f"error {error.errno}".encode()
            while len(data) >= _HEADER.size:
                size, kind, _, sequence, _ = _HEADER.unpack_from(data)
                if sequence == self._sequence:
                    if kind == _DONE:
                        return found
                    if kind == _ERROR:
                        return data[_HEADER.size : _HEADER.size + 4]
                    found += data[_HEADER.size : size]
                data = data[max(size, _HEADER.size) + 3 & ~3 :]


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
