"""Read our objects of the namespace the thread is in. What is not provably ours is left out.

Ours are: tunnel devices with our prefix, the card under its fixed name in a namespace of ours, addresses on these,
routes and rules with our protocol number, permanent neighbours and forwarding entries on our tunnels, sets with our
prefix.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Self

from pyroute2 import IPRoute

from proxypool.adapters.netlink.errors import translated
from proxypool.adapters.netlink.namespaces import NAMESPACE_MARK
from proxypool.adapters.netlink.sets import observe_sets
from proxypool.core.addressing import ENI_DEVICE, TUNNEL_DEVICE_PREFIX
from proxypool.core.scene import (
    ROUTE_PROTOCOL,
    Address,
    AnyObject,
    Eni,
    ForwardingEntry,
    Neighbour,
    PolicyRule,
    Route,
    RouteKind,
    RuleAction,
    Scene,
    Tunnel,
)

ALIAS_PREFIX = "proxypool:"
"""Alias of a moved card: the prefix, then the name it had in the root namespace."""
IFF_UP = 1
NUD_PERMANENT = 0x80
RTN_UNICAST, RTN_BLACKHOLE, RTN_UNREACHABLE = 1, 6, 7
RTNH_F_ONLINK = 4
FR_ACT_TO_TBL, FR_ACT_GOTO, FR_ACT_NOP = 1, 2, 3
NO_SUPPRESSION = 0xFFFFFFFF
_RULE_ACTIONS = {FR_ACT_TO_TBL: RuleAction.LOOKUP, FR_ACT_GOTO: RuleAction.GOTO, FR_ACT_NOP: RuleAction.NOP}
_ROUTE_KINDS = {
    RTN_UNICAST: RouteKind.UNICAST,
    RTN_BLACKHOLE: RouteKind.BLACKHOLE,
    RTN_UNREACHABLE: RouteKind.UNREACHABLE,
}
Message = Any
"""pyroute2's messages are dictionaries without types."""


class Ownership(Enum):
    """Whose a namespace with our kind of name is."""

    OURS = "ours"
    UNMARKED = "unmarked"
    """Empty and without a mark: a crash between making and marking it."""
    FOREIGN = "foreign"


class View:
    """What the namespace of the calling thread holds, through one socket; its links are read once.

    Raises:
        TransientError: the kernel did not answer completely; from the methods as well.
    """

    def __init__(self, what: str) -> None:
        """Open the socket and read the links. `what` is for messages."""
        self._what = what
        with translated(f"read links of {what}"):
            self._ip = IPRoute()
            try:
                self._links = {int(link["index"]): link for link in self._ip.link("dump")}
            except BaseException:
                self._ip.close()
                raise

    def __enter__(self) -> Self:
        """Nothing more is opened."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._ip.close()

    def ownership(self) -> Ownership:
        """Whose the namespace is."""
        aliases = {str(link.get_attr("IFLA_IFNAME")): link.get_attr("IFLA_IFALIAS") for link in self._links.values()}
        if aliases.get("lo") == NAMESPACE_MARK:
            return Ownership.OURS
        return Ownership.UNMARKED if set(aliases) <= {"lo"} else Ownership.FOREIGN

    def objects(self, desired: Scene) -> list[AnyObject]:
        """Our netlink objects.

        `desired` only says how the card is named (by interface name or MAC), whether sets are to be looked for, and
        of which the members count.
        """
        names = {index: str(link.get_attr("IFLA_IFNAME")) for index, link in self._links.items()}
        is_namespace_ours = desired.namespace is not None
        ours = {
            index: name
            for index, name in names.items()
            if name.startswith(TUNNEL_DEVICE_PREFIX) or (is_namespace_ours and name == ENI_DEVICE)
        }
        found: list[AnyObject] = []
        with translated(f"observe {self._what}"):
            for index, name in ours.items():
                found += _links(self._links[index], name, desired)
            found += _addresses(self._ip, ours)
            found += _routes(self._ip, names)
            found += _neighbours(self._ip, {index: name for index, name in ours.items() if name != ENI_DEVICE})
            if not is_namespace_ours:
                found += _rules(self._ip)
            if any(key[0] == "set" for key in desired.objects):
                found += observe_sets(desired)
        return found


def _links(link: Message, name: str, desired: Scene) -> Iterator[AnyObject]:
    is_up = bool(link["flags"] & IFF_UP)
    if name == ENI_DEVICE:
        yield Eni(name, _eni_match(link, desired), is_up)
        return
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    data = info.get_attr("IFLA_INFO_DATA") if info else None
    mtu = int(link.get_attr("IFLA_MTU"))
    if kind == "gre" and data is not None:
        local = IPv4Address(data.get_attr("IFLA_GRE_LOCAL"))
        yield Tunnel(name, kind, local, int(data.get_attr("IFLA_GRE_IKEY") or 0), mtu, is_up=is_up)
    elif kind == "vxlan" and data is not None:
        local = IPv4Address(data.get_attr("IFLA_VXLAN_LOCAL") or 0)
        port = data.get_attr("IFLA_VXLAN_PORT")
        yield Tunnel(
            name,
            kind,
            local,
            int(data.get_attr("IFLA_VXLAN_ID")),
            mtu,
            mac=str(link.get_attr("IFLA_ADDRESS")),
            port=int(port) if port is not None else None,
            is_up=is_up,
        )
    else:
        # Our name, but not a tunnel: replaced by hand. Shown as what it is, so that it differs from any wish.
        yield Tunnel(name, str(kind), IPv4Address(0), 0, mtu, is_up=is_up)


def _eni_match(link: Message, desired: Scene) -> str:
    wanted = desired.objects.get(("eni", ENI_DEVICE))
    mac = str(link.get_attr("IFLA_ADDRESS"))
    if isinstance(wanted, Eni) and ":" in wanted.match:
        return wanted.match if wanted.match.lower() == mac.lower() else mac
    return str(link.get_attr("IFLA_IFALIAS") or "").removeprefix(ALIAS_PREFIX)


def _addresses(ip: IPRoute, ours: dict[int, str]) -> Iterator[Address]:
    for message in ip.addr("dump", family=socket.AF_INET):
        name = ours.get(message["index"])
        if name is not None:
            local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            yield Address(name, IPv4Interface(f"{local}/{message['prefixlen']}"))


def _routes(ip: IPRoute, names: dict[int, str]) -> Iterator[Route]:
    for message in ip.route("dump", family=socket.AF_INET):
        if message["proto"] != ROUTE_PROTOCOL or message["type"] not in _ROUTE_KINDS:
            continue
        kind = _ROUTE_KINDS[message["type"]]
        gateway = message.get_attr("RTA_GATEWAY")
        index = message.get_attr("RTA_OIF")
        destination = message.get_attr("RTA_DST") or "0.0.0.0"  # noqa: S104 - the default route, not a bind
        yield Route(
            IPv4Network(f"{destination}/{message['dst_len']}"),
            kind,
            # blackhole and unreachable routes report lo in some kernels
            device=names.get(index) if kind is RouteKind.UNICAST and index is not None else None,
            gateway=IPv4Address(gateway) if gateway else None,
            is_onlink=bool(message["flags"] & RTNH_F_ONLINK),
            table=int(message.get_attr("RTA_TABLE") or message["table"]),
            metric=int(message.get_attr("RTA_PRIORITY") or 0),
            realm=int(message.get_attr("RTA_FLOW") or 0),
        )


def _neighbours(ip: IPRoute, tunnels: dict[int, str]) -> Iterator[AnyObject]:
    if not tunnels:
        return
    for message in ip.neigh("dump", family=socket.AF_INET):
        name = tunnels.get(message["ifindex"])
        link_address = message.get_attr("NDA_LLADDR")
        if name is not None and message["state"] & NUD_PERMANENT and link_address:
            yield Neighbour(name, IPv4Address(message.get_attr("NDA_DST")), _link_address_text(link_address))
    for message in ip.neigh("dump", family=socket.AF_BRIDGE):
        name = tunnels.get(message["ifindex"])
        remote = message.get_attr("NDA_DST")
        mac = message.get_attr("NDA_LLADDR")
        if name is not None and remote and mac and message["state"] & NUD_PERMANENT:
            yield ForwardingEntry(name, str(mac), IPv4Address(remote))


def _link_address_text(raw: str) -> str:
    """A GRE neighbour's 4-byte address may come as `0a:63:00:02`; ours are dotted."""
    parts = raw.split(":")
    if len(parts) == 4:  # noqa: PLR2004 - bytes of an IPv4 address
        return str(IPv4Address(bytes(int(part, 16) for part in parts)))
    return raw


def _rules(ip: IPRoute) -> Iterator[PolicyRule]:
    for message in ip.rule("dump", family=socket.AF_INET):
        if message.get_attr("FRA_PROTOCOL") != ROUTE_PROTOCOL or message["action"] not in _RULE_ACTIONS:
            continue
        action = _RULE_ACTIONS[message["action"]]
        target = {
            RuleAction.LOOKUP: message.get_attr("FRA_TABLE") or message["table"],
            RuleAction.GOTO: message.get_attr("FRA_GOTO"),
        }.get(action)
        suppressed = message.get_attr("FRA_SUPPRESS_PREFIXLEN")
        source = message.get_attr("FRA_SRC")
        yield PolicyRule(
            int(message.get_attr("FRA_PRIORITY") or 0),
            action,
            int(target or 0),
            IPv4Network(f"{source}/{message['src_len']}") if source else None,
            int(message.get_attr("FRA_FWMARK") or 0),
            int(message.get_attr("FRA_FWMASK") or 0),
            None if suppressed in (None, NO_SUPPRESSION) else int(suppressed),
        )
