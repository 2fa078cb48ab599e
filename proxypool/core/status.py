"""The status of a pool as one document: what `proxypool status`, the status page and the API show. See `assembly`.

Every fault found is a `Check` with a stable code, its level, what it is about, and one sentence that says what to do.
The level of a pair, a subnet and the pool is the worst of its checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
from msgspec import Struct

from proxypool.core.checks import Check, Level
from proxypool.core.documents import API_VERSION
from proxypool.core.scaling.documents import Spares
from proxypool.core.scaling.overview import ControllerState, SubnetScale
from proxypool.core.versions import RunningVersion


class MemberReport(Struct, frozen=True, kw_only=True):
    """A member. What is None was not published: its daemon is not there."""

    node: str
    eni: str
    address: IPv4Interface
    is_alive: bool
    elected: bool
    role: str | None = None
    vrrp: str | None = None
    gate: bool | None = None
    """Whether forwarding is open, as read from the kernel."""
    has_havip: bool | None = None
    answers_egress: bool | None = None
    """Whether it answers ARP for the egress address, as read from the kernel."""
    health: tuple[str, ...] = ()
    epoch: int | None = None
    conntrack: int | None = None
    conntrack_limit: int | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    rx_bytes_per_s: float | None = None
    tx_bytes_per_s: float | None = None
    packets_per_s: float | None = None
    since: float | None = None
    """Last change of role, seconds since the epoch."""
    observed_at: float | None = None
    repairs: int | None = None
    connections: int | None = None
    """Living connections; counted by a master whose pair drains."""
    sync: str | None = None
    """Whether the members tell each other their connections; None: the pair has no egress address."""
    change_reason: str | None = None
    """Of a master: why it became that, if its daemon saw it."""
    blackout_s: float | None = None
    """Of a master: how long nobody served before it did, at most."""
    probe: str | None = None
    """What its probe through the ENI says: none, ok, doubtful, silent, unanswered."""
    probe_ms: float | None = None
    damped_until: float | None = None
    """Well, but held back for flapping until then, seconds since the epoch."""


class PairReport(Struct, frozen=True, kw_only=True):
    """A pair."""

    id: str
    level: Level
    havip: IPv4Address
    vrid: int
    egress_address: IPv4Address | None
    state: str
    weight: int
    draining_since: float | None
    """Seconds since the epoch; None: it is not draining."""
    mode: str
    probe: IPv4Address | None
    """Whom the members ask through their ENIs; None: their gateways."""
    paused_since: float | None
    """Seconds since the epoch; None: it is not paused."""
    paused_by: str
    """user@host of whoever paused it."""
    pause_reason: str
    provider: str
    """Who gave its cards and addresses; empty: an operator did."""
    connections_left: int | None
    """Of a pair that drains; None: it does not drain, or nobody knows."""
    elected: str | None
    epoch: int | None
    """Of the elected candidate: the fencing token."""
    master: str | None
    """The one member that says it is master; None if there is none, or more than one."""
    havip_holders: tuple[str, ...]
    egress_holders: tuple[str, ...]
    """Those that answer ARP for the egress address."""
    last_change: float | None
    """Latest change of role in the pair, seconds since the epoch."""
    members: tuple[MemberReport, ...]
    checks: tuple[Check, ...]


class SubnetReport(Struct, frozen=True, kw_only=True):
    """A subnet."""

    id: str
    level: Level
    tenant: str
    cidrs: tuple[IPv4Network, ...]
    key: int
    hosts: tuple[str, ...]
    scale: SubnetScale
    spares: Spares | None
    pairs: tuple[PairReport, ...]
    checks: tuple[Check, ...]


class NodeReport(Struct, frozen=True, kw_only=True):
    """A proxy node."""

    id: str
    is_alive: bool
    underlay: IPv4Address
    version: str
    since: float | None
    """Start of its daemon, seconds since the epoch."""
    metrics: str
    labels: Mapping[str, str]
    problems: tuple[str, ...]
    pairs: tuple[str, ...]
    """`<subnet>/<pair>`"""
    master_of: tuple[str, ...]
    cordoned_since: float | None = None
    """No new pair is placed here since then, seconds since the epoch."""
    draining_since: float | None = None
    """Its members are moved elsewhere since then."""
    ordered_by: str = ""
    """Who said so, or took it back, and why."""
    order_reason: str = ""


class HostReport(Struct, frozen=True, kw_only=True):
    """A function host."""

    id: str
    is_alive: bool
    underlay: IPv4Address
    tunnel_address: IPv4Address
    version: str
    since: float | None
    metrics: str
    problems: tuple[str, ...]
    subnets: tuple[str, ...]
    attachments: int | None = None
    """As it last said, some seconds ago; None: it did not say."""


class PoolStatus(Struct, frozen=True, kw_only=True, rename={"api_version": "apiVersion"}):
    """The document."""

    api_version: str = API_VERSION
    kind: str = "PoolStatus"
    pool: str
    at: float
    """When it was put together, seconds since the epoch."""
    level: Level
    tunnel: str | None
    tunnel_range: IPv4Network | None
    subnets: tuple[SubnetReport, ...]
    nodes: tuple[NodeReport, ...]
    hosts: tuple[HostReport, ...]
    controller: ControllerState
    versions: tuple[RunningVersion, ...]
    """That the daemons run, the oldest first."""
    checks: tuple[Check, ...]
    """About the pool as a whole; those of subnets and pairs stand with them."""


def all_checks(status: PoolStatus) -> Iterator[Check]:
    """Every finding, of the pool, its subnets and its pairs."""
    yield from status.checks
    for subnet in status.subnets:
        yield from subnet.checks
        for pair in subnet.pairs:
            yield from pair.checks


def of_subnet(status: PoolStatus, subnet: str) -> PoolStatus | None:
    """One subnet and the machines it uses; None: there is no such subnet."""
    one = next((found for found in status.subnets if found.id == subnet), None)
    if one is None:
        return None
    members = {member.node for pair in one.pairs for member in pair.members}
    return msgspec.structs.replace(
        status,
        level=one.level,
        subnets=(one,),
        nodes=tuple(node for node in status.nodes if node.id in members),
        hosts=tuple(host for host in status.hosts if host.id in one.hosts),
        checks=(),
    )
