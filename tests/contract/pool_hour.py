"""A made-up hour of a pool, as Prometheus would have scraped it: the daemons' own metrics, played over a world that is
told here. Two failovers, a switchover, a scale-out and a scale-in. For the dashboards' queries and pictures.

"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample

from proxypool.core.blocking import Blocked
from proxypool.core.history import Record
from proxypool.core.model import MemberStatus, PairSpec, PairState
from proxypool.core.role import Role
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.scaling.series import NodeSeries, Series, Where
from proxypool.core.scaling.series import Sample as Use
from proxypool.core.state_sync import SyncCounts
from proxypool.core.sync_supervision import SyncReport, SyncState
from proxypool.telemetry.controller_metrics import ControllerMetrics, ControllerView, SubnetSize
from proxypool.telemetry.member_metrics import MemberView
from proxypool.telemetry.metrics import HostMetrics, HostView, NodeMetrics, NodeView
from proxypool.telemetry.use_metrics import NodeUse
from tests.contract.openmetrics import Samples
from tests.unit.builders import member, pair

POOL = "lab"
LENGTH_S = 3600
SCRAPE_S = 15
OFF = (600, 1200)
"""While node-a has no power."""
UNFIT = (2700, 2880)
"""While node-c does not reach the customer's gateway."""
SWITCHOVER_AT = 2100
GROWN = (1500, 3300)
"""While s1 has its third pair; it takes no new connections from `DRAINS_AT` on."""
OVERLOAD = (1380, 2700)
DRAINS_AT = 3000
SECOND_LEADER_FROM = 2400
NODES = tuple(f"node-{letter}" for letter in "abcdef")
LEADERS = ("ctl-1", "ctl-2")
HOSTS = ("host-1", "host-2")
LIMITS: Use = {NodeSeries.BYTES_LIMIT: 125e6, NodeSeries.PACKETS_LIMIT: 5e5, NodeSeries.CONNECTIONS_LIMIT: 4000.0}
BLACKOUTS = {"silent": (0.0452, 0.0009), "unfit": (0.0, 0.0031), "switchover": (0.0, 0.0012)}
"""Reason -> detection and gate, seconds."""


def _during(window: tuple[int, int], at: int) -> bool:
    return window[0] <= at < window[1]


@dataclass(frozen=True)
class Place:
    """A pair, its members, and which of them is master from when on."""

    subnet: str
    name: str
    members: tuple[str, str]
    masters: tuple[tuple[int, str, str], ...]
    """From when, who, why; the first entry has no reason."""
    exists: tuple[int, int] = (0, LENGTH_S + 1)
    share: float = 1.0

    def master(self, at: int) -> str:
        """Who it is."""
        return next(node for since, node, _ in reversed(self.masters) if since <= at)

    def spec(self, at: int) -> PairSpec:
        """The document."""
        number = int(self.name[1:])
        draining = self.name == "p3" and at >= DRAINS_AT
        return pair(
            self.name,
            self.subnet,
            tuple(member(node, f"172.16.101.{10 + number * 2 + place}/24") for place, node in enumerate(self.members)),
            f"192.168.4.{100 + number}",
            number,
            PairState.DRAINING if draining else PairState.ACTIVE,
            "172.16.101.99",
        )


PLACES = (
    Place("s1", "p1", ("node-a", "node-b"), ((0, "node-a", ""), (OFF[0], "node-b", "silent"))),
    Place("s1", "p2", ("node-c", "node-d"), ((0, "node-c", ""), (UNFIT[0], "node-d", "unfit"))),
    Place("s1", "p3", ("node-e", "node-f"), ((0, "node-e", ""),), exists=GROWN),
    Place("s2", "p1", ("node-b", "node-c"), ((0, "node-b", ""), (SWITCHOVER_AT, "node-c", "switchover")), share=0.4),
)


def load_of(subnet: str, at: int) -> float:
    """In pairs: s1 jumps in the middle of the hour."""
    wave = 0.08 * math.sin(at / 170) + 0.04 * math.sin(at / 31)
    if subnet == "s2":
        return 0.4 + wave / 2
    return 0.8 + wave + (0.9 if _during(OVERLOAD, at) else 0.0)


@dataclass
class Hour:
    """The world at one moment, which the metrics look at; `at` is in seconds from the beginning."""

    began: float
    at: int = 0
    _counted: dict[tuple[str, str, str, Series], float] = field(default_factory=dict)
    _nodes: dict[str, NodeMetrics] = field(default_factory=dict)
    _hosts: dict[str, HostMetrics] = field(default_factory=dict)
    _leaders: dict[str, ControllerMetrics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Every daemon runs from the beginning."""
        for name in NODES:
            self._nodes[name] = NodeMetrics(partial(self._node_view, name), partial(self._use, name))
            self._nodes[name].adverts_timed.set(1)
        for name in HOSTS:
            self._hosts[name] = HostMetrics(self._host_view)
        for name in LEADERS:
            self._leaders[name] = ControllerMetrics(partial(self._leader_view, name))

    @property
    def now(self) -> float:
        """Wall time."""
        return self.began + self.at

    def scrapes(self) -> Iterator[tuple[float, Mapping[str, str], CollectorRegistry | None]]:
        """Wall time, the target's labels, and its metrics; None: it does not answer."""
        for self.at in range(0, LENGTH_S + 1, SCRAPE_S):
            self._happens()
            for number, (role, name, registry) in enumerate(self._daemons(), start=1):
                labels = {"pool": POOL, "role": role, "node": name, "job": "proxypool"}
                yield self.now, {**labels, "instance": f"192.0.2.{number}:9477"}, registry

    def _daemons(self) -> Iterator[tuple[str, str, CollectorRegistry | None]]:
        for name, node in self._nodes.items():
            yield "node", name, node.registry if self._answers(name) else None
        for name, host in self._hosts.items():
            yield "host", name, host.registry
        for name, leader in self._leaders.items():
            yield "controller", name, leader.registry

    def _answers(self, name: str) -> bool:
        return not (name == "node-a" and _during(OFF, self.at))

    def _places(self, node: str) -> list[Place]:
        return [place for place in PLACES if node in place.members and _during(place.exists, self.at)]

    # ---- what happens ---------------------------------------------------------------------------------------------

    def _happens(self) -> None:
        for place in PLACES:
            for since, node, reason in place.masters[1:]:
                if since == self.at:
                    self._master_changed(place, node, reason)
                if since + SCRAPE_S == self.at and reason != "switchover":
                    self._nodes[node].measured(self._record(place, node, reason), {"election": 3.4})
        self._count_use()
        for node, metrics in self._nodes.items():
            if self._answers(node):
                self._reconciled(node, metrics)
        for host in self._hosts.values():
            host.attach_answered("done", 0.004 + 0.003 * math.sin(self.at / 50))
        self._scales()

    def _record(self, place: Place, node: str, reason: str) -> Record:
        detection, gate = BLACKOUTS[reason]
        phases = {"gate": gate, "blackout": detection + gate}
        kind = "switchover" if reason == "switchover" else "failover"
        return Record(
            kind=kind, reason=reason, subnet=place.subnet, pair=place.name, to_node=node, at=self.now - 4.2,
            phases={**phases, "detection": detection} if detection else phases, carried_over=2000 + self.at,
        )  # fmt: skip

    def _master_changed(self, place: Place, node: str, reason: str) -> None:
        record = self._record(place, node, reason)
        self._nodes[node].changed(record)
        self._nodes[node].measured(record, record.phases)

    def _reconciled(self, node: str, metrics: NodeMetrics) -> None:
        is_repair = node == "node-d" and self.at == OFF[0] + 300
        for place in self._places(node):
            is_ok = not (node == "node-c" and self.at == UNFIT[0])
            metrics.reconciled(
                place.subnet, ok=is_ok, is_repair=is_repair, operations=int(is_repair), duration_s=0.02, now=self.now
            )
        if self.at in (GROWN[0], GROWN[1]) and node in ("node-e", "node-f"):
            metrics.reloads.inc()

    def _scales(self) -> None:
        leader = self._leaders[LEADERS[self.at >= SECOND_LEADER_FROM]]
        for number in range(SCRAPE_S // 2):
            leader.rounds.observe(0.012 + 0.004 * math.sin(self.at + number))
        if self.at == OVERLOAD[0] + 2 * SCRAPE_S:
            leader.decided("panic", 1)
            leader.called("create_card", "throttled")
        if self.at == GROWN[0]:
            for call in ("create_card", "create_card", "create_address"):
                leader.called(call, "ok")
            leader.ended(self._action(ActionKind.ADD, "panic"), self.now)
        if self.at == DRAINS_AT:
            leader.decided("load", -1)
        if self.at == GROWN[1]:
            for call in ("release_card", "release_card", "release_address"):
                leader.called(call, "ok")
            leader.ended(self._action(ActionKind.DRAIN, "load"), self.now)

    def _action(self, kind: ActionKind, reason: str) -> Action:
        began = self.now - (8.4 if kind is ActionKind.ADD else GROWN[1] - DRAINS_AT)
        return Action(
            id="1", kind=kind, subnet="s1", pair="p3", step=Step.DONE, reason=reason, began=began, step_since=began
        )

    # ---- what pairs use -------------------------------------------------------------------------------------------

    def _load(self, place: Place) -> float:
        """Of one pair, 1 being all that it can carry."""
        others = [one for one in PLACES if one.subnet == place.subnet and _during(one.exists, self.at)]
        if place.name == "p3" and self.at >= DRAINS_AT:
            return 0.02
        taking = [one for one in others if not (one.name == "p3" and self.at >= DRAINS_AT)]
        return load_of(place.subnet, self.at) / len(taking)

    def _count_use(self) -> None:
        for node in NODES:
            for place in self._places(node):
                load = self._load(place) if place.master(self.at) == node else 0.0
                rates = {
                    Series.CONNECTIONS: 4000 * load,
                    Series.RECEIVED_BYTES: 20e6 * load,
                    Series.RECEIVED_PACKETS: 3e4 * load,
                    Series.SENT_BYTES: 90e6 * load,
                    Series.SENT_PACKETS: 8e4 * load,
                    Series.CLOCK: 1.0,
                    Series.TABLE_FULL: 0.0,
                    Series.EARLY_DROPS: 0.0,
                    Series.INSERT_FAILURES: max(0.0, load - 0.8),
                    Series.TUNNEL_DROPS: max(0.0, load - 0.7),
                    Series.ENI_DROPS: 0.0,
                }
                for series, rate in rates.items():
                    key = (node, place.subnet, place.name, series)
                    self._counted[key] = self._counted.get(key, 0.0) + rate * SCRAPE_S

    def _use(self, node: str) -> NodeUse:
        members: dict[Where, Use] = {}
        for place in self._places(node):
            is_master = place.master(self.at) == node
            load = self._load(place) if is_master else 0.0
            sample: dict[str, float] = {
                Series.MASTER: float(is_master),
                Series.AGE: 0.4,
                Series.CONNTRACK: 1e5 * load + 40,
                Series.CONNTRACK_LIMIT: 262144.0,
                Series.ENI_LIMIT: 125e6,
                Series.PORTS: 20000 * load,
                Series.PORTS_LIMIT: 64512.0,
                Series.PORTS_AGE: 12.0,
                Series.PORTS_COST: 0.01,
            }
            counted: dict[str, float] = {
                series: float(int(value))
                for (of, subnet, name, series), value in self._counted.items()
                if (of, subnet, name) == (node, place.subnet, place.name)
            }
            members[place.subnet, place.name] = {**sample, **counted}
        return NodeUse(LIMITS, 30.0, members)

    # ---- what daemons see -----------------------------------------------------------------------------------------

    def _node_view(self, node: str) -> NodeView:
        return NodeView(
            members=tuple(self._member(node, place) for place in self._places(node)),
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.2 + 0.1 * math.sin(self.at / 60 + len(node)),
            is_keepalived_up=True,
            is_keepalived_config_valid=True,
            malformed_documents=0,
        )

    def _member(self, node: str, place: Place) -> MemberView:
        is_master = place.master(self.at) == node
        is_unfit = node == "node-c" and _during(UNFIT, self.at)
        is_damped = node == "node-c" and _during((UNFIT[1], UNFIT[1] + 60), self.at)
        is_alone = place.name == "p1" and place.subnet == "s1" and _during(OFF, self.at)
        status = MemberStatus(
            node=node,
            role=(Role.MASTER if is_master else Role.BACKUP).value,
            vrrp="master" if is_master else "backup",
            gate=is_master,
            has_havip=is_master,
            epoch=100 + sum(since <= self.at for since, _, _ in place.masters),
            health=("gateway-unreachable",) if is_unfit and place.subnet == "s1" else (),
            since=self.began,
            probe="silent" if is_unfit else "ok",
            probe_ms=None if is_unfit else 0.3 + 0.05 * math.sin(self.at / 40 + len(place.name)),
            damped_until=self.now + 5 if is_damped else None,
            connections=200 if place.name == "p3" and self.at >= DRAINS_AT and is_master else None,
        )
        sync = SyncReport(
            SyncState.UNHEARD if is_alone else SyncState.OK,
            counts=SyncCounts(
                entries=int(1e5 * self._load(place)) if is_master else 0, lost=3 if self.at >= OFF[1] else 0
            ),
            restarts=(("died", int(self.at >= UNFIT[1] and node == "node-c")),),
        )
        return MemberView(place.spec(self.at), status, is_elected=is_master, sync=sync)

    def _host_view(self) -> HostView:
        return HostView(
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.3,
            subnets_served=2,
            subnets_refused=0,
            malformed_documents=0,
            attachments=40 + int(5 * math.sin(self.at / 300)),
            paths=4,
            retired_paths=int(_during((DRAINS_AT, GROWN[1]), self.at)),
            havips_silent=int(self.at == OFF[0]),
            havips_dead=0,
            connections_cut=0,
            blocked={"": {Blocked.REFUSED: self.at // 5}},
        )

    def _leader_view(self, name: str) -> ControllerView:
        leads = name == LEADERS[self.at >= SECOND_LEADER_FROM]
        if not leads:
            return ControllerView(is_zookeeper_connected=True)
        sizes = {}
        for subnet, most in (("s1", 4), ("s2", 2)):
            there = [one for one in PLACES if one.subnet == subnet and _during(one.exists, self.at)]
            active = sum(not (one.name == "p3" and self.at >= DRAINS_AT) for one in there)
            is_wanted = subnet == "s1" and _during((OVERLOAD[0] + 2 * SCRAPE_S, DRAINS_AT), self.at)
            load = load_of(subnet, self.at)
            sizes[subnet] = SubnetSize(
                active=active,
                wanted=3 if is_wanted else (2 if subnet == "s1" else 1),
                least=2 if subnet == "s1" else 1,
                most=most,
                is_blocked=subnet == "s1" and self.at == GROWN[0] - SCRAPE_S,
                load={"connections": load, "bytes": load * 0.7, "conntrack": load * 0.4, "ports": load * 0.3},
            )
        acting = _during((OVERLOAD[0] + 2 * SCRAPE_S, GROWN[0]), self.at) or _during((DRAINS_AT, GROWN[1]), self.at)
        return ControllerView(
            is_leader=True,
            epoch=7,
            is_zookeeper_connected=True,
            evaluated_at=self.now - 1.0,
            actions=int(acting),
            subnets=sizes,
        )


def _alerts(hour: Hour) -> Iterator[Sample]:
    """What the rules say while a node is off, and at the end; rules themselves are tested elsewhere."""
    if _during(OFF, hour.at) or hour.at == LENGTH_S:
        labels = {"alertname": "NoBackup", "alertstate": "firing", "severity": "warning"}
        yield Sample("ALERTS", {**labels, "subnet": "s1", "pair": "p1"}, 1)


def openmetrics(began: float) -> Iterator[str]:
    """The hour from `began` on, as text."""
    hour = Hour(began)
    text = Samples()
    for at, target, registry in hour.scrapes():
        text.scraped(at, target, None if registry is None else registry.collect())
        if target["node"] == NODES[0]:
            text.add("ALERTS", "gauge", at, _alerts(hour), {"pool": POOL})
    return text.lines()
