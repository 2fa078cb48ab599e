"""The two devices of a subnet: the card that is moved in, and the tunnel that is made at home and moved in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute, netns

from proxypool.adapters.netlink.encode import encode_tunnel
from proxypool.adapters.netlink.inventory import index_of, link_by_name
from proxypool.adapters.netlink.namespaces import Home, namespace_path
from proxypool.adapters.netlink.observe import ALIAS_PREFIX
from proxypool.adapters.netlink.raw import RawSocket
from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.scene import Eni, Tunnel

IFF_UP = 1


def take_eni(eni: Eni, namespace: str | None, home: Home) -> None:
    """Move the card into a namespace under its fixed name; called with the thread inside that namespace.

    Raises:
        TransientError: the card is not on this machine (yet).
        PermanentError: the card is one that must not be taken.
    """
    if namespace is None:
        raise PermanentError("a card can only be moved into a subnet's namespace")
    if index_of(eni.device) is None:
        with _visit(home, namespace), IPRoute() as ip:
            _send_off(ip, eni, namespace)
    index = index_of(eni.device)
    if index is None:
        raise TransientError(f"ENI {eni.match} did not arrive in {namespace}")
    with IPRoute() as ip:
        ip.link("set", index=index, state="up" if eni.is_up else "down")


def _send_off(ip: IPRoute, eni: Eni, namespace: str) -> None:
    """At home: check the card, mark it with its name, and move it under the fixed name."""
    link = _find(ip, eni.match)
    if link is None:
        raise TransientError(f"ENI {eni.match} is not on this machine: attach it, or correct the pair's member")
    name, index = str(link.get_attr("IFLA_IFNAME")), int(link["index"])
    if link.get_attr("IFLA_MASTER") is not None or _carries_default_route(ip, index):
        raise PermanentError(f"{name} is not a customer's card: it belongs to a bridge or has the default route")
    # A card whose namespace was removed under it comes home under its name in there.
    original = name if name != ENI_DEVICE else eni.match
    target = os.open(namespace_path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if link["flags"] & IFF_UP:
            ip.link("set", index=index, state="down")
        ip.link("set", index=index, ifalias=ALIAS_PREFIX + original)
        ip.link("set", index=index, net_ns_fd=target, ifname=ENI_DEVICE)
    finally:
        os.close(target)


def _find(ip: IPRoute, match: str) -> Any | None:
    """By name, by MAC, or by our alias."""
    link = None if ":" in match else link_by_name(ip, match)
    if link is not None:
        return link
    for link in ip.link("dump"):
        if str(link.get_attr("IFLA_ADDRESS")).lower() == match.lower():
            return link
        if link.get_attr("IFLA_IFALIAS") == ALIAS_PREFIX + match:
            return link
    return None


def _carries_default_route(ip: IPRoute, index: int) -> bool:
    return any(route["dst_len"] == 0 and route.get_attr("RTA_OIF") == index for route in ip.route("dump", family=2))


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

    The device is made at home, so that outer packets use the underlay, and moved. One that a crash left at home is
    removed first: two devices with one local address and key cannot exist.

    Raises:
        TransientError: it vanished meanwhile.
    """
    if index_of(tunnel.device) is None:
        if namespace is None:
            _add(tunnel, is_up=tunnel.is_up)
            return
        with _visit(home, namespace), IPRoute() as ip:
            _make_at_home(ip, tunnel, namespace)
    index = index_of(tunnel.device)
    if index is None:
        raise TransientError(f"tunnel {tunnel.device} did not arrive in {namespace}")
    with IPRoute() as ip:
        ip.link("set", index=index, mtu=tunnel.mtu, state="up" if tunnel.is_up else "down")


def _make_at_home(ip: IPRoute, tunnel: Tunnel, namespace: str) -> None:
    left_over = index_of(tunnel.device)
    if left_over is not None:
        ip.link("del", index=left_over)
    _add(tunnel, is_up=False)
    target = os.open(namespace_path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        ip.link("set", index=index_of(tunnel.device), net_ns_fd=target)
    finally:
        os.close(target)


def _add(tunnel: Tunnel, *, is_up: bool) -> None:
    """On a function host it stands in the way of an instance's first packet, so it is one message and no library."""
    with RawSocket() as netlink:
        (code,) = netlink.change([encode_tunnel(tunnel, is_up=is_up)])
    if code:
        raise OSError(code, os.strerror(code))


@contextmanager
def _visit(home: Home, namespace: str) -> Iterator[None]:
    """Be at home for a block, with the thread back inside the namespace afterwards."""
    netns.setns(home.fd, flags=0)
    try:
        yield
    finally:
        netns.setns(namespace_path(namespace), flags=0)
