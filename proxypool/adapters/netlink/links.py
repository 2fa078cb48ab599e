"""The two devices of a subnet: the card that is moved in, and the tunnel whose outer packets use the underlay.

A cold node gets hundreds of them, so this is plain messages and no library, and as few steps as can be: each move of a
device from one namespace into another has the kernel wait for all processors, with the lock of all links held, some
15 ms (rcu_barrier in __dev_change_net_namespace).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute

from proxypool.adapters.netlink.decode import Link, attributes, parse_link
from proxypool.adapters.netlink.encode import (
    LINK_BODY,
    ROUTE_BODY,
    RTA_OIF,
    encode_link,
    encode_link_removal,
    encode_tunnel,
)
from proxypool.adapters.netlink.inventory import index_of, link_by_name
from proxypool.adapters.netlink.namespaces import Home
from proxypool.adapters.netlink.observe import ALIAS_PREFIX, RTM_GETLINK, RTM_GETROUTE
from proxypool.adapters.netlink.raw import HEADER, RawSocket, attribute
from proxypool.adapters.netns import enter
from proxypool.adapters.netns_names import namespace_path
from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.scene import Eni, Tunnel

_IS_MADE_IN_PLACE = frozenset({"vxlan"})
"""Kinds that send through the namespace in which they are asked for, wherever they are. GRE sends through the one it is
made in (before Linux 6.15), so it is made at home and moved.
"""


def take_eni(eni: Eni, namespace: str | None, home: Home) -> None:
    """Move the card into a namespace under its fixed name; called with the thread inside that namespace.

    Raises:
        TransientError: the card is not on this machine (yet).
        PermanentError: the card is one that must not be taken.
        OSError: the kernel refused.
    """
    if namespace is None:
        raise PermanentError("a card can only be moved into a subnet's namespace")
    index = index_of(eni.device)
    if index is not None:
        with RawSocket() as netlink:
            netlink.require([encode_link(index, is_up=eni.is_up)])
        return
    with _at_home(home, namespace) as target, RawSocket() as netlink:
        _send_off(netlink, eni, target)


def _send_off(netlink: RawSocket, eni: Eni, target: int) -> None:
    """At home: check the card, and move it under the fixed name, marked with its own. One message: a card that is away
    has its mark.
    """
    link = _find(netlink, eni.match)
    if link is None:
        raise TransientError(f"ENI {eni.match} is not on this machine: attach it, or correct the pair's member")
    if link.has_master or _carries_default_route(netlink, link.index):
        raise PermanentError(f"{link.name} is not a customer's card: it belongs to a bridge or has the default route")
    # A card whose namespace was removed under it comes home under its name in there.
    original = link.name if link.name != ENI_DEVICE else eni.match
    netlink.require(
        [encode_link(link.index, is_up=eni.is_up, name=ENI_DEVICE, alias=ALIAS_PREFIX + original, namespace=target)]
    )


def _find(netlink: RawSocket, match: str) -> Link | None:
    """By name, by MAC, or by our alias."""
    index = None if ":" in match else index_of(match)
    if index is not None:
        return parse_link(netlink.get(RTM_GETLINK, LINK_BODY.pack(socket.AF_UNSPEC, 0, index, 0, 0)))
    mac, alias = _mac(match), ALIAS_PREFIX + match
    for message in netlink.dump(RTM_GETLINK, bytes(LINK_BODY.size)):
        # Understanding all of hundreds of links for each of hundreds of cards would take seconds.
        if alias.encode() in message or (mac and mac in message):
            link = parse_link(message)
            if (mac and link.mac == mac.hex(":")) or link.alias == alias:
                return link
    return None


def _mac(match: str) -> bytes | None:
    """None: it is a name."""
    try:
        return bytes.fromhex(match.replace(":", "")) if ":" in match else None
    except ValueError:
        return None


def _carries_default_route(netlink: RawSocket, index: int) -> bool:
    """The kernel sifts by device itself, if it can (4.20)."""
    device = struct.pack("=I", index)
    asked = ROUTE_BODY.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_OIF, device)
    for message in netlink.dump(RTM_GETROUTE, asked):
        is_default = message[HEADER.size + 1] == 0
        if is_default and attributes(message, HEADER.size + ROUTE_BODY.size).get(RTA_OIF) == device:
            return True
    return False


def give_eni_back(home: Home) -> None:
    """Move the card back home under its old name; called with the thread inside the namespace. Absent is fine."""
    with IPRoute() as ip:
        link = link_by_name(ip, ENI_DEVICE)
        if link is None:
            return
        name = str(link.get_attr("IFLA_IFALIAS") or "").removeprefix(ALIAS_PREFIX)
        ip.link("set", index=link["index"], state="down")
        target: dict[str, Any] = {"net_ns_fd": home.fd}
        if name:
            target["ifname"] = name
        ip.link("set", index=link["index"], **target)


def make_tunnel(tunnel: Tunnel, namespace: str | None, home: Home) -> None:
    """Make or adjust the tunnel; called with the thread inside its namespace.

    The device is asked for at home, so that outer packets use the underlay. One that a crash left there is removed
    first: two devices with one local address and key cannot exist.

    Raises:
        OSError: the kernel refused.
    """
    index = index_of(tunnel.device)
    if index is not None or namespace is None:
        with RawSocket() as netlink:
            if index is None:
                netlink.require([encode_tunnel(tunnel, is_up=tunnel.is_up)])
            else:
                netlink.require([encode_link(index, is_up=tunnel.is_up, mtu=tunnel.mtu)])
        return
    with _at_home(home, namespace) as target, RawSocket() as netlink:
        left_over = index_of(tunnel.device)
        if left_over is not None:
            netlink.require([encode_link_removal(left_over)])
        if tunnel.kind in _IS_MADE_IN_PLACE:
            netlink.require([encode_tunnel(tunnel, is_up=tunnel.is_up, namespace=target)])
        else:
            netlink.require([encode_tunnel(tunnel, is_up=False)])
            netlink.require([encode_link(tunnel.device, is_up=tunnel.is_up, namespace=target)])


@contextmanager
def _at_home(home: Home, namespace: str) -> Iterator[int]:
    """Be at home for a block, with the thread back inside the namespace afterwards. Gives the namespace's descriptor,
    good for the block.
    """
    target = os.open(namespace_path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(home.fd)
        try:
            yield target
        finally:
            enter(target)
    finally:
        os.close(target)
