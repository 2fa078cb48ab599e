"""The status of a pool, put together from what was observed and published. Pure: the time is an argument."""

from __future__ import annotations

import msgspec

from proxypool.core.checks import Check, Code, Member, check_pair, check_subnet, worst
from proxypool.core.draining import pair_left
from proxypool.core.machine_checks import check_hosts, check_node, check_versions
from proxypool.core.model import PairSpec, PairState, SubnetSpec
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.checks import check_controller, check_scale
from proxypool.core.scaling.documents import Action, NodeOrders, by_subnet
from proxypool.core.scaling.overview import ControllerState, controller_state, subnet_scale
from proxypool.core.status import HostReport, MemberReport, NodeReport, PairReport, PoolStatus, SubnetReport
from proxypool.core.versions import running_versions


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
    checks += check_hosts({name: alive for name, alive in view.hosts_alive.items() if name in snapshot.hosts})
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
