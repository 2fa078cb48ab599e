"""The way of a packet through a pool, as observed: host -> tunnel -> pair -> node -> ENI -> customer. Pure.

It holds nothing that the status does not; it is arranged by the way, without counters, for people and for pictures.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from msgspec import Struct

from proxypool.core.checks import Level
from proxypool.core.documents import API_VERSION
from proxypool.core.status import HostReport, MemberReport, NodeReport, PairReport, PoolStatus, SubnetReport


class HostEnd(Struct, frozen=True, kw_only=True):
    """A function host that uses a subnet: where its end of the tunnel is."""

    id: str
    is_alive: bool
    underlay: IPv4Address | None
    """None: it uses the subnet and is not registered."""
    tunnel_address: IPv4Address | None
    version: str = ""
    """Of its agent; empty: not known."""


class TunnelPart(Struct, frozen=True, kw_only=True):
    """What hosts and pairs of a subnet have in common."""

    kind: str | None
    """None: the pool has none yet."""
    key: int
    """GRE key or VXLAN network identifier."""


class MemberEnd(Struct, frozen=True, kw_only=True):
    """A member of a pair with its card in the customer's subnet."""

    node: str
    is_alive: bool
    underlay: IPv4Address | None
    """None: no such node is registered."""
    role: str | None
    """None: its daemon says nothing."""
    elected: bool
    gate: bool | None
    has_havip: bool | None
    eni: str
    address: IPv4Interface
    health: tuple[str, ...]
    version: str = ""
    """Of its node's daemon; empty: not known."""


class PairPart(Struct, frozen=True, kw_only=True):
    """A pair: the far end of the tunnel."""

    id: str
    level: Level
    codes: tuple[str, ...]
    """Of its checks, each once."""
    havip: IPv4Address
    egress_address: IPv4Address | None
    state: str
    weight: int
    master: str | None
    members: tuple[MemberEnd, ...]
    """The master first, if there is one."""


class SubnetPart(Struct, frozen=True, kw_only=True):
    """Everything on the way to one subnet."""

    id: str
    level: Level
    codes: tuple[str, ...]
    """Of its own checks, not those of its pairs."""
    tenant: str
    cidrs: tuple[IPv4Network, ...]
    hosts: tuple[HostEnd, ...]
    tunnel: TunnelPart
    pairs: tuple[PairPart, ...]


class Topology(Struct, frozen=True, kw_only=True, rename={"api_version": "apiVersion"}):
    """The document."""

    api_version: str = API_VERSION
    kind: str = "Topology"
    pool: str
    at: float
    """Seconds since the epoch."""
    level: Level
    subnets: tuple[SubnetPart, ...]
    idle_nodes: tuple[str, ...]
    """Registered nodes that are in no pair."""
    idle_hosts: tuple[str, ...]
    """Registered hosts that use no subnet."""
    versions: tuple[str, ...] = ()
    """That the pool's daemons run, the oldest first."""


def topology(status: PoolStatus) -> Topology:
    """Arrange a status by the way that packets take."""
    nodes = {node.id: node for node in status.nodes}
    hosts = {host.id: host for host in status.hosts}
    return Topology(
        pool=status.pool,
        at=status.at,
        level=status.level,
        subnets=tuple(_subnet(subnet, status.tunnel, nodes, hosts) for subnet in status.subnets),
        idle_nodes=tuple(node.id for node in status.nodes if not node.pairs),
        idle_hosts=tuple(host.id for host in status.hosts if not host.subnets),
        versions=tuple(running.version for running in status.versions),
    )


def _subnet(
    subnet: SubnetReport, tunnel: str | None, nodes: dict[str, NodeReport], hosts: dict[str, HostReport]
) -> SubnetPart:
    return SubnetPart(
        id=subnet.id,
        level=subnet.level,
        codes=tuple(dict.fromkeys(check.code for check in subnet.checks)),
        tenant=subnet.tenant,
        cidrs=subnet.cidrs,
        hosts=tuple(_host(name, hosts.get(name)) for name in subnet.hosts),
        tunnel=TunnelPart(kind=tunnel, key=subnet.key),
        pairs=tuple(_pair(pair, nodes) for pair in subnet.pairs),
    )


def _host(name: str, host: HostReport | None) -> HostEnd:
    return HostEnd(
        id=name,
        is_alive=host is not None and host.is_alive,
        underlay=host.underlay if host else None,
        tunnel_address=host.tunnel_address if host else None,
        version=host.version if host else "",
    )


def _pair(pair: PairReport, nodes: dict[str, NodeReport]) -> PairPart:
    members = sorted(pair.members, key=lambda member: member.node != pair.master)
    return PairPart(
        id=pair.id,
        level=pair.level,
        codes=tuple(dict.fromkeys(check.code for check in pair.checks)),
        havip=pair.havip,
        egress_address=pair.egress_address,
        state=pair.state,
        weight=pair.weight,
        master=pair.master,
        members=tuple(_member(member, nodes.get(member.node)) for member in members),
    )


def _member(member: MemberReport, node: NodeReport | None) -> MemberEnd:
    return MemberEnd(
        node=member.node,
        is_alive=member.is_alive,
        underlay=node.underlay if node else None,
        role=member.role,
        elected=member.elected,
        gate=member.gate,
        has_havip=member.has_havip,
        eni=member.eni,
        address=member.address,
        health=member.health,
        version=node.version if node else "",
    )
