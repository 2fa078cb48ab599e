"""The documents of a pool: what operators want (specs) and what daemons publish. See "Words" in the design.

Structs are immutable. `validate_*` functions check one document against the others and raise `InvalidInput` with a
sentence that says what to do. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated

from msgspec import Meta, Struct, field

from proxypool.core.addressing import KEY_RANGE, VRID_RANGE
from proxypool.core.documents import VERSION
from proxypool.core.errors import InvalidInput
from proxypool.core.quantities import Count, Measure, Moment
from proxypool.core.scaling.model import ScalingSpec

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?\Z")]
NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?")
NAME_RULE = "1-40 characters, lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
MAX_WEIGHT = 16
PAIR_SIZE = 2
"""Members of a pair: a master and a backup."""


class Document(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A versioned JSON document in ZooKeeper."""

    v: int = VERSION


class TunnelKind(StrEnum):
    """How packets travel between hosts and nodes."""

    GRE = "gre"
    VXLAN = "vxlan"


class PairState(StrEnum):
    """Whether hosts may choose the pair for new connections."""

    ACTIVE = "active"
    DRAINING = "draining"
    PREPARING = "preparing"
    """Its members bring it up; it has not been opened yet."""


class FailoverMode(StrEnum):
    """What may make a member master."""

    FAST = "fast"
    """VRRP: the backup takes over when it misses the master. Two that do not hear each other are both master for some
    seconds."""
    STRICT = "strict"
    """The election alone: never two, at the price of a longer outage."""


class PoolSpec(Document, frozen=True, kw_only=True):
    """What holds for the whole pool."""

    tunnel: TunnelKind = TunnelKind.GRE
    tunnel_range: IPv4Network = IPv4Network("100.64.0.0/10")
    vxlan_port: Annotated[int, Meta(ge=1, le=65535)] = 4789


class SubnetSpec(Document, frozen=True, kw_only=True):
    """A customer's VPC subnet that functions must reach."""

    id: Name
    cidrs: tuple[IPv4Network, ...]
    key: Annotated[int, Meta(ge=KEY_RANGE.start, lt=KEY_RANGE.stop)]
    tenant: Name = "default"
    scaling: ScalingSpec | None = None
    """None: its pairs are the operator's own business."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """For people and providers: the platform's own names of it."""

    def __hash__(self) -> int:
        """Parts of scenes are remembered by their subnet. A mapping cannot be hashed, so labels are left out of it."""
        return hash((self.id, self.cidrs, self.key, self.tenant))


class MemberSpec(Struct, frozen=True, kw_only=True):
    """A node's place in a pair: which card it uses in the customer's subnet."""

    node: Name
    eni: str
    """Interface name or MAC address of the ENI on the node."""
    address: IPv4Interface
    gateway: IPv4Address | None = None


class PairSpec(Document, frozen=True, kw_only=True):
    """Two nodes that serve one subnet behind one HaVip."""

    id: Name
    subnet: Name
    members: tuple[MemberSpec, ...]
    havip: IPv4Address
    vrid: Annotated[int, Meta(ge=VRID_RANGE.start, lt=VRID_RANGE.stop)]
    egress_address: IPv4Address | None = None
    state: PairState = PairState.ACTIVE
    weight: Annotated[int, Meta(ge=1, le=MAX_WEIGHT)] = 1
    """Share of the subnet's new connections, relative to its other active pairs."""
    draining_since: Moment | None = None
    """Wall time, seconds since the epoch; None: it is not draining."""
    mode: FailoverMode = FailoverMode.FAST
    probe: IPv4Address | None = None
    """Whom each member asks through its ENI whether the customer's network is there. None: its gateway, if any."""
    paused_since: Moment | None = None
    """Wall time: since then health and election move nothing; None: it is not paused."""
    paused_by: str = ""
    """user@host of whoever paused it."""
    pause_reason: str = ""
    """What they said about it."""
    provider: str = ""
    """Who gave its cards and addresses, and gets them back; empty: an operator did."""

    def member(self, node: str) -> MemberSpec | None:
        """The member on this node, or None."""
        return next((member for member in self.members if member.node == node), None)

    def peer_of(self, node: str) -> MemberSpec | None:
        """The other member, or None."""
        return next((member for member in self.members if member.node != node), None)


class NodeSpec(Document, frozen=True, kw_only=True):
    """A proxy node, as its daemon registers it."""

    id: Name
    underlay: IPv4Address
    metrics: str = ""
    version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics_tls: bool = False
    """Whether its metrics are served by TLS."""


class HostSpec(Document, frozen=True, kw_only=True):
    """A function host, as its agent registers it."""

    id: Name
    underlay: IPv4Address
    tunnel_address: IPv4Address
    metrics: str = ""
    version: str = ""
    owner: str = ""
    """Digest of the key that the host's entries belong to, in a pool with access lists; empty: to every host's."""
    metrics_tls: bool = False
    """Whether its metrics are served by TLS."""


class Alive(Document, frozen=True, kw_only=True):
    """Ephemeral proof of life of a daemon. `underlay` tells two machines with one name apart."""

    underlay: IPv4Address
    version: str = ""
    since: Moment = 0.0
    """Wall time of the daemon's start, seconds since the epoch."""
    at: Moment = 0.0
    """Wall time of the last beat of its main loop: until then all it has published was true."""
    problems: tuple[str, ...] = ()
    """What is wrong with the whole machine, one sentence each."""
    attachments: Count | None = None
    """Of a host."""


class MemberStatus(Document, frozen=True, kw_only=True):
    """What a member observed of itself; published under the pair, ephemeral."""

    node: Name
    role: str
    vrrp: str
    gate: bool | None
    """`ip_forward` of the namespace as read from the kernel; None: no namespace."""
    has_havip: bool
    """Whether the HaVip is on the underlay interface, as read from the kernel."""
    epoch: Count = 0
    health: tuple[str, ...] = ()
    """Why it cannot serve; empty: fit."""
    conntrack: Count | None = None
    conntrack_limit: Count | None = None
    rx_bytes: Count = 0
    """Counters of the tunnel device since it was made: from the hosts."""
    tx_bytes: Count = 0
    rx_packets: Count = 0
    tx_packets: Count = 0
    rx_bytes_per_s: Measure = 0.0
    tx_bytes_per_s: Measure = 0.0
    packets_per_s: Measure = 0.0
    since: Moment = 0.0
    """Wall time of the last change of role."""
    at: Moment = 0.0
    """Wall time of the observation."""
    repairs: Count = 0
    """Drifts repaired since the daemon started."""
    connections: Count | None = None
    """Conntrack entries that carry a living connection (not TIME_WAIT, CLOSE and the like); counted on a master whose
    pair drains only."""
    hosts_seen: Count = 0
    """The zxid of the last change of the subnet's list of hosts that this member has programmed. A host that joined
    with a smaller one, or this one, gets answers."""
    sync: str | None = None
    """Whether the members tell each other their connections, as `sync_supervision.SyncState`; None: the pair has no
    egress address."""
    answers_egress: bool | None = None
    """Whether it answers ARP for the pair's egress address, as read from the kernel; None: there is none, or it could
    not be read."""
    change_reason: str = ""
    """Of a master: why it became that; empty if its daemon did not see it."""
    blackout_s: Measure | None = None
    """Of a master: how long nobody served before it did, at most; see `history.Phase`."""
    probe: str = "none"
    """What its probe through the ENI says: none, ok, doubtful, silent, unanswered (never since it began to ask)."""
    probe_ms: Measure | None = None
    """Round trip of the last answer."""
    damped_until: Moment | None = None
    """Wall time: well, but held back for flapping until then."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """The pool as one process knows it at one moment: parsed documents, last good version of each."""

    spec: PoolSpec | None = None
    subnets: Mapping[str, SubnetSpec] = field(default_factory=dict)
    pairs: Mapping[str, Mapping[str, PairSpec]] = field(default_factory=dict)
    """subnet -> pair id -> spec"""
    nodes: Mapping[str, NodeSpec] = field(default_factory=dict)
    hosts: Mapping[str, HostSpec] = field(default_factory=dict)
    subnet_hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hosts_zxid: Mapping[str, int] = field(default_factory=dict)
    """subnet -> zxid of the last change of its list of hosts (ZooKeeper's pzxid)"""
    elections: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict)
    """`<subnet>/<pair>` -> candidates, lowest sequence first; the first is elected."""
    malformed: Mapping[str, str] = field(default_factory=dict)
    """path -> why its document could not be read; the last good one stays in force."""
    too_new: frozenset[str] = frozenset()
    """Those of them that a later proxypool wrote."""
    unread_subnets: frozenset[str] = frozenset()
    """Subnets whose own document, or that of a pair, is among them: there may be more to serve than is known."""
    unread_nodes: frozenset[str] = frozenset()
    """Nodes whose document is among them."""

    def all_pairs(self) -> Iterable[PairSpec]:
        """Every pair of every subnet."""
        for pairs in self.pairs.values():
            yield from pairs.values()

    def pairs_on(self, node: str) -> tuple[PairSpec, ...]:
        """Pairs that have a member on this node and whose subnet is known, in a stable order."""
        return tuple(
            sorted(
                (pair for pair in self.all_pairs() if pair.member(node) and pair.subnet in self.subnets),
                key=lambda pair: (pair.subnet, pair.id),
            )
        )


class Candidate(Struct, frozen=True, kw_only=True):
    """A member's ephemeral node in an election. `epoch` is its czxid: the fencing token."""

    node: str
    epoch: int
    session: int
    is_chosen: bool = False
    """An operator chose it: `pair switchover`. Else it became elected because another session ended."""


def require_name(kind: str, name: str) -> None:
    """Refuse a name that cannot be a path component, a file name and a metric label.

    Raises:
        InvalidInput: the name breaks the rule.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidInput(f"{kind} name {name!r} is not valid: {NAME_RULE}")


def require_two_nodes(pair: PairSpec, what: str) -> None:
    """Refuse a pair, read from `what`, that is none.

    Raises:
        InvalidInput: it has not two members on two nodes.
    """
    if len(pair.members) != PAIR_SIZE or len({member.node for member in pair.members}) != PAIR_SIZE:
        raise InvalidInput(f"{what} does not have two members on two nodes")


def require_weight(weight: int) -> None:
    """Refuse a weight that a pair cannot have.

    Raises:
        InvalidInput: it is out of range.
    """
    if not 1 <= weight <= MAX_WEIGHT:
        raise InvalidInput(f"weight {weight} is out of range: choose 1 to {MAX_WEIGHT}")


def validate_pool(spec: PoolSpec, subnets: Iterable[SubnetSpec]) -> None:
    """A tunnel range must not collide with any customer's CIDR.

    Raises:
        InvalidInput: it does, or it is too small.
    """
    if spec.tunnel_range.prefixlen > 30:  # noqa: PLR2004 - a /30 has two usable addresses
        raise InvalidInput(f"tunnel range {spec.tunnel_range} is too small: use /30 or larger")
    for subnet in subnets:
        _require_outside_tunnel_range(subnet, spec)


def _require_outside_tunnel_range(subnet: SubnetSpec, spec: PoolSpec) -> None:
    for cidr in subnet.cidrs:
        if cidr.overlaps(spec.tunnel_range):
            raise InvalidInput(
                f"CIDR {cidr} of subnet {subnet.id} overlaps the pool's tunnel range {spec.tunnel_range}: "
                "choose another range with `proxypool pool init --tunnel-range`"
            )


def validate_subnet(new: SubnetSpec, spec: PoolSpec, subnets: Iterable[SubnetSpec]) -> None:
    """Check a subnet against the pool.

    Raises:
        InvalidInput: no CIDR, a CIDR that overlaps another of the same tenant or the tunnel range, a key in use.
    """
    require_name("subnet", new.id)
    require_name("tenant", new.tenant)
    if not new.cidrs:
        raise InvalidInput(f"subnet {new.id} has no CIDR: give at least one with --cidr")
    _require_outside_tunnel_range(new, spec)
    for index, cidr in enumerate(new.cidrs):
        if cidr.prefixlen == 0 or cidr.is_multicast or cidr.is_loopback or cidr.is_link_local:
            raise InvalidInput(f"CIDR {cidr} of subnet {new.id} cannot be a customer's subnet")
        for other in new.cidrs[index + 1 :]:
            if cidr.overlaps(other):
                raise InvalidInput(f"CIDRs {cidr} and {other} of subnet {new.id} overlap: give one of them")
    for subnet in subnets:
        if subnet.id != new.id:
            _require_subnets_apart(new, subnet)


def _require_subnets_apart(new: SubnetSpec, other: SubnetSpec) -> None:
    if other.key == new.key:
        raise InvalidInput(f"tunnel key {new.key} is used by subnet {other.id}: choose another or leave --key out")
    if other.tenant != new.tenant:
        return
    for cidr in new.cidrs:
        for theirs in other.cidrs:
            if cidr.overlaps(theirs):
                raise InvalidInput(
                    f"CIDR {cidr} overlaps {theirs} of subnet {other.id}, which belongs to the same tenant "
                    f"{new.tenant!r}: use another CIDR, or another --tenant if it is another customer"
                )


def validate_pair(new: PairSpec, snapshot: Snapshot) -> None:
    """Check a pair against the pool.

    Raises:
        InvalidInput: unknown subnet, not two different nodes, a HaVip, VRID or ENI in use, addresses that do not fit.
    """
    require_name("pair", new.id)
    subnet = snapshot.subnets.get(new.subnet)
    if subnet is None:
        raise InvalidInput(f"there is no subnet {new.subnet}: add it first with `proxypool subnet add {new.subnet}`")
    nodes = [member.node for member in new.members]
    if len(nodes) != PAIR_SIZE or len(set(nodes)) != PAIR_SIZE:
        raise InvalidInput(f"pair {new.id} needs two members on two different nodes, not {nodes}")
    _require_free_havip(new, snapshot)
    for member in new.members:
        _require_member_fits(member, new, subnet)
    first, second = new.members
    if first.address.ip == second.address.ip:
        raise InvalidInput(
            f"{first.node} and {second.node} have the same address {first.address.ip}: each ENI has its own"
        )
    _require_egress_fits(new)
    for pair in snapshot.all_pairs():
        if (pair.subnet, pair.id) != (new.subnet, new.id):
            _require_apart(new, pair)
            _require_egress_apart(new, pair, snapshot)


def _require_free_havip(new: PairSpec, snapshot: Snapshot) -> None:
    if snapshot.spec is not None and new.havip in snapshot.spec.tunnel_range:
        raise InvalidInput(
            f"HaVip {new.havip} is in the range of the hosts' tunnel addresses, {snapshot.spec.tunnel_range}: "
            "choose a free address of the function network"
        )
    for node in snapshot.nodes.values():
        if node.underlay == new.havip:
            raise InvalidInput(f"HaVip {new.havip} is the underlay address of node {node.id}: choose a free address")
    for host in snapshot.hosts.values():
        if host.underlay == new.havip:
            raise InvalidInput(f"HaVip {new.havip} is the underlay address of host {host.id}: choose a free address")


def _require_member_fits(member: MemberSpec, pair: PairSpec, subnet: SubnetSpec) -> None:
    require_name("node", member.node)
    onlink = member.address.network
    if member.address.ip in _reserved(onlink):
        raise InvalidInput(f"address {member.address} of node {member.node} is not a host address")
    if member.gateway is not None and member.gateway not in onlink:
        raise InvalidInput(f"gateway {member.gateway} of node {member.node} is outside {onlink}")
    if pair.probe is not None and not any(pair.probe in network for network in (onlink, *subnet.cidrs)):
        raise InvalidInput(
            f"probe target {pair.probe} is neither on the ENI's network {onlink} of node {member.node} nor in a CIDR "
            f"of subnet {subnet.id}: no route leads there"
        )
    if pair.probe is not None and pair.probe == member.address.ip:
        raise InvalidInput(f"probe target {pair.probe} is the address of node {member.node}: it would ask itself")
    for cidr in subnet.cidrs:
        if member.gateway is None and not cidr.subnet_of(onlink):
            raise InvalidInput(
                f"CIDR {cidr} of subnet {subnet.id} is not on the ENI's own network {onlink}: "
                f"give the member {member.node} a gateway=ADDRESS"
            )
    if pair.egress_address is not None and pair.egress_address not in onlink:
        raise InvalidInput(f"egress address {pair.egress_address} is outside the ENI's network {onlink}")
    if pair.egress_address is not None and pair.egress_address in _reserved(onlink):
        raise InvalidInput(f"egress address {pair.egress_address} is not a host address of {onlink}")


def _reserved(network: IPv4Network) -> tuple[IPv4Address, ...]:
    """Addresses of a network that are no host's: none of a /32, nor of a /31 (RFC 3021)."""
    return () if network.prefixlen > 30 else (network.network_address, network.broadcast_address)  # noqa: PLR2004


def _require_egress_fits(pair: PairSpec) -> None:
    egress = pair.egress_address
    if egress is None:
        return
    for member in pair.members:
        if egress == member.address.ip:
            raise InvalidInput(f"egress address {egress} is the address of node {member.node}'s ENI: choose a free one")
        if egress == member.gateway:
            raise InvalidInput(f"egress address {egress} is the gateway of node {member.node}: choose a free one")
    networks = {member.address.network for member in pair.members}
    if len(networks) > 1:
        raise InvalidInput(
            f"pair {pair.id} has an egress address, so both ENIs must be on one network, not on "
            + " and ".join(sorted(map(str, networks)))
        )


def _require_egress_apart(new: PairSpec, other: PairSpec, snapshot: Snapshot) -> None:
    """Pairs of one tenant may have their ENIs in one network; another tenant's addresses are another network's."""
    if _tenant(new, snapshot) != _tenant(other, snapshot):
        return
    where = f"pair {other.subnet}/{other.id}"
    if new.egress_address is not None and new.egress_address == other.egress_address:
        raise InvalidInput(f"egress address {new.egress_address} is in use by {where}: choose a free address")
    for one, another in ((new, other), (other, new)):
        taken = {member.address.ip for member in another.members}
        if one.egress_address in taken:
            raise InvalidInput(
                f"{one.egress_address} is the egress address of pair {one.subnet}/{one.id} and the address of an ENI "
                f"of pair {another.subnet}/{another.id}: choose a free address"
            )


def _tenant(pair: PairSpec, snapshot: Snapshot) -> str | None:
    subnet = snapshot.subnets.get(pair.subnet)
    return subnet.tenant if subnet else None


def _require_apart(new: PairSpec, other: PairSpec) -> None:
    where = f"pair {other.subnet}/{other.id}"
    if other.havip == new.havip:
        raise InvalidInput(f"HaVip {new.havip} is in use by {where}: choose a free address")
    if other.subnet == new.subnet:
        taken = {member.address.ip: member.node for member in other.members}
        for member in new.members:
            if member.address.ip in taken and taken[member.address.ip] != member.node:
                raise InvalidInput(f"address {member.address.ip} of node {member.node} is in use by {where}")
    for member in new.members:
        theirs = other.member(member.node)
        if theirs is None:
            continue
        if other.subnet == new.subnet:
            raise InvalidInput(f"node {member.node} already serves subnet {new.subnet} in {where}: choose another node")
        if theirs.eni.lower() == member.eni.lower():
            raise InvalidInput(f"ENI {member.eni} of node {member.node} is in use by {where}: choose another")
        if other.vrid == new.vrid:
            raise InvalidInput(f"VRRP id {new.vrid} is in use on node {member.node} by {where}: leave --vrid out")
