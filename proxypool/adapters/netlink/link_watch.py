"""Which of a namespace's devices are up and have a carrier, told as it changes.

The kernel reports the loss of a carrier from a queue that it works off at once, or up to a second after the last time
(net/core/link_watch.c); who wants to know at once in every case asks for the carrier itself (`adapters.eni_probe`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

_NETLINK_ROUTE = 0
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_LINK = 270, 1, 1
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
_ATTRIBUTE = struct.Struct("=HH")
_NLMSG_DONE, _RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 3, 16, 17, 18
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_IFLA_IFNAME = 3
_IFF_UP, _IFF_LOWER_UP = 1, 1 << 16
_BUFFER_BYTES = 1 << 16


class LinkWatch:
    """The devices of these names in the namespace it was made in. Usable from any thread, one at a time."""

    def __init__(self, names: Iterable[str]) -> None:
        """Open it in the calling thread's namespace.

        Raises:
            OSError: the kernel refuses a socket.
        """
        self._names = frozenset(names)
        self._up: dict[int, tuple[str, bool]] = {}
        self._is_known = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_LINK)
            self._ask()
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def down(self) -> frozenset[str] | None:
        """Which of them are down, without a carrier or not there. None: not known yet."""
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                break
            except OSError:
                # ENOBUFS: something was lost.
                self._ask()
                continue
            self._take(data)
        if not self._is_known:
            return None
        return self._names - {name for name, is_up in self._up.values() if is_up}

    def _ask(self) -> None:
        body = _LINK.pack(0, 0, 0, 0, 0)
        self._up.clear()
        self._is_known = False
        header = _HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
        self._socket.send(header + body)

    def _take(self, data: bytes) -> None:
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if length < _HEADER.size:
                return
            if kind == _NLMSG_DONE:
                self._is_known = True
            elif kind in {_RTM_NEWLINK, _RTM_DELLINK}:
                self._see(data[:length], is_there=kind == _RTM_NEWLINK)
            data = data[(length + 3) & ~3 :]

    def _see(self, message: bytes, *, is_there: bool) -> None:
        _, _, index, flags, _ = _LINK.unpack_from(message, _HEADER.size)
        name = _name(message)
        self._up.pop(index, None)
        if is_there and name in self._names:
            self._up[index] = (name, bool(flags & _IFF_UP) and bool(flags & _IFF_LOWER_UP))


def _name(message: bytes) -> str:
    at = _HEADER.size + _LINK.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            break
        if kind == _IFLA_IFNAME:
            return message[at + _ATTRIBUTE.size : at + length].rstrip(b"\0").decode(errors="replace")
        at += (length + 3) & ~3
    return ""
