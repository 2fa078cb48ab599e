"""Facts of the machine that are read, never written: addresses and MTU of the underlay."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute

from proxypool.adapters.netlink.decode import parse_address
from proxypool.adapters.netlink.encode import ADDRESS_BODY
from proxypool.adapters.netlink.errors import absent_is_fine, translated
from proxypool.adapters.netlink.raw import HEADER, RawSocket
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.scene import Address

SCOPE_UNIVERSE = 0
RTM_GETADDR = 22


def index_of(name: str) -> int | None:
    """Interface index in the calling thread's namespace, None if there is no such interface. Microseconds: a dump of
    a node with a hundred cards takes pyroute2 twenty milliseconds.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def link_by_name(ip: IPRoute, name: str) -> Any | None:
    """The link with this name in the calling thread's namespace, which must be the socket's; None if there is none."""
    index = index_of(name)
    if index is None:
        return None
    return next(iter(ip.link("get", index=index)), None)


@dataclass(frozen=True, slots=True)
class Underlay:
    """The interface of the function network."""

    address: IPv4Address
    mtu: int


def underlay(device: str) -> Underlay:
    """Address and MTU of the underlay interface; /32 addresses do not count (HaVips are /32).

    Raises:
        PermanentError: no such interface.
        TransientError: it has no address (yet).
    """
    with translated(f"read interface {device}"), IPRoute() as ip:
        link = link_by_name(ip, device)
        if link is None:
            names = ", ".join(sorted(name for _, name in socket.if_nameindex()))
            raise PermanentError(f"there is no interface {device}: set `underlay` to one of {names}")
        for message in ip.addr("dump", family=socket.AF_INET):
            is_network = message["prefixlen"] < 32  # noqa: PLR2004 - bits of an IPv4 address
            if message["index"] == link["index"] and message["scope"] == SCOPE_UNIVERSE and is_network:
                address = IPv4Address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
                return Underlay(address, int(link.get_attr("IFLA_MTU")))
    raise TransientError(f"interface {device} has no IPv4 address")


def local_addresses(device: str) -> frozenset[IPv4Address]:
    """IPv4 addresses on an interface; empty if it is not there."""
    index = index_of(device)
    if index is None:
        return frozenset()
    # Asked after every burst of changes, of a node with hundreds of HaVips: a library takes 0.1 ms for each.
    asked = ADDRESS_BODY.pack(socket.AF_INET, 0, 0, 0, 0)
    with translated(f"read addresses of {device}"), RawSocket() as netlink:
        found = [parse_address(message[HEADER.size :], {index: device}) for message in netlink.dump(RTM_GETADDR, asked)]
    return frozenset(item.interface.ip for item, _ in found if isinstance(item, Address))


def remove_local_address(device: str, address: IPv4Address) -> None:
    """Take an address off an interface; absent is fine.

    Raises:
        TransientError: the kernel refused.
    """
    with translated(f"remove {address} from {device}"), IPRoute() as ip, absent_is_fine():
        index = index_of(device)
        if index is not None:
            ip.addr("del", index=index, address=str(address), prefixlen=32)
