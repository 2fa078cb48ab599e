"""The documents of a pool: what operators want (specs) and what daemons publish. See "Words" in the design.

Structs are immutable. What one document can say of itself is in its types; what it must be beside the others is
`validation`'s. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated

from msgspec import Meta, Struct, field

from proxypool.core.addressing import KEY_RANGE, VRID_RANGE
from proxypool.core.documents import VERSION
from proxypool.core.quantities import Count, Measure, Moment
from proxypool.core.scaling.model import ScalingSpec

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?\Z")]
MAX_WEIGHT = 16


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
