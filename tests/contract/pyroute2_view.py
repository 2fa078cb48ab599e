"""What a namespace holds of ours, as pyroute2's parsers read it: what our own must agree with."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from proxypool.adapters.netlink.observe import PROXY_REQUEST, RTM_GETNEIGH
from proxypool.adapters.netlink.raw import RawSocket
from proxypool.core.addressing import ENI_DEVICE, TUNNEL_DEVICE_PREFIX
from proxypool.core.scene import (
    ROUTE_PROTOCOL,
    Address,
    AnyObject,
    Eni,
    ForwardingEntry,
    Key,
    Neighbour,
    PolicyRule,
    ProxyNeighbour,
    Route,
    RouteKind,
    RuleAction,
    Scene,
    Tunnel,
)

ALIAS_PREFIX = "proxypool:"
IFF_UP = 1
NUD_PERMANENT = 0x80
NTF_PROXY = 8
RTNH_F_ONLINK = 4
NO_SUPPRESSION = 0xFFFFFFFF
_RULE_ACTIONS = {1: RuleAction.LOOKUP, 2: RuleAction.GOTO, 3: RuleAction.NOP}
_ROUTE_KINDS = {1: RouteKind.UNICAST, 6: RouteKind.BLACKHOLE, 7: RouteKind.UNREACHABLE}
Message = Any


def view(desired: Scene) -> dict[Key, AnyObject]:
    """Our objects of the calling thread's namespace, without sets."""
    with IPRoute() as ip:
        links = {int(link["index"]): link for link in ip.link("dump")}
        names = {index: str(link.get_attr("IFLA_IFNAME")) for index, link in links.items()}
        ours = {
            index: name
            for index, name in names.items()
            if name.startswith(TUNNEL_DEVICE_PREFIX) or (desired.namespace is not None and name == ENI_DEVICE)
        }
        found: list[AnyObject] = []
        for index, name in ours.items():
            found += links_of(links[index], name, desired)
        found += addresses_of(ip, ours)
        found += routes_of(ip, names)
        found += neighbours_of(ip, {index: name for index, name in ours.items() if name != ENI_DEVICE})
        found += rules_of(ip) if desired.namespace is None else proxies_of(ours)
    return {item.key: item for item in found}


def links_of(link: Message, name: str, desired: Scene) -> Iterator[AnyObject]:
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


def addresses_of(ip: IPRoute, ours: dict[int, str]) -> Iterator[Address]:
    for message in ip.addr("dump", family=socket.AF_INET):
        name = ours.get(message["index"])
        if name is not None:
            local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            yield Address(name, IPv4Interface(f"{local}/{message['prefixlen']}"))


def routes_of(ip: IPRoute, names: dict[int, str]) -> Iterator[Route]:
    for message in ip.route("dump", family=socket.AF_INET):
        if message["proto"] != ROUTE_PROTOCOL or message["type"] not in _ROUTE_KINDS:
            continue
        kind = _ROUTE_KINDS[message["type"]]
        gateway = message.get_attr("RTA_GATEWAY")
        index = message.get_attr("RTA_OIF")
        destination = message.get_attr("RTA_DST") or "0.0.0.0"
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


def proxies_of(ours: dict[int, str]) -> Iterator[AnyObject]:
    """pyroute2 parses these messages, but cannot ask for them."""
    with RawSocket() as netlink:
        messages = netlink.dump(RTM_GETNEIGH, PROXY_REQUEST)
    for data in messages:
        message = ndmsg(data)
        message.decode()
        is_ours = message["flags"] & NTF_PROXY and message.get_attr("NDA_PROTOCOL") == ROUTE_PROTOCOL
        if is_ours and message["ifindex"] in ours:
            yield ProxyNeighbour(ours[message["ifindex"]], IPv4Address(message.get_attr("NDA_DST")))


def neighbours_of(ip: IPRoute, tunnels: dict[int, str]) -> Iterator[AnyObject]:
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
    if len(parts) == 4:
        return str(IPv4Address(bytes(int(part, 16) for part in parts)))
    return raw


def rules_of(ip: IPRoute) -> Iterator[PolicyRule]:
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
