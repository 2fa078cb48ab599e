"""The two devices of a subnet: the card that is moved in, and the tunnel that is made at home and moved in."""

from __future__ import annotations

import os
from typing import Any

from pyroute2 import IPRoute, netns

from proxypool.adapters.netlink.inventory import link_by_name
from proxypool.adapters.netlink.namespaces import Home, namespace_path
from proxypool.adapters.netlink.observe import ALIAS_PREFIX, IFF_UP
from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.scene import Eni, Tunnel

GRE_KEY = 0x2000
"""The key-present bit of GRE flags (RFC 2890), in network order as the kernel's attribute wants it."""
TTL = 64


def take_eni(eni: Eni, namespace: str | None, home: Home) -> None:
    """Move the card into a namespace under its fixed name; called with the thread inside that namespace.

    Raises:
        TransientError: the card is not on this machine (yet).
        PermanentError: the card is one that must not be taken.
    """
    if namespace is None:
        raise PermanentError("a card can only be moved into a subnet's namespace")
    with IPRoute() as ip:
        link = link_by_name(ip, eni.device)
        if link is None:
            _bring_in(eni, namespace, home)
            link = link_by_name(ip, eni.device)
        if link is None:
            raise TransientError(f"ENI {eni.match} did not arrive in {namespace}")
        ip.link("set", index=link["index"], state="up" if eni.is_up else "down")


def _bring_in(eni: Eni, namespace: str, home: Home) -> None:
    with home_socket(home, namespace) as ip:
        link = _find(ip, eni.match)
        if link is None:
            raise TransientError(f"ENI {eni.match} is not on this machine: attach it, or correct the pair's member")
        name = str(link.get_attr("IFLA_IFNAME"))
        if link.get_attr("IFLA_MASTER") is not None or _carries_default_route(ip, int(link["index"])):
            raise PermanentError(f"{name} is not a customer's card: it belongs to a bridge or has the default route")
        target = os.open(namespace_path(namespace), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if link["flags"] & IFF_UP:
                ip.link("set", index=link["index"], state="down")
            ip.link("set", index=link["index"], ifalias=ALIAS_PREFIX + (name if name != ENI_DEVICE else eni.match))
            ip.link("set", index=link["index"], net_ns_fd=target, ifname=ENI_DEVICE)
        finally:
            os.close(target)


def _find(ip: IPRoute, match: str) -> Any | None:  # noqa: ANN401 - pyroute2 messages are untyped
    """By MAC, by name, or by our alias: a card whose namespace was removed comes home under its name in there."""
    links = list(ip.link("dump"))
    if ":" in match:
        return next((link for link in links if str(link.get_attr("IFLA_ADDRESS")).lower() == match.lower()), None)
    by_name = next((link for link in links if link.get_attr("IFLA_IFNAME") == match), None)
    return by_name or next((link for link in links if link.get_attr("IFLA_IFALIAS") == ALIAS_PREFIX + match), None)


def _carries_default_route(ip: IPRoute, index: int) -> bool:
    return any(
        route["dst_len"] == 0 and route.get_attr("RTA_OIF") == index for route in ip.route("dump", family=2)
    )


def give_eni_back(namespace: str, home: Home) -> None:
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
    """
    with IPRoute() as ip:
        link = link_by_name(ip, tunnel.device)
        if link is None and namespace is not None:
            with home_socket(home, namespace) as at_home:
                _make_at_home(at_home, tunnel, namespace)
            link = link_by_name(ip, tunnel.device)
        elif link is None:
            ip.link("add", ifname=tunnel.device, kind=tunnel.kind, **_link_arguments(tunnel))
            link = link_by_name(ip, tunnel.device)
        if link is None:
            raise TransientError(f"tunnel {tunnel.device} did not arrive in {namespace}")
        ip.link("set", index=link["index"], mtu=tunnel.mtu)
        ip.link("set", index=link["index"], state="up" if tunnel.is_up else "down")


def _make_at_home(ip: IPRoute, tunnel: Tunnel, namespace: str) -> None:
    left_over = link_by_name(ip, tunnel.device)
    if left_over is not None:
        ip.link("del", index=left_over["index"])
    ip.link("add", ifname=tunnel.device, kind=tunnel.kind, **_link_arguments(tunnel))
    link = link_by_name(ip, tunnel.device)
    if link is None:
        raise TransientError(f"tunnel {tunnel.device} vanished while it was made")
    target = os.open(namespace_path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        ip.link("set", index=link["index"], net_ns_fd=target)
    finally:
        os.close(target)


def _link_arguments(tunnel: Tunnel) -> dict[str, Any]:
    if tunnel.kind == "gre":
        return {
            "gre_local": str(tunnel.local),
            "gre_ikey": tunnel.tunnel_key,
            "gre_okey": tunnel.tunnel_key,
            "gre_iflags": GRE_KEY,
            "gre_oflags": GRE_KEY,
            "gre_ttl": TTL,
        }
    return {
        "vxlan_id": tunnel.tunnel_key,
        "vxlan_local": str(tunnel.local),
        "vxlan_port": tunnel.port,
        "vxlan_learning": 0,
        "vxlan_ttl": TTL,
        "address": tunnel.mac,
    }


class home_socket:  # noqa: N801 - reads as a function
    """An IPRoute of the home namespace, opened from inside another one; the thread is back inside afterwards."""

    def __init__(self, home: Home, namespace: str) -> None:
        """Remember where to go and where to come back to."""
        self._home, self._namespace = home, namespace

    def __enter__(self) -> IPRoute:
        """Open the socket at home."""
        netns.setns(self._home.fd, flags=0)
        try:
            self._ip = IPRoute()
        finally:
            netns.setns(namespace_path(self._namespace), flags=0)
        return self._ip

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self._ip.close()
