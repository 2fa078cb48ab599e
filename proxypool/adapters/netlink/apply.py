"""Write one object in the namespace the thread is in. Every function may be called twice with the same result."""

from __future__ import annotations

import socket
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from proxypool.adapters.netlink.errors import absent_is_fine, translated
from proxypool.adapters.netlink.inventory import index_of
from proxypool.adapters.netlink.links import give_eni_back, make_tunnel, take_eni
from proxypool.adapters.netlink.namespaces import Home
from proxypool.adapters.netlink.observe import NUD_PERMANENT, RTNH_F_ONLINK
from proxypool.adapters.netlink.sets import put_set, remove_set
from proxypool.core.errors import TransientError
from proxypool.core.scene import (
    ROUTE_PROTOCOL,
    Address,
    AddressSet,
    AnyObject,
    Eni,
    ForwardingEntry,
    MarkedSet,
    Neighbour,
    PolicyRule,
    Route,
    RuleAction,
    Tunnel,
    UnknownSet,
)

NLM_F_REQUEST, NLM_F_ACK = 0x001, 0x004
NUD_NOARP = 0x40
SCOPE_LINK = 253


def apply_object(item: AnyObject, namespace: str | None, home: Home) -> None:
    """Make a netlink object be as described.

    Raises:
        TransientError, PermanentError: what the kernel refused, with the object in the text.
    """
    with translated(f"set {describe(item)}"):
        match item:
            case Eni():
                take_eni(item, namespace, home)
            case Tunnel():
                make_tunnel(item, namespace, home)
            case AddressSet() | MarkedSet():
                put_set(item)
            case _:
                with IPRoute() as ip:
                    _put(ip, item)


def remove_object(item: AnyObject, namespace: str | None, home: Home) -> None:
    """Make a netlink object not exist; an absent one is fine.

    Raises:
        TransientError, PermanentError: what the kernel refused.
    """
    with translated(f"remove {describe(item)}"):
        match item:
            case Eni() if namespace is not None:
                give_eni_back(home)
            case AddressSet() | MarkedSet() | UnknownSet():
                remove_set(item.name)
            case _:
                with IPRoute() as ip, absent_is_fine():
                    _remove(ip, item)


def describe(item: AnyObject) -> str:
    """An object in one line, for messages."""
    return " ".join(item.key)


def _index(device: str) -> int:
    index = index_of(device)
    if index is None:
        raise TransientError(f"device {device} is not there")
    return index


def _put(ip: IPRoute, item: AnyObject) -> None:
    match item:
        case Address(device, interface):
            ip.addr("replace", index=_index(device), address=str(interface.ip), prefixlen=interface.network.prefixlen)
        case Route():
            ip.route("replace", **_route_arguments(item))
        case PolicyRule():
            try:
                ip.rule("add", **_rule_arguments(item))
            except NetlinkError as error:
                if error.code != 17:  # noqa: PLR2004 - EEXIST: it is there already
                    raise
        case Neighbour(device, address, link_address):
            ip.neigh("replace", ifindex=_index(device), dst=str(address), lladdr=link_address, state="permanent")
        case ForwardingEntry(device, mac, remote):
            # NTF_SELF and permanent + noarp: what `bridge fdb replace … dst …` sends.
            ip.fdb("replace", ifindex=_index(device), lladdr=mac, dst=str(remote), flags=2,
                   state=NUD_PERMANENT | NUD_NOARP)  # fmt: skip
        case _:
            raise TypeError(f"not a netlink object: {item}")


def _remove(ip: IPRoute, item: AnyObject) -> None:
    match item:
        case Tunnel(device):
            index = index_of(device)
            if index is not None:
                ip.link("del", index=index)
        case Address(device, interface):
            index = index_of(device)
            if index is not None:
                ip.addr("del", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)
        case Route():
            ip.route("del", **_route_arguments(item, for_removal=True))
        case PolicyRule():
            ip.rule("del", **_rule_arguments(item))
        case Neighbour(device, address):
            index = index_of(device)
            if index is not None:
                ip.neigh("del", ifindex=index, dst=str(address))
        case ForwardingEntry(device, mac, remote):
            index = index_of(device)
            if index is not None:
                ip.fdb("del", ifindex=index, lladdr=mac, dst=str(remote), flags=2)
        case _:
            raise TypeError(f"not a netlink object: {item}")


def _route_arguments(route: Route, *, for_removal: bool = False) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "dst": str(route.destination),
        "table": route.table,
        "proto": ROUTE_PROTOCOL,
        "type": route.kind.value,
        "family": socket.AF_INET,
    }
    if route.metric:
        arguments["priority"] = route.metric
    if for_removal:
        return arguments
    if route.device is not None:
        arguments["oif"] = _index(route.device)
        if route.gateway is None:
            arguments["scope"] = SCOPE_LINK
    if route.gateway is not None:
        arguments["gateway"] = str(route.gateway)
    if route.realm:
        arguments["RTA_FLOW"] = route.realm
    if route.is_onlink:
        arguments["flags"] = RTNH_F_ONLINK
    return arguments


def _rule_arguments(rule: PolicyRule) -> dict[str, Any]:
    arguments: dict[str, Any] = {"priority": rule.priority, "protocol": ROUTE_PROTOCOL}
    match rule.action:
        case RuleAction.LOOKUP:
            arguments["table"] = rule.target
        case RuleAction.GOTO:
            arguments |= {"action": "goto", "goto": rule.target}
        case RuleAction.NOP:
            arguments["action"] = "nop"
    if rule.source is not None:
        arguments |= {"src": str(rule.source.network_address), "src_len": rule.source.prefixlen}
    if rule.mask:
        arguments |= {"fwmark": rule.mark, "fwmask": rule.mask}
    if rule.suppress_prefix_length is not None:
        arguments["FRA_SUPPRESS_PREFIXLEN"] = rule.suppress_prefix_length
    return arguments
