"""The messages of conntrack: NFNL_SUBSYS_CTNETLINK (linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_netlink.c).

Reads dumps: entries as values, as keys to delete them by, or at a glance for counting. Entries of other zones than 0
are left out.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeAlias

from proxypool.adapters.nfnetlink import BODY_AT, NLA_F_NESTED, attribute, attributes, messages, nested

GET, DELETE = 1 << 8 | 1, 1 << 8 | 2
_ORIGINAL, _STATUS, _PROTOINFO, _TIMEOUT, _MARK, _ID, _ZONE, _MARK_MASK, _FILTER = 1, 3, 4, 7, 8, 12, 18, 21, 25
"""CTA_*."""
_TUPLE_IP, _TUPLE_PROTOCOL, _TUPLE_ZONE = 1, 2, 3
_SOURCE, _DESTINATION = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT, _ICMP_ID, _ICMP_TYPE, _ICMP_CODE = range(1, 7)
_PROTOINFO_TCP, _TCP_STATE = 1, 1
_SEEN_REPLY, _SOURCE_NAT = 1 << 1, 1 << 4
"""IPS_SEEN_REPLY and IPS_SRC_NAT of linux/netfilter/nf_conntrack_common.h."""
_FILTER_ORIGINAL = 1
_FILTER_BY_SOURCE = struct.pack("=I", 1)
"""CTA_FILTER_ORIG_FLAGS with CTA_FILTER_FLAG(CTA_IP_SRC), since Linux 5.8; older kernels send every entry."""
ICMP, TCP = 1, 6
_WITH_PORTS = {TCP, 17, 33, 47, 132, 136}
"""TCP, UDP, DCCP, GRE (its keys), SCTP, UDP-Lite."""
_U32 = struct.Struct(">I")
_U16 = struct.Struct(">H")

_GLANCE = struct.Struct("=I44x4sB71x4s3xB4sI24x12sB")
"""Of an entry of TCP or UDP as ctnetlink_fill_info() writes it: length, protocol, the last byte of the status, mark and
TCP state. Each has the head of its attribute before it: an entry that is laid out in another way, as by a zone, has
another head there."""
_KEY = struct.Struct("=I16x12s4s96x4sI4s")
"""Of the same: length, source, mark and identity."""
_TOWARD = struct.Struct("=I16x12s8x4s8sB11x4s2s54x4s3xB")
"""Of the same: length, destination, protocol, destination port and the last byte of the status."""
_KEY_AT, _KEY_END, _ID_AT, _ID_END = 20, 72, 140, 148
"""Where the original direction and the identity are in it."""
_NUMBER_HEAD = struct.pack("=HH", 5, _NUMBER)
_MARK_HEAD = struct.pack("=HH", 8, _MARK)
_ID_HEAD = struct.pack("=HH", 8, _ID)
_TCP_HEAD = struct.pack("=6H", 48, _PROTOINFO | NLA_F_NESTED, 44, _PROTOINFO_TCP | NLA_F_NESTED, 5, _TCP_STATE)
_ORIGINAL_HEAD = struct.pack("=6H", 52, _ORIGINAL | NLA_F_NESTED, 20, _TUPLE_IP | NLA_F_NESTED, 8, _SOURCE)

_PROTOCOL_HEAD = struct.pack("=4H", 28, _TUPLE_PROTOCOL | NLA_F_NESTED, 5, _NUMBER)
_PORT_HEAD = struct.pack("=HH", 6, _DESTINATION_PORT)
_STATUS_HEAD = struct.pack("=HH", 8, _STATUS)
_GLANCE_HEADS = (_NUMBER_HEAD, _STATUS_HEAD, _MARK_HEAD)
_TOWARD_HEADS = (_ORIGINAL_HEAD, _PROTOCOL_HEAD, _PORT_HEAD, _STATUS_HEAD)

Found: TypeAlias = dict[int, tuple[int, int]]
Destination: TypeAlias = tuple[bytes, int, bytes]
"""Packed address, protocol, packed port."""


class TcpState(IntEnum):
    """enum tcp_conntrack of linux/netfilter/nf_conntrack_tcp.h."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9


@dataclass(frozen=True, slots=True)
class Flow:
    """An entry, as seen by who opened the connection."""

    protocol: int
    source: IPv4Address
    destination: IPv4Address
    source_port: int
    """ICMP: the identifier; 0 where the protocol has none."""
    destination_port: int
    """ICMP: type * 256 + code, as the kernel keeps them; 0 where the protocol has none."""
    mark: int
    timeout_s: int | None
    """What is left of its life if nothing more is seen; None: the card forwards it by itself."""
    tcp_state: TcpState | None
    is_replied: bool
    is_source_nated: bool
    """Whether its packets leave with another source than they came with."""
    id: int

    def goes_to(self, cidrs: Iterable[IPv4Network]) -> bool:
        """Whether its destination is in one of them."""
        return any(self.destination in cidr for cidr in cidrs)

    @property
    def key(self) -> bytes:
        """What a request to delete it says."""
        ports: tuple[bytes, ...] = ()
        if self.protocol in _WITH_PORTS:
            ports = _number(_SOURCE_PORT, self.source_port), _number(_DESTINATION_PORT, self.destination_port)
        elif self.protocol == ICMP:
            kind, code = divmod(self.destination_port, 256)
            ports = (
                _number(_ICMP_ID, self.source_port),
                attribute(_ICMP_TYPE, bytes([kind])),
                attribute(_ICMP_CODE, bytes([code])),
            )
        addresses = attribute(_SOURCE, self.source.packed), attribute(_DESTINATION, self.destination.packed)
        protocol = attribute(_NUMBER, bytes([self.protocol]))
        original = nested(_TUPLE_IP, *addresses), nested(_TUPLE_PROTOCOL, protocol, *ports)
        return nested(_ORIGINAL, *original) + attribute(_ID, _U32.pack(self.id))


def by_mark(mark: int, mask: int) -> bytes:
    """A dump's choice by mark. The answer is to be looked at again: a kernel may not know the choice."""
    return attribute(_MARK, _U32.pack(mark)) + attribute(_MARK_MASK, _U32.pack(mask)) if mask else b""


def by_source(source: IPv4Address) -> bytes:
    """A dump's choice by who opened the connection. The answer is to be looked at again, see `by_mark`."""
    original = nested(_ORIGINAL, nested(_TUPLE_IP, attribute(_SOURCE, source.packed)))
    return original + nested(_FILTER, attribute(_FILTER_ORIGINAL, _FILTER_BY_SOURCE))


def flows(dump: list[bytes]) -> Iterator[Flow]:
    """The entries of a dump."""
    for data in dump:
        for at, end in messages(data):
            flow = _flow(data, at, end)
            if flow is not None:
                yield flow


def opening(dump: list[bytes]) -> Iterator[Flow]:
    """Those of TCP whose SYN has had no answer, quickly: the others are glanced at."""
    for data, at, (size, number, protocol, status_head, _, mark_head, _, tcp, state) in _each(dump, _GLANCE):
        is_usual = (number, status_head, mark_head) == _GLANCE_HEADS
        is_another = is_usual and (protocol != TCP or (tcp == _TCP_HEAD and state != TcpState.SYN_SENT))
        flow = None if is_another else _flow(data, at, at + size)
        if flow is not None and flow.tcp_state is TcpState.SYN_SENT:
            yield flow


def keys(dump: list[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
    """Of each entry, quickly: what a request to delete it says, its mark in `native` order, who opened it."""
    for data, at, (size, head, source, mark_head, mark, id_head) in _each(dump, _KEY):
        if head == _ORIGINAL_HEAD and mark_head == _MARK_HEAD and id_head == _ID_HEAD:
            yield data[at + _KEY_AT : at + _KEY_END] + data[at + _ID_AT : at + _ID_END], mark, source
        else:
            flow = _flow(data, at, at + size)
            if flow is not None:
                yield flow.key, native(flow.mark), flow.source.packed


def glances(dump: list[bytes]) -> Iterator[tuple[int, int | None, bool]]:
    """Of each entry, quickly: mark in `native` order, TCP state, whether its source was rewritten."""
    for data, at, (size, number, protocol, status_head, status, mark_head, mark, tcp, state) in _each(dump, _GLANCE):
        is_usual = (number, status_head, mark_head) == _GLANCE_HEADS
        if is_usual and tcp == _TCP_HEAD:
            yield mark, state, bool(status & _SOURCE_NAT)
        elif is_usual and protocol != TCP:
            yield mark, None, bool(status & _SOURCE_NAT)
        else:
            flow = _flow(data, at, at + size)
            if flow is not None:
                yield native(flow.mark), flow.tcp_state, flow.is_source_nated


def destinations(dump: Iterable[bytes], counts: dict[Destination, int]) -> None:
    """Add the entries whose source was rewritten, to `counts`, by where they go.

    Quickly, and of a dump that comes in parts. Entries of protocols without ports are left out.
    """
    for data, at, fields in _each(dump, _TOWARD):
        size, head, address, protocol_head, protocol, port_head, port, status_head, status = fields
        heads = (head, protocol_head, port_head, status_head)
        if heads != _TOWARD_HEADS:
            found = _destination(data, at, at + size)
        else:
            found = (address, protocol, port) if status & _SOURCE_NAT else None
        if found is not None:
            counts[found] = counts.get(found, 0) + 1


def _each(dump: Iterable[bytes], layout: struct.Struct) -> Iterator[tuple[bytes, int, tuple[Any, ...]]]:
    """Of each entry the datagram, its place in that, and what a layout, which begins with the size, makes of it."""
    padding = bytes(layout.size)
    for data in dump:
        padded = data + padding
        at, end = 0, len(data)
        while at < end:
            fields = layout.unpack_from(padded, at)
            yield data, at, fields
            at += fields[0] + 3 & ~3


def _destination(data: bytes, at: int, end: int) -> Destination | None:
    flow = _flow(data, at, end)
    if flow is None or not flow.is_source_nated or flow.protocol not in _WITH_PORTS:
        return None
    return flow.destination.packed, flow.protocol, _U16.pack(flow.destination_port)


def native(value: int) -> int:
    """The number that, in the machine's order, has the bytes that `value` has in the network's."""
    return int.from_bytes(value.to_bytes(4), sys.byteorder)


def _flow(data: bytes, at: int, end: int) -> Flow | None:
    """The entry; None if it is of another zone."""
    found = attributes(data, at + BODY_AT, end)
    original = attributes(data, *found[_ORIGINAL])
    if not _is_ours(found, original):
        return None
    addresses = attributes(data, *original[_TUPLE_IP])
    layer4 = attributes(data, *original[_TUPLE_PROTOCOL])
    protocol = data[layer4[_NUMBER][0]]
    if protocol == ICMP:
        ports = _u16(data, layer4, _ICMP_ID), data[layer4[_ICMP_TYPE][0]] * 256 + data[layer4[_ICMP_CODE][0]]
    else:
        ports = _u16(data, layer4, _SOURCE_PORT), _u16(data, layer4, _DESTINATION_PORT)
    status = _u32(data, found, _STATUS)
    return Flow(
        protocol,
        IPv4Address(data[slice(*addresses[_SOURCE])]),
        IPv4Address(data[slice(*addresses[_DESTINATION])]),
        *ports,
        _u32(data, found, _MARK),
        _u32(data, found, _TIMEOUT) if _TIMEOUT in found else None,
        _tcp_state(data, found),
        bool(status & _SEEN_REPLY),
        bool(status & _SOURCE_NAT),
        _u32(data, found, _ID),
    )


def _tcp_state(data: bytes, found: Found) -> TcpState | None:
    if _PROTOINFO not in found:
        return None
    info = attributes(data, *found[_PROTOINFO])
    if _PROTOINFO_TCP not in info:
        return None
    return TcpState(data[attributes(data, *info[_PROTOINFO_TCP])[_TCP_STATE][0]])


def _is_ours(found: Found, original: Found) -> bool:
    """Whether an entry is of zone 0, of which the kernel says nothing."""
    return _ZONE not in found and _TUPLE_ZONE not in original


def _u32(data: bytes, found: Found, kind: int) -> int:
    return int(_U32.unpack_from(data, found[kind][0])[0]) if kind in found else 0


def _u16(data: bytes, found: Found, kind: int) -> int:
    return int(_U16.unpack_from(data, found[kind][0])[0]) if kind in found else 0


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _U16.pack(value))
