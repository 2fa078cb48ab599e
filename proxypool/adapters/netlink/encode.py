"""Objects of a scene as rtnetlink messages. Formats: linux/rtnetlink.h, neighbour.h, fib_rules.h, if_addr.h."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TypeAlias

from proxypool.adapters.netlink.raw import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, attribute
from proxypool.core.scene import (
    ROUTE_PROTOCOL,
    Address,
    ForwardingEntry,
    Neighbour,
    PolicyRule,
    ProxyNeighbour,
    Route,
    RouteKind,
    RuleAction,
    Tunnel,
)

Batched: TypeAlias = Address | Route | PolicyRule | Neighbour | ProxyNeighbour | ForwardingEntry
BATCHED = (Address, Route, PolicyRule, Neighbour, ProxyNeighbour, ForwardingEntry)
"""What is one message each."""

RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK = 16, 17, 19
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
RTM_NEWRULE, RTM_DELRULE = 32, 33
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 10, 18, 20
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_GRE_IFLAGS, IFLA_GRE_OFLAGS, IFLA_GRE_IKEY, IFLA_GRE_OKEY, IFLA_GRE_LOCAL, IFLA_GRE_TTL = 2, 3, 4, 5, 6, 8
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_TTL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT = 1, 4, 5, 7, 15
IFF_UP = 1
GRE_KEY = b"\x20\0"
"""The key-present bit of GRE flags (RFC 2890), in network order."""
TUNNEL_TTL = 64
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_FLOW, RTA_TABLE = 1, 4, 5, 6, 11, 15
NDA_DST, NDA_LLADDR, NDA_PROTOCOL = 1, 2, 12
FRA_SRC, FRA_GOTO, FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK = 2, 4, 6, 10, 14, 15, 16
FRA_PROTOCOL = 21
LINK_BODY = struct.Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
ROUTE_BODY = struct.Struct("=8BI")
"""rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags."""
RULE_BODY = ROUTE_BODY
"""fib_rule_hdr: family, destination and source length, tos, table, two reserved, action, flags."""
NEIGHBOUR_BODY = struct.Struct("=BxxxiHBB")
"""ndmsg: family, index, state, flags, type."""
ADDRESS_BODY = struct.Struct("=4BI")
"""ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE_TYPES = {RouteKind.UNICAST: 1, RouteKind.BLACKHOLE: 6, RouteKind.UNREACHABLE: 7, RouteKind.THROW: 9}
RULE_ACTIONS = {RuleAction.LOOKUP: 1, RuleAction.GOTO: 2, RuleAction.NOP: 3}
RTNH_F_ONLINK = 4
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_ANY = 0, 253, 255
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_SELF, NTF_PROXY = 2, 8
_U32, _BE32, _BE16 = struct.Struct("=I"), struct.Struct(">I"), struct.Struct(">H")

IndexOf: TypeAlias = Callable[[str], int]


def encode_put(item: Batched, index_of: IndexOf) -> Request:
    """Make it exist as described. Again is fine, except that a rule that is there is answered with EEXIST."""
    match item:
        case Route():
            return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _route(item, index_of))
        case Neighbour() | ForwardingEntry():
            return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, _neighbour(item, index_of))
        case ProxyNeighbour():
            return Request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, _proxy(item, index_of))
        case Address():
            return Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address(item, index_of))
        case PolicyRule():
            return Request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _rule(item))


def encode_remove(item: Batched, index_of: IndexOf) -> Request:
    """Make it not exist. What is not there is answered with an error number."""
    match item:
        case Route():
            return Request(RTM_DELROUTE, 0, _route_name(item, scope=SCOPE_ANY, flags=0))
        case Neighbour() | ForwardingEntry():
            return Request(RTM_DELNEIGH, 0, _neighbour(item, index_of))
        case ProxyNeighbour():
            return Request(RTM_DELNEIGH, 0, _proxy(item, index_of))
        case Address():
            return Request(RTM_DELADDR, 0, _address(item, index_of))
        case PolicyRule():
            return Request(RTM_DELRULE, 0, _rule(item))


def _route(route: Route, index_of: IndexOf) -> bytes:
    scope = SCOPE_LINK if route.device is not None and route.gateway is None else SCOPE_UNIVERSE
    body = _route_name(route, scope, flags=RTNH_F_ONLINK if route.is_onlink else 0)
    if route.device is not None:
        body += _u32(RTA_OIF, index_of(route.device))
    if route.gateway is not None:
        body += attribute(RTA_GATEWAY, route.gateway.packed)
    if route.realm:
        body += _u32(RTA_FLOW, route.realm)
    return body


def _route_name(route: Route, scope: int, flags: int) -> bytes:
    """What says which route. The table is given as 32 bits, and 0 in the header's eight."""
    length = route.destination.prefixlen
    body = ROUTE_BODY.pack(socket.AF_INET, length, 0, 0, 0, ROUTE_PROTOCOL, scope, ROUTE_TYPES[route.kind], flags)
    if length:
        body += attribute(RTA_DST, route.destination.network_address.packed)
    body += _u32(RTA_TABLE, route.table)
    if route.metric:
        body += _u32(RTA_PRIORITY, route.metric)
    return body


def _neighbour(item: Neighbour | ForwardingEntry, index_of: IndexOf) -> bytes:
    index = index_of(item.device)
    if isinstance(item, Neighbour):
        head = NEIGHBOUR_BODY.pack(socket.AF_INET, index, NUD_PERMANENT, 0, 0)
        return head + attribute(NDA_DST, item.address.packed) + attribute(NDA_LLADDR, _link_address(item.link_address))
    # Permanent + noarp and the device itself: what `bridge fdb replace … dst …` sends.
    head = NEIGHBOUR_BODY.pack(socket.AF_BRIDGE, index, NUD_PERMANENT | NUD_NOARP, NTF_SELF, 0)
    return head + attribute(NDA_LLADDR, _link_address(item.mac)) + attribute(NDA_DST, item.remote.packed)


def _proxy(item: ProxyNeighbour, index_of: IndexOf) -> bytes:
    head = NEIGHBOUR_BODY.pack(socket.AF_INET, index_of(item.device), NUD_PERMANENT, NTF_PROXY, 0)
    return head + attribute(NDA_DST, item.address.packed) + attribute(NDA_PROTOCOL, bytes((ROUTE_PROTOCOL,)))


def _link_address(text: str) -> bytes:
    """A MAC address, or the IPv4 address of a GRE peer."""
    return bytes.fromhex(text.replace(":", "")) if ":" in text else socket.inet_aton(text)


def _address(item: Address, index_of: IndexOf) -> bytes:
    interface = item.interface
    packed = interface.ip.packed
    head = ADDRESS_BODY.pack(socket.AF_INET, interface.network.prefixlen, 0, SCOPE_UNIVERSE, index_of(item.device))
    return head + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)


def _rule(rule: PolicyRule) -> bytes:
    length = rule.source.prefixlen if rule.source is not None else 0
    body = RULE_BODY.pack(socket.AF_INET, 0, length, 0, 0, 0, 0, RULE_ACTIONS[rule.action], 0)
    body += _u32(FRA_PRIORITY, rule.priority) + attribute(FRA_PROTOCOL, bytes((ROUTE_PROTOCOL,)))
    if rule.action is RuleAction.LOOKUP:
        body += _u32(FRA_TABLE, rule.target)
    elif rule.action is RuleAction.GOTO:
        body += _u32(FRA_GOTO, rule.target)
    if rule.source is not None and length:
        body += attribute(FRA_SRC, rule.source.network_address.packed)
    if rule.mask:
        body += _u32(FRA_FWMARK, rule.mark) + _u32(FRA_FWMASK, rule.mask)
    if rule.suppress_prefix_length is not None:
        body += _u32(FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefix_length)
    return body


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def encode_tunnel(tunnel: Tunnel, *, is_up: bool, namespace: int | None = None) -> Request:
    """Make a tunnel device, whole: the kernel gives it its MTU and takes it up in the same step. One that is there is
    refused. `namespace` is the descriptor of one that it is to be made in; None: the sender's own.
    """
    flags = IFF_UP if is_up else 0
    body = LINK_BODY.pack(socket.AF_UNSPEC, 0, 0, flags, IFF_UP)
    body += attribute(IFLA_IFNAME, tunnel.device.encode() + b"\0") + _u32(IFLA_MTU, tunnel.mtu)
    ttl, local = bytes((TUNNEL_TTL,)), tunnel.local.packed
    if tunnel.kind == "gre":
        key = _BE32.pack(tunnel.tunnel_key)
        data = attribute(IFLA_GRE_LOCAL, local) + attribute(IFLA_GRE_IKEY, key) + attribute(IFLA_GRE_OKEY, key)
        data += attribute(IFLA_GRE_IFLAGS, GRE_KEY) + attribute(IFLA_GRE_OFLAGS, GRE_KEY)
        data += attribute(IFLA_GRE_TTL, ttl)
    else:
        body += attribute(IFLA_ADDRESS, _link_address(tunnel.mac or ""))
        data = _u32(IFLA_VXLAN_ID, tunnel.tunnel_key) + attribute(IFLA_VXLAN_LOCAL, local)
        data += attribute(IFLA_VXLAN_PORT, _BE16.pack(tunnel.port or 0))
        data += attribute(IFLA_VXLAN_LEARNING, b"\0") + attribute(IFLA_VXLAN_TTL, ttl)
    if namespace is not None:
        body += _u32(IFLA_NET_NS_FD, namespace)
    info = attribute(IFLA_INFO_KIND, tunnel.kind.encode()) + attribute(IFLA_INFO_DATA, data)
    return Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + attribute(IFLA_LINKINFO, info))


def encode_link(
    link: int | str,
    *,
    is_up: bool,
    name: str | None = None,
    alias: str | None = None,
    mtu: int | None = None,
    namespace: int | None = None,
) -> Request:
    """Change a link that is there, told by its index or its name; None: as it is.

    With `namespace`, the descriptor of one, it goes there first, under the new name, and all else is done to it there.
    """
    index = link if isinstance(link, int) else 0
    body = LINK_BODY.pack(socket.AF_UNSPEC, 0, index, IFF_UP if is_up else 0, IFF_UP)
    if isinstance(link, str):
        name = link
    if name is not None:
        body += attribute(IFLA_IFNAME, name.encode() + b"\0")
    if alias is not None:
        body += attribute(IFLA_IFALIAS, alias.encode())
    if mtu is not None:
        body += _u32(IFLA_MTU, mtu)
    if namespace is not None:
        body += _u32(IFLA_NET_NS_FD, namespace)
    return Request(RTM_SETLINK, 0, body)


def encode_link_removal(index: int) -> Request:
    """Remove a link."""
    return Request(RTM_DELLINK, 0, LINK_BODY.pack(socket.AF_UNSPEC, 0, index, 0, 0))
