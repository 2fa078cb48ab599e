"""The status of a pool as one document, from what was observed and published. Pure: the time is an argument.

Every fault found is a `Check` with a stable code, its level, what it is about, and one sentence that says what to do.
The level of a pair, a subnet and the pool is the worst of its checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
from msgspec import Struct, field

from proxypool.core.checks import (
    Check,
    Code,
    Level,
    Member,
    check_node,
    check_pair,
    check_subnet,
    check_versions,
    worst,
)
from proxypool.core.documents import API_VERSION
from proxypool.core.draining import pair_left
from proxypool.core.model import Alive, MemberStatus, PairSpec, PairState, Snapshot, SubnetSpec
from proxypool.core.scaling.checks import check_controller, check_scale
from proxypool.core.scaling.documents import Action, ControllerAlive, NodeOrders, Report, Spares, by_subnet
from proxypool.core.scaling.overview import ControllerState, SubnetScale, controller_state, subnet_scale
from proxypool.core.versions import RunningVersion, running_versions

__all__ = ["API_VERSION", "Check", "Code", "Level", "PoolStatus", "PoolView", "all_checks", "assemble"]


class PoolView(Struct, frozen=True, kw_only=True):
    """Everything that is in ZooKeeper about a pool, at one moment."""

    pool: str
    snapshot: Snapshot
    statuses: Mapping[str, Mapping[str, MemberStatus]] = field(default_factory=dict)
    """`<subnet>/<pair>` -> node -> what it published"""
    nodes_alive: Mapping[str, Alive] = field(default_factory=dict)
    hosts_alive: Mapping[str, Alive] = field(default_factory=dict)
    hosts_living: frozenset[str] = frozenset()
    """Hosts that have a proof of life, also where it was not read what it says"""
    orders: Mapping[str, NodeOrders] = field(default_factory=dict)
    """Node -> what an operator wants of it"""
    spares: Mapping[str, Spares] = field(default_factory=dict)
    """Subnet -> what the provider `spare` may use"""
    actions: tuple[Action, ...] = ()
    """What the controller is doing"""
    report: Report | None = None
    """What the leading controller wrote last"""
    controllers: int = 0
    """So many run"""
    controllers_alive: tuple[ControllerAlive, ...] = ()
    """What they say of themselves"""


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


def assemble(view: PoolView, now: float) -> PoolStatus:
    """The status at wall time `now`."""
    snapshot = view.snapshot
    controller = controller_state(view.report, view.controllers, now)
    actions = by_subnet(view.actions)
    subnets = tuple(
        _subnet(view, snapshot.subnets[name], actions.get(name, ()), controller, now)
        for name in sorted(snapshot.subnets)
    )
    nodes = _nodes(view, subnets)
    checks = [
        Check.of(Code.DOCUMENT_TOO_NEW, path, f"{why}; daemons go on with the last version that they could read")
        if path in snapshot.too_new
        else Check.of(Code.MALFORMED_DOCUMENT, path, _malformed(path, why))
        for path, why in snapshot.malformed.items()
    ]
    versions = running_versions(view.nodes_alive, view.hosts_alive, view.controllers_alive)
    checks += check_versions(versions, now)
    checks += check_controller(controller, manages=any(one.scale.is_managed for one in subnets))
    for name in sorted(snapshot.nodes):
        checks += check_node(snapshot.nodes[name], view.nodes_alive.get(name))
    levels = [check.level for check in checks] + [subnet.level for subnet in subnets]
    return PoolStatus(
        pool=view.pool,
        at=now,
        level=worst(levels),
        tunnel=snapshot.spec.tunnel.value if snapshot.spec else None,
        tunnel_range=snapshot.spec.tunnel_range if snapshot.spec else None,
        subnets=subnets,
        nodes=nodes,
        hosts=_hosts(view),
        controller=controller,
        versions=versions,
        checks=tuple(checks),
    )


def _malformed(path: str, why: str) -> str:
    if "/controller/" in path:
        return f"{why}: scaling cannot be shown as it is, or goes on without it; remove it, or upgrade the older side"
    if path.endswith("/orders"):
        return f"{why}: it counts as none; order it again with `proxypool node cordon` or `uncordon`"
    return f"{why}: daemons go on with the last good version; write it again with `proxypool pool apply`, or remove it"


def _subnet(
    view: PoolView, spec: SubnetSpec, actions: tuple[Action, ...], controller: ControllerState, now: float
) -> SubnetReport:
    found = view.snapshot.pairs.get(spec.id, {})
    pairs = tuple(_pair(view, found[name], now) for name in sorted(found))
    scale = subnet_scale(spec.id, view.snapshot, view.report, actions)
    checks = (
        *check_subnet(spec.id, found.values(), is_managed=scale.is_managed),
        *check_scale(scale, found.values(), controller, now),
    )
    return SubnetReport(
        id=spec.id,
        level=worst([pair.level for pair in pairs] + [check.level for check in checks]),
        tenant=spec.tenant,
        cidrs=spec.cidrs,
        key=spec.key,
        hosts=tuple(sorted(view.snapshot.subnet_hosts.get(spec.id, ()))),
        scale=scale,
        spares=view.spares.get(spec.id),
        pairs=pairs,
        checks=checks,
    )


def _pair(view: PoolView, spec: PairSpec, now: float) -> PairReport:
    name = f"{spec.subnet}/{spec.id}"
    election = view.snapshot.elections.get(name, ())
    published = view.statuses.get(name, {})
    elected = election[0].node if election else None
    members = [
        Member(member.node, published.get(member.node), view.nodes_alive.get(member.node), member.node == elected)
        for member in spec.members
    ]
    masters = [member.node for member in members if member.is_master]
    checks = tuple(check_pair(spec, members, now))
    changes = [member.status.since for member in members if member.status and member.status.since]
    is_draining = spec.state is PairState.DRAINING
    return PairReport(
        id=spec.id,
        level=worst(check.level for check in checks),
        havip=spec.havip,
        vrid=spec.vrid,
        egress_address=spec.egress_address,
        state=spec.state.value,
        weight=spec.weight,
        draining_since=spec.draining_since if is_draining else None,
        mode=spec.mode.value,
        probe=spec.probe,
        paused_since=spec.paused_since,
        paused_by=spec.paused_by,
        pause_reason=spec.pause_reason,
        provider=spec.provider,
        connections_left=pair_left(view.snapshot, view.statuses, spec.subnet, spec.id, now).count
        if is_draining
        else None,
        elected=elected,
        epoch=election[0].epoch if election else None,
        master=masters[0] if len(masters) == 1 else None,
        havip_holders=tuple(member.node for member in members if member.status and member.status.has_havip),
        egress_holders=tuple(member.node for member in members if member.status and member.status.answers_egress),
        last_change=max(changes, default=None),
        members=tuple(_member(spec, member) for member in members),
        checks=checks,
    )


_AS_PUBLISHED = (
    *("role", "vrrp", "gate", "has_havip", "health", "epoch", "conntrack", "conntrack_limit", "repairs"),
    *("connections", "answers_egress", "sync", "change_reason", "blackout_s"),
    *("probe", "probe_ms", "damped_until"),
    *("rx_bytes", "tx_bytes", "rx_bytes_per_s", "tx_bytes_per_s", "packets_per_s"),
)


def _member(pair: PairSpec, member: Member) -> MemberReport:
    place = next(place for place in pair.members if place.node == member.node)
    report = MemberReport(
        node=place.node,
        eni=place.eni,
        address=place.address,
        is_alive=member.alive is not None,
        elected=member.is_elected,
    )
    status = member.status
    if status is None:
        return report
    same = {name: getattr(status, name) for name in _AS_PUBLISHED}
    return msgspec.structs.replace(report, since=status.since or None, observed_at=status.at or None, **same)


def _nodes(view: PoolView, subnets: tuple[SubnetReport, ...]) -> tuple[NodeReport, ...]:
    serves: dict[str, list[str]] = {}
    leads: dict[str, list[str]] = {}
    for subnet in subnets:
        for pair in subnet.pairs:
            for member in pair.members:
                serves.setdefault(member.node, []).append(f"{subnet.id}/{pair.id}")
            if pair.master is not None:
                leads.setdefault(pair.master, []).append(f"{subnet.id}/{pair.id}")
    reports = []
    for name, spec in sorted(view.snapshot.nodes.items()):
        alive = view.nodes_alive.get(name)
        orders = view.orders.get(name, NodeOrders())
        reports.append(
            NodeReport(
                id=name,
                is_alive=alive is not None,
                underlay=spec.underlay,
                version=alive.version if alive else spec.version,
                since=alive.since if alive else None,
                metrics=spec.metrics,
                labels=spec.labels,
                problems=alive.problems if alive else (),
                pairs=tuple(serves.get(name, ())),
                master_of=tuple(leads.get(name, ())),
                cordoned_since=orders.cordoned_since,
                draining_since=orders.draining_since,
                ordered_by=orders.who,
                order_reason=orders.reason,
            )
        )
    return tuple(reports)


def _hosts(view: PoolView) -> tuple[HostReport, ...]:
    uses: dict[str, list[str]] = {}
    for subnet, hosts in sorted(view.snapshot.subnet_hosts.items()):
        for host in hosts:
            uses.setdefault(host, []).append(subnet)
    reports = []
    for name, spec in sorted(view.snapshot.hosts.items()):
        alive = view.hosts_alive.get(name)
        reports.append(
            HostReport(
                id=name,
                is_alive=alive is not None,
                underlay=spec.underlay,
                tunnel_address=spec.tunnel_address,
                version=alive.version if alive else spec.version,
                since=alive.since if alive else None,
                metrics=spec.metrics,
                problems=alive.problems if alive else (),
                subnets=tuple(uses.get(name, ())),
                attachments=alive.attachments if alive else None,
            )
        )
    return tuple(reports)
