"""Add and remove members of an address set that is there, without reading the others: there may be ten thousand.

Formats: linux/netfilter/ipset/ip_set.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from proxypool.adapters.netlink.errors import translated
from proxypool.adapters.netlink.raw import RawSocket, Request, attribute
from proxypool.core.errors import TransientError

_ADD, _DELETE = 6 << 8 | 9, 6 << 8 | 10
"""NFNL_SUBSYS_IPSET; IPSET_CMD_ADD, IPSET_CMD_DEL."""
_PROTOCOL, _NAME, _DATA, _IP, _IPV4 = 1, 2, 7, 1, 1
_NESTED, _NET_BYTEORDER = 0x8000, 0x4000
_PROTOCOL_VERSION = 6
NETLINK_NETFILTER = 12
_KERNELS_OWN = 4096
"""ipset's own error numbers begin here (IPSET_ERR_PRIVATE)."""


def change_set(name: str, added: Iterable[IPv4Address], removed: Iterable[IPv4Address]) -> None:
    """In the namespace the thread is in. Adding what is there, and removing what is not, is fine.

    Raises:
        TransientError: the kernel refused; the set is not there, or full.
    """
    head = struct.pack("=BBH", socket.AF_INET, 0, 0)
    head += attribute(_PROTOCOL, bytes((_PROTOCOL_VERSION,))) + attribute(_NAME, name.encode() + b"\0")
    members = [(_ADD, address) for address in sorted(added)] + [(_DELETE, address) for address in sorted(removed)]
    with translated(f"change set {name}"), RawSocket(NETLINK_NETFILTER) as netlink:
        codes = netlink.change([Request(kind, 0, head + _member(address)) for kind, address in members])
    for code, (kind, address) in zip(codes, members, strict=True):
        if code:
            why = os.strerror(code) if code < _KERNELS_OWN else f"ipset error {code}"
            raise TransientError(f"set {name}: {'add' if kind == _ADD else 'remove'} {address}: {why}")


def _member(address: IPv4Address) -> bytes:
    ip = attribute(_IPV4 | _NET_BYTEORDER, address.packed)
    return attribute(_DATA | _NESTED, attribute(_IP | _NESTED, ip))
