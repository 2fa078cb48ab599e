"""Pools for the status page: one that is well, one that has a bit of everything, one whose names are attacks."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from proxypool.core.assembly import assemble
from proxypool.core.discovery import Group
from proxypool.core.history import Record, RecordList
from proxypool.core.model import (
    Alive,
    HostSpec,
    MemberSpec,
    MemberStatus,
    NodeSpec,
    PairSpec,
    PairState,
    PoolSpec,
    Snapshot,
    SubnetSpec,
    TunnelKind,
)
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.documents import Action, ActionKind, NodeOrders, Report, Step, SubnetVerdict
from proxypool.core.scaling.model import ScalingMode, ScalingSpec
from proxypool.core.scaling.overview import ScalingView, scale_status
from proxypool.core.topology import topology
from proxypool.web.page import Documents
from proxypool.web.site import Sight
from tests.unit.builders import candidates

NOW = 1_790_000_000.0
ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def _node(name: str, number: int, zone: str) -> NodeSpec:
    return NodeSpec(
        id=name,
        underlay=IPv4Address("192.168.4.0") + number,
        metrics=f"192.168.4.{number}:9477",
        version="0.1.0",
        labels={"zone": zone},
    )


def _alive(number: int, *problems: str, attachments: int | None = None) -> Alive:
    underlay = IPv4Address("192.168.4.0") + number
    return Alive(
        underlay=underlay,
        version="0.1.0",
        since=NOW - 86_400 * 3,
        at=NOW - 1,
        problems=problems,
        attachments=attachments,
    )


def pair_of(subnet: str, name: str, number: int, nodes: tuple[str, str], **more: object) -> PairSpec:
    members = tuple(
        MemberSpec(node=node, eni="eth1", address=IPv4Interface(f"172.16.{number}.{11 + at}/24"))
        for at, node in enumerate(nodes)
    )
    havip = IPv4Address("192.168.4.100") + number
    return PairSpec(id=name, subnet=subnet, members=members, havip=havip, vrid=number, **more)  # type: ignore[arg-type]


def status_of(node: str, role: str, conntrack: int = 0, rate: float = 0.0, **more: object) -> MemberStatus:
    is_master = role == "master"
    values = {
        "vrrp": role,
        "gate": is_master,
        "has_havip": is_master,
        "conntrack": conntrack,
        "conntrack_limit": 262_144,
        "rx_bytes_per_s": rate,
        "tx_bytes_per_s": rate * 3.7,
        "since": NOW - 7_260,
        "at": NOW - 1,
        **more,
    }
    return MemberStatus(node=node, role=role, **values)  # type: ignore[arg-type]


def documents_of(view: PoolView, records: Iterable[Record] = (), now: float = NOW) -> Documents:
    """As a controller makes them."""
    status = assemble(view, now)
    sizes = ScalingView(
        pool=view.pool,
        snapshot=view.snapshot,
        actions=view.actions,
        report=view.report,
        controllers=view.controllers,
    )
    return Documents(status, RecordList(items=tuple(records)), topology(status), scale_status(sizes, now))


def _pool(pairs: Iterable[PairSpec], subnets: Iterable[SubnetSpec], statuses: Iterable[MemberStatus]) -> PoolView:
    by_subnet: dict[str, dict[str, PairSpec]] = {}
    for pair in pairs:
        by_subnet.setdefault(pair.subnet, {})[pair.id] = pair
    given = {one.node: one for one in statuses}
    nodes = sorted({member.node for some in by_subnet.values() for pair in some.values() for member in pair.members})
    hosts = [f"host-{number}" for number in range(1, 5)]
    published: dict[str, dict[str, MemberStatus]] = {}
    elections = {}
    for pair in (pair for some in by_subnet.values() for pair in some.values()):
        name = f"{pair.subnet}/{pair.id}"
        published[name] = {member.node: given[member.node] for member in pair.members if member.node in given}
        elections[name] = candidates(*(member.node for member in pair.members))
    snapshot = Snapshot(
        spec=PoolSpec(tunnel=TunnelKind.VXLAN),
        subnets={one.id: one for one in subnets},
        pairs=by_subnet,
        nodes={name: _node(name, at + 1, "abc"[at % 3]) for at, name in enumerate(nodes)},
        hosts={
            name: HostSpec(
                id=name,
                underlay=IPv4Address("192.168.80.0") + at,
                tunnel_address=IPv4Address("100.64.0.0") + at,
                metrics=f"192.168.80.{at}:9478",
            )
            for at, name in enumerate(hosts, 1)
        },
        subnet_hosts={one.id: frozenset(hosts) for one in subnets},
        elections=elections,
    )
    return PoolView(
        pool="production",
        snapshot=snapshot,
        statuses=published,
        nodes_alive={name: _alive(at + 1) for at, name in enumerate(nodes)},
        hosts_alive={name: _alive(80 + at, attachments=12 * at) for at, name in enumerate(hosts)},
        controllers=2,
    )


def _subnet(name: str, number: int, tenant: str, scaling: ScalingSpec | None = None) -> SubnetSpec:
    return SubnetSpec(
        id=name, cidrs=(IPv4Network(f"172.16.{number}.0/24"),), key=number, tenant=tenant, scaling=scaling
    )


_SIZE = ScalingSpec(min_pairs=1, max_pairs=4, mode=ScalingMode.ENFORCE)


def well() -> Documents:
    """Two subnets, three pairs, nothing to say."""
    view = _pool(
        [
            pair_of("orders-db", "p1", 1, ("node-a", "node-b"), egress_address=IPv4Address("172.16.1.20")),
            pair_of("orders-db", "p2", 2, ("node-c", "node-d")),
            pair_of("billing", "p1", 3, ("node-e", "node-f")),
        ],
        [_subnet("orders-db", 1, "acme", _SIZE), _subnet("billing", 3, "globex")],
        [
            *(status_of("node-a", "master", 48_211, 31e6), status_of("node-b", "backup")),
            *(status_of("node-c", "master", 46_090, 29e6), status_of("node-d", "backup")),
            *(status_of("node-e", "master", 912, 240e3), status_of("node-f", "backup")),
        ],
    )
    return documents_of(msgspec.structs.replace(view, report=_report(NOW - 2)), _records())


def _report(at: float) -> Report:
    verdict = SubnetVerdict(
        active=2, wanted=2, asked=2, cause="load", signal="connections", load={"connections": 1.32, "bandwidth": 0.48}
    )
    return Report(leader="ctl1", epoch=7, at=at, round_s=0.021, provider="spare", subnets={"orders-db": verdict})


def _records() -> list[Record]:
    return [
        Record(
            kind="scale-out",
            reason="load",
            subnet="orders-db",
            pair="p2",
            at=NOW - 9_000,
            by="ctl1",
            pairs_before=1,
            pairs_after=2,
            took_s=14.2,
        ),
        Record(
            kind="failover",
            reason="silent",
            subnet="orders-db",
            pair="p1",
            from_node="node-b",
            to_node="node-a",
            epoch=101,
            at=NOW - 7_260,
            phases={"detection": 0.0312, "gate": 0.0011, "blackout": 0.0488, "election": 3.9},
            carried_over=48_000,
            by="node-a",
        ),
        Record(
            kind="switchover",
            reason="switchover",
            subnet="billing",
            pair="p1",
            from_node="node-f",
            to_node="node-e",
            at=NOW - 3_600,
            phases={"gate": 0.0009, "blackout": 0.0},
            who="kim@bastion",
            note="kernel upgrade of node-f",
            by="node-e",
        ),
    ]


def eventful() -> Documents:
    """Critical: a pair without master. Also a dead node, a drain, an action that is stuck, a controller at its limit."""
    view = _pool(
        [
            pair_of("orders-db", "p1", 1, ("node-a", "node-b"), egress_address=IPv4Address("172.16.1.20")),
            pair_of("orders-db", "p2", 2, ("node-c", "node-d"), state=PairState.DRAINING, draining_since=NOW - 372),
            pair_of("billing", "p1", 3, ("node-e", "node-f")),
            pair_of("search", "p1", 4, ("node-g", "node-h"), paused_since=NOW - 640),
        ],
        [_subnet("orders-db", 1, "acme", _SIZE), _subnet("billing", 3, "globex"), _subnet("search", 4, "initech")],
        [
            *(status_of("node-a", "master", 243_870, 812e6), status_of("node-b", "backup")),
            *(status_of("node-c", "master", 2_096, 1.3e6, connections=41), status_of("node-d", "backup")),
            status_of("node-e", "fault", health=("the ENI has no carrier",)),
            *(status_of("node-g", "master", 180_000, 40e6, damped_until=None), status_of("node-h", "backup")),
        ],
    )
    alive = {name: one for name, one in view.nodes_alive.items() if name != "node-f"}
    alive["node-h"] = _alive(8, "arping is not there: install the package iputils-arping")
    verdict = SubnetVerdict(
        active=1, wanted=3, asked=3, cause="panic", signal="connections", is_panic=True, load={"connections": 2.71}
    )
    action = Action(
        id="1",
        kind=ActionKind.ADD,
        subnet="orders-db",
        pair="p3",
        step=Step.ACQUIRE,
        reason="panic",
        began=NOW - 200,
        step_since=NOW - 190,
        nodes=("node-c", "node-e"),
        attempts=4,
        error="no free card on node-e",
    )
    view = msgspec.structs.replace(
        view,
        nodes_alive=alive,
        hosts_alive={name: one for name, one in view.hosts_alive.items() if name != "host-3"},
        orders={"node-d": NodeOrders(cordoned_since=NOW - 900, draining_since=NOW - 900, who="kim@bastion")},
        report=Report(leader="ctl1", at=NOW - 1, provider="spare", subnets={"orders-db": verdict}),
        actions=(action,),
    )
    failed = Record(
        kind="scale-out",
        reason="panic",
        subnet="orders-db",
        pair="p3",
        at=NOW - 420,
        by="ctl1",
        pairs_before=1,
        pairs_after=1,
        took_s=122.0,
        error="not ready within 120 s",
    )
    lost = Record(
        kind="failover",
        reason="gave-up",
        subnet="billing",
        pair="p1",
        from_node="node-f",
        to_node="node-e",
        at=NOW - 95,
        phases={"detection": 0.0061, "blackout": 0.0093},
        by="node-e",
    )
    return documents_of(view, [*_records(), failed, lost])


def hostile() -> Documents:
    """Every text that comes from ZooKeeper is an attack."""
    pairs = [pair_of(ATTACK, ATTACK, 1, (f"a{ATTACK}", f"b{ATTACK}"), state=PairState.DRAINING, provider=ATTACK)]
    statuses = [
        status_of(f"a{ATTACK}", "master", change_reason=ATTACK, probe=ATTACK),
        status_of(f"b{ATTACK}", ATTACK, health=(ATTACK,), sync=ATTACK),
    ]
    view = _pool(pairs, [_subnet(ATTACK, 1, ATTACK, _SIZE)], statuses)
    record = Record(
        kind=ATTACK,
        reason=ATTACK,
        subnet=ATTACK,
        pair=ATTACK,
        from_node=ATTACK,
        to_node=ATTACK,
        at=NOW,
        who=ATTACK,
        note=ATTACK,
    )
    action = Action(
        id=ATTACK,
        kind=ActionKind.ADD,
        subnet=ATTACK,
        pair=ATTACK,
        step=Step.PLACE,
        reason=ATTACK,
        began=NOW,
        step_since=NOW,
        nodes=(ATTACK,),
        error=ATTACK,
    )
    verdict = SubnetVerdict(
        active=1, wanted=1, asked=1, cause=ATTACK, signal=ATTACK, load={ATTACK: 1.0}, held=(ATTACK,), blocked=ATTACK
    )
    first, *others = view.snapshot.nodes.values()
    odd = msgspec.structs.replace(first, labels={ATTACK: ATTACK}, version=ATTACK)
    snapshot = msgspec.structs.replace(
        view.snapshot, nodes={one.id: one for one in (odd, *others)}, malformed={ATTACK: ATTACK}
    )
    view = msgspec.structs.replace(
        view,
        pool=ATTACK,
        snapshot=snapshot,
        nodes_alive={name: _alive(1, ATTACK) for name in view.snapshot.nodes},
        hosts_alive={name: _alive(1, ATTACK) for name in view.snapshot.hosts},
        actions=(action,),
        report=Report(leader=ATTACK, at=NOW, provider=ATTACK, subnets={ATTACK: verdict}, problems=(ATTACK,)),
    )
    return documents_of(view, [record, msgspec.structs.replace(record, kind="scale-out", error=ATTACK)])


@functools.cache
def many(count: int, name: str = "s") -> Documents:
    """So many subnets of a pair each; every hundredth, from the seventh on, has no backup."""
    pairs = []
    statuses = []
    for number in range(1, count + 1):
        nodes = (f"n{number:04}a", f"n{number:04}b")
        pair = pair_of(f"{name}{number}", "p1", number % 200 + 1, nodes)
        pairs.append(msgspec.structs.replace(pair, havip=IPv4Address("10.9.0.0") + number))
        statuses.append(status_of(nodes[0], "master", 1000))
        statuses.append(status_of(nodes[1], "backup", health=("the gateway is silent",) if number % 100 == 7 else ()))
    return documents_of(
        _pool(pairs, [_subnet(f"{name}{at}", at % 200, "acme") for at in range(1, count + 1)], statuses)
    )


class Shown:
    """A `web.site.Daemon` that shows what it is told to."""

    def __init__(self, documents: Documents | None, problem: str = "", age_s: float = 0.8) -> None:
        self.seen = Sight(documents, age_s, problem)
        self.trouble = ""
        self.is_hanging = False
        self.groups: list[Group] | None = []
        self.hosts_asked: list[str] = []

    def sight(self) -> Sight:
        return self.seen

    def targets(self, host: str) -> list[Group] | None:
        self.hosts_asked.append(host)
        return self.groups

    def is_alive(self) -> bool:
        return not self.is_hanging

    def unready(self) -> str:
        return self.trouble
