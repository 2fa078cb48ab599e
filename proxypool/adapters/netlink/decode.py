"""rtnetlink messages as objects of a scene, and what was understood before. Formats as in `encode`.

Parsing an object takes some ten microseconds, recognising a message a fraction of one: of a namespace that is looked at
again nearly everything is as it was (`Memory`).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TypeAlias

from proxypool.adapters.netlink import encode
from proxypool.adapters.netlink.encode import (
    ADDRESS_BODY,
    LINK_BODY,
    NEIGHBOUR_BODY,
    NUD_PERMANENT,
    ROUTE_BODY,
    RTNH_F_ONLINK,
    RULE_BODY,
)
from proxypool.adapters.netlink.raw import ATTRIBUTE, HEADER
from proxypool.core.scene import (
    ROUTE_PROTOCOL,
    Address,
    AnyObject,
    ForwardingEntry,
    Key,
    Neighbour,
    PolicyRule,
    ProxyNeighbour,
    Route,
    RouteKind,
    RuleAction,
)

NO_SUPPRESSION = 0xFFFFFFFF
_U32, _BE32, _BE16 = struct.Struct("=I"), struct.Struct(">I"), struct.Struct(">H")
_TYPE_MASK = 0x3FFF
"""Without the flags for nested and big-endian attributes."""
_ROUTE_KINDS = {number: kind for kind, number in encode.ROUTE_TYPES.items()}
_RULE_ACTIONS = {number: action for action, number in encode.RULE_ACTIONS.items()}
_CACHE_INFO = ATTRIBUTE.pack(20, 3)
"""NDA_CACHEINFO: how old a neighbour is; all that differs from one look to the next. What matters comes before it."""
_IPV4_BYTES = 4

Names: TypeAlias = Mapping[int, str]
"""Interface index -> name."""
Parse: TypeAlias = Callable[[bytes, Names], tuple[AnyObject | None, int]]
"""From a message without its header: what it is (None: not ours), and the index of the device it hangs on, or 0."""


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """Type -> value of the attributes from `offset` on; one that is cut off is left out."""
    found: dict[int, bytes] = {}
    end = len(body)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if length < ATTRIBUTE.size or offset + length > end:
            break
        found[kind & _TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. Of a tunnel what the kernel knows of it, else nothing."""

    index: int
    name: str
    is_up: bool
    mtu: int
    mac: str
    alias: str
    kind: str | None
    data: Mapping[int, bytes]
    has_master: bool = False
    """Whether it belongs to a bridge or the like."""

    def number(self, kind: int) -> int:
        """A 32-bit number of a GRE device, in network order; 0 if it is not there."""
        raw = self.data.get(kind)
        return int(_BE32.unpack(raw)[0]) if raw is not None else 0

    def own_number(self, kind: int) -> int:
        """A 32-bit number of a VXLAN device, in the machine's order."""
        raw = self.data.get(kind)
        return int(_U32.unpack(raw)[0]) if raw is not None else 0

    def port(self, kind: int) -> int | None:
        """A port."""
        raw = self.data.get(kind)
        return int(_BE16.unpack(raw)[0]) if raw is not None else None

    def address(self, kind: int) -> IPv4Address:
        """An IPv4 address; 0.0.0.0 if it is not there."""
        return IPv4Address(self.data.get(kind, bytes(_IPV4_BYTES)))


def parse_link(message: bytes) -> Link:
    """Of a whole message."""
    _, _, index, flags, _ = LINK_BODY.unpack_from(message, HEADER.size)
    found = attributes(message, HEADER.size + LINK_BODY.size)
    info = attributes(found.get(encode.IFLA_LINKINFO, b""), 0)
    return Link(
        index=index,
        name=_text(found[encode.IFLA_IFNAME]),
        is_up=bool(flags & 1),
        mtu=int(_U32.unpack(found[encode.IFLA_MTU])[0]),
        mac=found.get(encode.IFLA_ADDRESS, b"").hex(":"),
        alias=_text(found.get(encode.IFLA_IFALIAS, b"")),
        kind=_text(info[encode.IFLA_INFO_KIND]) if encode.IFLA_INFO_KIND in info else None,
        data=attributes(info.get(encode.IFLA_INFO_DATA, b""), 0),
        has_master=encode.IFLA_MASTER in found,
    )


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def parse_address(body: bytes, ours: Names) -> tuple[AnyObject | None, int]:
    """On a device of ours."""
    _, length, _, _, index = ADDRESS_BODY.unpack_from(body)
    name = ours.get(index)
    if name is None:
        return None, index
    found = attributes(body, ADDRESS_BODY.size)
    local = IPv4Address(found.get(encode.IFA_LOCAL) or found[encode.IFA_ADDRESS])
    return Address(name, IPv4Interface((int(local), length))), index


def parse_route(body: bytes, names: Names) -> tuple[AnyObject | None, int]:
    """With our protocol number."""
    _, length, _, _, table, protocol, _, kind_number, flags = ROUTE_BODY.unpack_from(body)
    kind = _ROUTE_KINDS.get(kind_number)
    found = attributes(body, ROUTE_BODY.size)
    index = _number(found, encode.RTA_OIF)
    if protocol != ROUTE_PROTOCOL or kind is None:
        return None, index
    gateway = found.get(encode.RTA_GATEWAY)
    route = Route(
        IPv4Network((found.get(encode.RTA_DST, bytes(_IPV4_BYTES)), length)),
        kind,
        # blackhole and unreachable routes report lo in some kernels
        device=names.get(index) if kind is RouteKind.UNICAST else None,
        gateway=IPv4Address(gateway) if gateway else None,
        is_onlink=bool(flags & RTNH_F_ONLINK),
        table=_number(found, encode.RTA_TABLE) or table,
        metric=_number(found, encode.RTA_PRIORITY),
        realm=_number(found, encode.RTA_FLOW),
    )
    return route, index


def parse_neighbour(body: bytes, tunnels: Names) -> tuple[AnyObject | None, int]:
    """Permanent, on a tunnel of ours; also an entry of a VXLAN's forwarding database."""
    family, index, state, _, _ = NEIGHBOUR_BODY.unpack_from(body)
    name = tunnels.get(index)
    if name is None or not state & NUD_PERMANENT:
        return None, index
    found = attributes(body, NEIGHBOUR_BODY.size)
    address, link_address = found.get(encode.NDA_DST), found.get(encode.NDA_LLADDR)
    if not address or not link_address or len(address) != _IPV4_BYTES:
        return None, index
    if family == socket.AF_BRIDGE:
        return ForwardingEntry(name, link_address.hex(":"), IPv4Address(address)), index
    text = socket.inet_ntoa(link_address) if len(link_address) == _IPV4_BYTES else link_address.hex(":")
    return Neighbour(name, IPv4Address(address), text), index


def parse_proxy(body: bytes, ours: Names) -> tuple[AnyObject | None, int]:
    """With our protocol number, on a device of ours."""
    _, index, _, flags, _ = NEIGHBOUR_BODY.unpack_from(body)
    found = attributes(body, NEIGHBOUR_BODY.size)
    address = found.get(encode.NDA_DST, b"")
    is_ours = flags & encode.NTF_PROXY and found.get(encode.NDA_PROTOCOL) == bytes((ROUTE_PROTOCOL,))
    if not is_ours or index not in ours or len(address) != _IPV4_BYTES:
        return None, index
    return ProxyNeighbour(ours[index], IPv4Address(address)), index


def parse_rule(body: bytes, _: Names) -> tuple[AnyObject | None, int]:
    """With our protocol number."""
    _, _, length, _, table, _, _, action_number, _ = RULE_BODY.unpack_from(body)
    found = attributes(body, RULE_BODY.size)
    action = _RULE_ACTIONS.get(action_number)
    if found.get(encode.FRA_PROTOCOL) != bytes((ROUTE_PROTOCOL,)) or action is None:
        return None, 0
    target = {
        RuleAction.LOOKUP: _number(found, encode.FRA_TABLE) or table,
        RuleAction.GOTO: _number(found, encode.FRA_GOTO),
    }.get(action, 0)
    source = found.get(encode.FRA_SRC)
    suppressed = _number(found, encode.FRA_SUPPRESS_PREFIXLEN, NO_SUPPRESSION)
    rule = PolicyRule(
        _number(found, encode.FRA_PRIORITY),
        action,
        target,
        IPv4Network((source, length)) if source else None,
        _number(found, encode.FRA_FWMARK),
        _number(found, encode.FRA_FWMASK),
        None if suppressed == NO_SUPPRESSION else suppressed,
    )
    return rule, 0


def _number(found: Mapping[int, bytes], kind: int, otherwise: int = 0) -> int:
    raw = found.get(kind)
    return int(_U32.unpack(raw)[0]) if raw is not None else otherwise


class What(Enum):
    """What is listed in one go."""

    ADDRESSES = "addresses"
    ROUTES = "routes"
    NEIGHBOURS = "neighbours"
    PROXIES = "proxy neighbours"
    FORWARDING = "forwarding entries"
    RULES = "rules"


_PARSERS: Mapping[What, tuple[Parse, bool]] = {
    What.ADDRESSES: (parse_address, False),
    What.ROUTES: (parse_route, False),
    What.NEIGHBOURS: (parse_neighbour, True),
    What.PROXIES: (parse_proxy, False),
    What.FORWARDING: (parse_neighbour, True),
    What.RULES: (parse_rule, False),
}
"""And whether the messages say how old something is."""


@dataclass(slots=True)
class _Understood:
    key: Key | None
    """None: not ours."""
    item: AnyObject | None
    index: int


class Memory:
    """What the messages of one namespace mean, as of the last look."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._known: dict[What, dict[bytes, _Understood]] = {}
        self._names: dict[What, dict[int, str]] = {}

    def understand(
        self, what: What, messages: Iterable[bytes], names: Names, wanted: Mapping[Key, AnyObject]
    ) -> dict[Key, AnyObject]:
        """Objects of one kind by key. Those that are as wanted are the wanted ones themselves, not equals of them: who
        compares them later has it easy.
        """
        known = self._valid(what, names)
        parse, ages = _PARSERS[what]
        seen: dict[bytes, _Understood] = {}
        found: dict[Key, AnyObject] = {}
        start = HEADER.size
        for message in messages:
            cut = message.find(_CACHE_INFO, start) if ages else -1
            body = message[start:cut] if cut > 0 else message[start:]
            one = known.get(body)
            if one is None:
                one = _understood(*parse(body, names), wanted)
                if one.item is None and cut > 0 and one.index in names:
                    # Of a device of ours, and yet nothing: an address can look like the attribute that it was cut at.
                    one = _understood(*parse(message[start:], names), wanted)
                else:
                    seen[body] = one
            else:
                seen[body] = one
            if one.key is not None and one.item is not None:
                found[one.key] = one.item
        self._known[what] = seen
        return found

    def _valid(self, what: What, names: Names) -> dict[bytes, _Understood]:
        """What is known, without what hangs on interfaces that have another name now."""
        known, before = self._known.get(what, {}), self._names.get(what, {})
        now = dict(names)
        self._names[what] = now
        if before == now:
            return known
        renamed = {index for index in before.keys() | now.keys() if before.get(index) != now.get(index)}
        return {body: one for body, one in known.items() if one.index not in renamed}


def _understood(item: AnyObject | None, index: int, wanted: Mapping[Key, AnyObject]) -> _Understood:
    if item is None:
        return _Understood(None, None, index)
    key = item.key
    asked = wanted.get(key)
    return _Understood(key, asked if asked == item else item, index)
