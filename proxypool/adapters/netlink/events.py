"""Netlink notifications as a bare "something of interest changed": the reader observes anew.

A socket stays in the namespace it was opened in. An overflow (ENOBUFS) is a change like any other. What cannot concern
us is sifted out here, because on a busy function host every starting instance causes notifications.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from ipaddress import IPv4Address

from proxypool.adapters.netlink import echoes
from proxypool.adapters.netlink.raw import OWN_PORT
from proxypool.core.scene import ROUTE_PROTOCOL

NETLINK_ROUTE = 0
_GROUPS = {
    "link": 1,
    "neigh": 3,
    "ipv4_ifaddr": 5,
    "ipv4_route": 7,
    "ipv4_rule": 8,
    "ipv4_netconf": 24,
}
"""RTNLGRP_* of linux/rtnetlink.h."""
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_BUFFER_BYTES = 65536
_HEADER = struct.Struct("=IHHII")
_ROUTE_TYPES = (24, 25)
_NEIGHBOUR_TYPES = (28, 29)
_NEW_ADDRESS = 20
_ADDRESS_TYPES = (_NEW_ADDRESS, 21)
_ADDRESS_BODY_BYTES = 8
_IFA_LOCAL = 2
_NEW_NETCONF = 80
_NETCONF_BODY_BYTES = 4
_NETCONF_IFINDEX, _NETCONF_FORWARDING = 1, 2
_PROTOCOL_AT = _HEADER.size + 5
_IFINDEX_AT = _HEADER.size + 4


class Change(IntEnum):
    """How far a notification concerns us."""

    NONE = 0
    GATE = 1
    """Whether devices forward, and nothing else."""
    SCENE = 2


class EventSocket:
    """One namespace's notifications."""

    def __init__(self, groups: tuple[str, ...]) -> None:
        """Open and subscribe in the calling thread's namespace."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.bind((0, 0))
        self._neighbour_devices: frozenset[int] = frozenset()
        """Interface indexes whose neighbours are ours; the neighbours of others come and go with their traffic."""
        self._namespace = echoes.current_namespace()
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _GROUPS[group])

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def follow_neighbours(self, prefix: str) -> None:
        """Tell of the neighbours of devices whose names begin so, as they are now: called in its namespace, and again
        whenever there may be other devices.
        """
        self._neighbour_devices = frozenset(index for index, name in socket.if_nameindex() if name.startswith(prefix))

    def drain(self) -> Change:
        """Read what is queued; how far any of it may concern us."""
        found = Change.NONE
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return found
            except OSError:
                # ENOBUFS: notifications were lost. Observing anew is the cure anyway.
                return Change.SCENE
            found = max(found, *map(self._change, _messages(data)))

    def read(self) -> list[bytes]:
        """The messages that are queued."""
        found: list[bytes] = []
        while True:
            try:
                found += _messages(self._socket.recv(_BUFFER_BYTES))
            except OSError:
                # Nothing more, or an overflow.
                return found

    def _change(self, message: bytes) -> Change:
        if not self._concerns_us(message):
            return Change.NONE
        return Change.GATE if _is_of_forwarding_alone(message) else Change.SCENE

    def _concerns_us(self, message: bytes) -> bool:
        _, kind, _, _, sender = _HEADER.unpack_from(message)
        if sender == OWN_PORT:
            # What the dataplane thread wrote, which knows that it did.
            return False
        if kind in _ROUTE_TYPES:
            return message[_PROTOCOL_AT] == ROUTE_PROTOCOL
        if kind in _NEIGHBOUR_TYPES:
            if struct.unpack_from("=I", message, _IFINDEX_AT)[0] not in self._neighbour_devices:
                return False
            return not echoes.is_ours(self._namespace, kind, message[_HEADER.size :])
        return True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _is_of_forwarding_alone(message: bytes) -> bool:
    """The kernel tells each change of forwarding for each device; no part of a scene is in it."""
    if _HEADER.unpack_from(message)[1] != _NEW_NETCONF:
        return False
    offset = _HEADER.size + _NETCONF_BODY_BYTES
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if length < 4 or kind not in (_NETCONF_IFINDEX, _NETCONF_FORWARDING):  # noqa: PLR2004 - an attribute's own header
            return False
        offset += (length + 3) & ~3
    return True


def _messages(data: bytes) -> list[bytes]:
    found = []
    while len(data) >= _HEADER.size:
        length = _HEADER.unpack_from(data)[0]
        if length < _HEADER.size:
            break
        found.append(data[:length])
        data = data[(length + 3) & ~3 :]
    return found


class AddressEvents:
    """IPv4 addresses that come and go on one interface, as they do: the first sign that keepalived claims a HaVip."""

    def __init__(self, device: str) -> None:
        """Open and subscribe in the calling thread's namespace.

        Raises:
            OSError: there is no such interface.
        """
        self._index = socket.if_nametoindex(device)
        self._socket = EventSocket(("ipv4_ifaddr",))

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def changes(self) -> list[tuple[IPv4Address, bool]]:
        """Addresses in the order of their changes, and whether they came. Lost notifications are nobody's loss here:
        the addresses are looked at now and then anyway.
        """
        found = []
        for message in self._socket.read():
            kind = _HEADER.unpack_from(message)[1]
            if kind not in _ADDRESS_TYPES or struct.unpack_from("=I", message, _IFINDEX_AT)[0] != self._index:
                continue
            local = _attribute(message, _ADDRESS_BODY_BYTES, _IFA_LOCAL)
            if local is not None:
                found.append((IPv4Address(local), kind == _NEW_ADDRESS))
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _attribute(message: bytes, body_bytes: int, wanted: int) -> bytes | None:
    offset = _HEADER.size + body_bytes
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if length < 4:  # noqa: PLR2004 - bytes of an attribute's own header
            return None
        if kind == wanted:
            return message[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return None


def open_event_socket(*groups: str) -> EventSocket:
    """A socket for these groups (all by default) in the calling thread's namespace."""
    return EventSocket(groups or tuple(_GROUPS))
