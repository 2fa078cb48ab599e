"""Addresses that are local to this machine for a moment without being on any of its cards.

A route of type local is enough for the kernel to take packets for an address, to send with it, and to answer ARP for
it. They have a protocol number of their own, so that what a dead daemon left is found.
"""

from __future__ import annotations

import errno
import socket
import sys
from ipaddress import IPv4Address

from proxypool.adapters.netlink.decode import attributes
from proxypool.adapters.netlink.encode import ROUTE_BODY, RTA_DST, RTA_OIF, RTM_DELROUTE, RTM_NEWROUTE
from proxypool.adapters.netlink.raw import HEADER, NLM_F_CREATE, RawSocket, Request, attribute
from proxypool.core.errors import TransientError

LENT_PROTOCOL = 178
_RTM_GETROUTE = 26
_RTN_LOCAL, _SCOPE_HOST, _TABLE_LOCAL = 2, 254, 255
_PROTOCOL_AT, _TYPE_AT, _TABLE_AT = 5, 7, 4
_BODY_AT = HEADER.size
_ABSENT = (0, errno.ESRCH)


def lend(address: IPv4Address) -> None:
    """Make it local to the calling thread's namespace. Again is fine, and so is a card that has it.

    Raises:
        TransientError: the kernel refused.
    """
    code = _change(Request(RTM_NEWROUTE, NLM_F_CREATE, _message(address)))
    if code not in (0, errno.EEXIST):
        raise TransientError(f"lend {address}: {errno.errorcode.get(code, code)}")


def give_back(address: IPv4Address) -> None:
    """End that; absent is fine.

    Raises:
        TransientError: the kernel refused.
    """
    code = _change(Request(RTM_DELROUTE, 0, _message(address)))
    if code not in _ABSENT:
        raise TransientError(f"give {address} back: {errno.errorcode.get(code, code)}")


def lent() -> frozenset[IPv4Address]:
    """What is lent in the calling thread's namespace."""
    body = ROUTE_BODY.pack(socket.AF_INET, 0, 0, 0, _TABLE_LOCAL, LENT_PROTOCOL, 0, _RTN_LOCAL, 0)
    with RawSocket(port=0) as link:
        found = link.dump(_RTM_GETROUTE, body)
    return frozenset(address for message in found if (address := _parse(message)) is not None)


def _change(request: Request) -> int:
    with RawSocket(port=0) as link:
        return link.change((request,))[0]


def _message(address: IPv4Address) -> bytes:
    body = ROUTE_BODY.pack(socket.AF_INET, 32, 0, 0, _TABLE_LOCAL, LENT_PROTOCOL, _SCOPE_HOST, _RTN_LOCAL, 0)
    loopback = socket.if_nametoindex("lo").to_bytes(4, sys.byteorder)
    return body + attribute(RTA_DST, address.packed) + attribute(RTA_OIF, loopback)


def _parse(message: bytes) -> IPv4Address | None:
    body = message[_BODY_AT:]
    if (body[_PROTOCOL_AT], body[_TYPE_AT], body[_TABLE_AT]) != (LENT_PROTOCOL, _RTN_LOCAL, _TABLE_LOCAL):
        return None
    destination = attributes(body, ROUTE_BODY.size).get(RTA_DST)
    return IPv4Address(destination) if destination is not None else None
