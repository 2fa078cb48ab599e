"""A scene: the kernel objects of one network namespace that proxypool owns, as values.

The same types describe what is wanted (`node_scene`, `host_scene`) and what was observed (`adapters.netlink`,
`adapters.iptables`); `planner` compares them. An object's `key` says which kernel object it is, the rest what it must
be like. Ownership (STYLE: prove it before deleting) is decided where objects are observed: a scene holds ours only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TypeAlias

Key: TypeAlias = tuple[str, ...]

ROUTE_PROTOCOL = 177
"""Our number in rtnetlink's `rtm_protocol` of routes, rules and proxy neighbours: how we recognise them (free in
rt_protos).
"""
GUARD_TABLE = 7700
"""Routing table of a function host in which every customer's CIDR leads nowhere."""
PATH_TABLES = 7_700_000
"""Routing tables of a function host's paths: this plus the path's number. See `steering`."""
WORST_METRIC = 4278198272
"""Metric of the routes below the real ones."""
CHAIN_PREFIX = "PP-"
SET_PREFIX = "pp-"


@dataclass(frozen=True, slots=True)
class Eni:
    """The customer's card, moved into the namespace under a fixed name."""

    device: str
    match: str
    """Interface name in the root namespace, or MAC address."""
    is_up: bool = True

    @property
    def key(self) -> Key:
        """One card per namespace."""
        return ("eni", self.device)


@dataclass(frozen=True, slots=True)
class SourceGuard:
    """What leaves by a device comes from one of these addresses, whatever the tables say, or none there are."""

    device: str
    sources: frozenset[IPv4Address]

    @property
    def key(self) -> Key:
        """One per device."""
        return ("guard", self.device)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel device. `local`, `tunnel_key`, `port` and `mac` cannot be changed in place: it is made anew."""

    device: str
    kind: str
    local: IPv4Address
    tunnel_key: int
    mtu: int
    mac: str | None = None
    port: int | None = None
    is_up: bool = True

    @property
    def key(self) -> Key:
        """The device's name."""
        return ("tunnel", self.device)

    def can_become(self, other: Tunnel) -> bool:
        """Whether `other` differs only in what can be changed on a living device."""
        fixed = (self.kind, self.local, self.tunnel_key, self.mac, self.port)
        return fixed == (other.kind, other.local, other.tunnel_key, other.mac, other.port)


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address on one of our devices."""

    device: str
    interface: IPv4Interface

    @property
    def key(self) -> Key:
        """Device, address and prefix."""
        return ("address", self.device, str(self.interface))


class RouteKind(StrEnum):
    """rtnetlink's route types that we use."""

    UNICAST = "unicast"
    UNREACHABLE = "unreachable"
    BLACKHOLE = "blackhole"
    THROW = "throw"
    """As if the table had no route: the next rule decides."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route with our protocol number."""

    destination: IPv4Network
    kind: RouteKind = RouteKind.UNICAST
    device: str | None = None
    gateway: IPv4Address | None = None
    is_onlink: bool = False
    table: int = 254
    metric: int = 0
    realm: int = 0
    """rtnetlink's RTA_FLOW; what the iptables match `realm` sees of a packet that took this route."""

    @property
    def key(self) -> Key:
        """What the kernel takes for the same route on replace."""
        return ("route", str(self.table), str(self.destination), str(self.metric))


class RuleAction(StrEnum):
    """rtnetlink's rule actions that we use."""

    LOOKUP = "lookup"
    GOTO = "goto"
    NOP = "nop"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """`ip rule add priority PRIORITY [from SOURCE] [fwmark MARK/MASK] lookup TABLE | goto PRIORITY | nop`."""

    priority: int
    action: RuleAction = RuleAction.LOOKUP
    target: int = 0
    """The table, or the priority to go on at."""
    source: IPv4Network | None = None
    mark: int = 0
    mask: int = 0
    """0: whatever the mark."""
    suppress_prefix_length: int | None = None
    """Routes whose prefix is no longer than this do not count: with 0, the default route."""

    @property
    def key(self) -> Key:
        """All of it, in the order of evaluation: rules are never changed in place."""
        mark = f"{self.mark:#x}/{self.mask:#x}"
        return (
            *("rule", f"{self.priority:05}", self.action.value, str(self.target)),
            *(str(self.source), mark, str(self.suppress_prefix_length)),
        )


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour. GRE: the link-layer address is the peer's underlay address; VXLAN: its MAC."""

    device: str
    address: IPv4Address
    link_address: str

    @property
    def key(self) -> Key:
        """Device and address."""
        return ("neighbour", self.device, str(self.address))


@dataclass(frozen=True, slots=True)
class ProxyNeighbour:
    """An address that is nobody's, for which a device answers ARP while it forwards (NTF_PROXY), with our protocol
    number. The kernel answers only if the address has a route that leads to another device.
    """

    device: str
    address: IPv4Address

    @property
    def key(self) -> Key:
        """Device and address."""
        return ("proxy", self.device, str(self.address))


@dataclass(frozen=True, slots=True)
class ForwardingEntry:
    """VXLAN forwarding database: which underlay address a MAC is behind."""

    device: str
    mac: str
    remote: IPv4Address

    @property
    def key(self) -> Key:
        """Device and MAC."""
        return ("fdb", self.device, self.mac)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A value below /proc/sys/net of the namespace, such as `ipv4/conf/eni0/rp_filter`."""

    path: str
    value: str

    @property
    def key(self) -> Key:
        """The path."""
        return ("sysctl", self.path)


@dataclass(frozen=True, slots=True)
class AddressSet:
    """An ipset of type hash:ip."""

    name: str
    members: frozenset[IPv4Address]

    @property
    def key(self) -> Key:
        """The set's name."""
        return ("set", self.name)


@dataclass(frozen=True, slots=True)
class MarkedSet:
    """An ipset of type hash:net with skbinfo: network -> packet mark.

    Only that it exists is part of a scene. Its members change with every instance that starts, and have an owner of
    their own (`daemons.attachments`).
    """

    name: str

    @property
    def key(self) -> Key:
        """The set's name."""
        return ("set", self.name)


@dataclass(frozen=True, slots=True)
class LeaseSet:
    """An ipset of type hash:net whose members go when their time is over: what rules of mode strict ask.

    Only that it exists is part of a scene; its one member is granted by the member that is elected (`daemons.member`).
    """

    name: str

    @property
    def key(self) -> Key:
        """The set's name."""
        return ("set", self.name)


@dataclass(frozen=True, slots=True)
class UnknownSet:
    """An ipset under a name of ours that is none of the kinds we make."""

    name: str
    type_name: str

    @property
    def key(self) -> Key:
        """The set's name."""
        return ("set", self.name)


@dataclass(frozen=True, slots=True)
class Match:
    """An iptables match extension: `-m name --option value …`; an option beginning with `!` is negated."""

    name: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One iptables rule."""

    target: str
    target_options: tuple[tuple[str, str], ...] = ()
    source: IPv4Network | None = None
    destination: IPv4Network | None = None
    in_device: str | None = None
    out_device: str | None = None
    protocol: str | None = None
    matches: tuple[Match, ...] = ()
    is_source_negated: bool = False
    is_out_negated: bool = False
    is_in_negated: bool = False


@dataclass(frozen=True, slots=True)
class UnknownRule:
    """A rule in one of our chains that is none of those we want."""

    text: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of ours, entered from a built-in chain by one jump.

    `policy` is set on the built-in chain (None: leave it alone, as in a namespace that is not ours).
    """

    name: str
    hook: str | None
    """The built-in chain; None: entered by rules of our other chains only."""
    rules: tuple[Rule | UnknownRule, ...]
    policy: str | None = None
    jumps: int = 1
    """How many jumps lead here, at the head of the built-in chain; wanted: exactly one."""


@dataclass(frozen=True, slots=True)
class Table:
    """Our part of an iptables table, committed atomically."""

    name: str
    chains: tuple[Chain, ...]

    @property
    def key(self) -> Key:
        """The table's name."""
        return ("table", self.name)


AnyObject: TypeAlias = (
    Eni
    | SourceGuard
    | Tunnel
    | Address
    | Route
    | PolicyRule
    | Neighbour
    | ProxyNeighbour
    | ForwardingEntry
    | Sysctl
    | AddressSet
    | MarkedSet
    | LeaseSet
    | UnknownSet
    | Table
)


@dataclass(frozen=True, slots=True)
class Scene:
    """Our objects in one namespace. `namespace` None: the namespace the daemon itself runs in."""

    namespace: str | None
    objects: Mapping[Key, AnyObject] = field(default_factory=dict)
    exists: bool = True
    """Whether the namespace is there (observed) or wanted (desired)."""

    @staticmethod
    def of(namespace: str | None, objects: Iterable[AnyObject]) -> Scene:
        """A scene of these objects.

        Raises:
            ValueError: two objects have the same key.
        """
        by_key: dict[Key, AnyObject] = {}
        for item in objects:
            if item.key in by_key and by_key[item.key] != item:
                raise ValueError(f"two objects with the key {item.key}: {by_key[item.key]} and {item}")
            by_key[item.key] = item
        return Scene(namespace, by_key)

    @staticmethod
    def absent(namespace: str) -> Scene:
        """A namespace that is not there, or must not be."""
        return Scene(namespace, {}, exists=False)
