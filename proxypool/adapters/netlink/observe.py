"""Read our objects of the namespace the thread is in. What is not provably ours is left out.

Ours are: tunnel devices with our prefix, the card under its fixed name in a namespace of ours, addresses on these,
routes, rules and proxy neighbours with our protocol number, permanent neighbours and forwarding entries on our tunnels,
sets with our prefix, and on the card in a namespace of ours the filter with our priority.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Address
from typing import Self

from proxypool.adapters.netlink import decode, encode
from proxypool.adapters.netlink.decode import Link, Memory, What
from proxypool.adapters.netlink.encode import ADDRESS_BODY, NEIGHBOUR_BODY, ROUTE_BODY, RULE_BODY
from proxypool.adapters.netlink.errors import translated
from proxypool.adapters.netlink.namespaces import NAMESPACE_MARK
from proxypool.adapters.netlink.raw import RawSocket
from proxypool.adapters.netlink.sets import observe_sets
from proxypool.adapters.netlink.source_guard import observe_guard
from proxypool.core.addressing import ENI_DEVICE, TUNNEL_DEVICE_PREFIX
from proxypool.core.composite import flat
from proxypool.core.scene import ROUTE_PROTOCOL, AnyObject, Eni, Key, Scene, SourceGuard, Tunnel

ALIAS_PREFIX = "proxypool:"
"""Alias of a moved card: the prefix, then the name it had in the root namespace."""
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE = 18, 22, 26, 30, 34
_LINK_REQUEST = bytes(16)
_ADDRESS_REQUEST = ADDRESS_BODY.pack(socket.AF_INET, 0, 0, 0, 0)
_ROUTE_REQUEST = ROUTE_BODY.pack(socket.AF_INET, 0, 0, 0, 0, ROUTE_PROTOCOL, 0, 0, 0)
"""The kernel sifts by protocol itself: a machine can have many routes of others."""
_NEIGHBOUR_REQUEST = NEIGHBOUR_BODY.pack(socket.AF_INET, 0, 0, 0, 0)
PROXY_REQUEST = NEIGHBOUR_BODY.pack(socket.AF_INET, 0, 0, encode.NTF_PROXY, 0)
_FORWARDING_REQUEST = NEIGHBOUR_BODY.pack(socket.AF_BRIDGE, 0, 0, 0, 0)
_RULE_REQUEST = RULE_BODY.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)


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

    def __init__(self, what: str, memory: Memory | None = None) -> None:
        """Open the socket and read the links. `what` is for messages, `memory` of earlier looks at the namespace."""
        self._what, self._memory = what, memory or Memory()
        with translated(f"read links of {what}"):
            self._netlink = RawSocket()
            try:
                self._links = [decode.parse_link(link) for link in self._netlink.dump(RTM_GETLINK, _LINK_REQUEST)]
            except BaseException:
                self._netlink.close()
                raise

    def __enter__(self) -> Self:
        """Nothing more is opened."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._netlink.close()

    def ownership(self) -> Ownership:
        """Whose the namespace is."""
        aliases = {link.name: link.alias for link in self._links}
        if aliases.get("lo") == NAMESPACE_MARK:
            return Ownership.OURS
        return Ownership.UNMARKED if set(aliases) <= {"lo"} else Ownership.FOREIGN

    def objects(self, desired: Scene) -> dict[Key, AnyObject]:
        """Our netlink objects. Those that are as desired are the desired ones themselves.

        `desired` also says how the card is named (by interface name or MAC), whether sets are to be looked for, and of
        which the members count.
        """
        is_namespace_ours = desired.namespace is not None
        ours = [
            link
            for link in self._links
            if link.name.startswith(TUNNEL_DEVICE_PREFIX) or (is_namespace_ours and link.name == ENI_DEVICE)
        ]
        wanted = flat(desired.objects)
        found: dict[Key, AnyObject] = {}
        for link in ours:
            item = _link(link, desired)
            found[item.key] = item
        names = {link.index: link.name for link in ours}
        tunnels = {index: name for index, name in names.items() if name != ENI_DEVICE}
        every_name = {link.index: link.name for link in self._links}
        dump, understand = self._netlink.dump, self._memory.understand
        with translated(f"observe {self._what}"):
            found |= understand(What.ROUTES, dump(RTM_GETROUTE, _ROUTE_REQUEST), every_name, wanted)
            if names:
                messages = dump(RTM_GETADDR, _ADDRESS_REQUEST)
                found |= understand(What.ADDRESSES, messages, names, wanted)
            if tunnels:
                messages = dump(RTM_GETNEIGH, _NEIGHBOUR_REQUEST)
                found |= understand(What.NEIGHBOURS, messages, tunnels, wanted)
                messages = dump(RTM_GETNEIGH, _FORWARDING_REQUEST)
                found |= understand(What.FORWARDING, messages, tunnels, wanted)
            if is_namespace_ours:
                found |= self._guards(names, wanted)
                found |= understand(What.PROXIES, dump(RTM_GETNEIGH, PROXY_REQUEST), names, wanted)
            else:
                found |= understand(What.RULES, dump(RTM_GETRULE, _RULE_REQUEST), {}, wanted)
            if any(key[0] == "set" for key in wanted):
                found |= {item.key: item for item in observe_sets(desired)}
        return found

    def _guards(self, names: Mapping[int, str], wanted: Mapping[Key, AnyObject]) -> dict[Key, AnyObject]:
        for index, name in names.items():
            if name == ENI_DEVICE:
                desired = wanted.get(("guard", name))
                guard = observe_guard(self._netlink, name, index, desired if isinstance(desired, SourceGuard) else None)
                return {} if guard is None else {guard.key: guard}
        return {}


def _link(link: Link, desired: Scene) -> Eni | Tunnel:
    if link.name == ENI_DEVICE:
        return Eni(link.name, _eni_match(link, desired), link.is_up)
    if link.kind == "gre" and link.data:
        local = link.address(encode.IFLA_GRE_LOCAL)
        return Tunnel(link.name, "gre", local, link.number(encode.IFLA_GRE_IKEY), link.mtu, is_up=link.is_up)
    if link.kind == "vxlan" and link.data:
        return Tunnel(
            link.name,
            "vxlan",
            link.address(encode.IFLA_VXLAN_LOCAL),
            link.own_number(encode.IFLA_VXLAN_ID),
            link.mtu,
            mac=link.mac,
            port=link.port(encode.IFLA_VXLAN_PORT),
            is_up=link.is_up,
        )
    # Our name, but not a tunnel: replaced by hand. Shown as what it is, so that it differs from any wish.
    return Tunnel(link.name, str(link.kind), IPv4Address(0), 0, link.mtu, is_up=link.is_up)


def _eni_match(link: Link, desired: Scene) -> str:
    wanted = desired.objects.get(("eni", ENI_DEVICE))
    if isinstance(wanted, Eni) and ":" in wanted.match:
        return wanted.match if wanted.match.lower() == link.mac.lower() else link.mac
    return link.alias.removeprefix(ALIAS_PREFIX)
