"""A pool as it lies in ZooKeeper, path by path, and what every reader of it makes of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any

import msgspec

from proxypool.adapters.zookeeper.layout import Extent, Facet, Layout, Parts, facet_of, suffix_of
from proxypool.adapters.zookeeper.listing import RawListing
from proxypool.adapters.zookeeper.reading import Answer, Node
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.adapters.zookeeper.view import view_of
from proxypool.cli import scaling_texts
from proxypool.cli.event_texts import event_line
from proxypool.cli.explain_pair_texts import pair_paragraphs
from proxypool.cli.explain_texts import explanation
from proxypool.cli.history import record_table, scale_record_table
from proxypool.cli.output import Format, render, to_json, to_yaml
from proxypool.cli.topology_texts import tree_text
from proxypool.cli.views import host_table, node_table, pair_table, status_text, subnet_table
from proxypool.core.assembly import assemble
from proxypool.core.discovery import targets
from proxypool.core.documents import decode, encode, to_builtins
from proxypool.core.errors import InvalidInput
from proxypool.core.event_changes import events_between, moment
from proxypool.core.events import events_of, standing
from proxypool.core.explanation import heir_of
from proxypool.core.history import Intent, Record, RecordList, last_of_each, newest, surplus
from proxypool.core.keepalived import render as keepalived_files
from proxypool.core.model import (
    Alive,
    MemberStatus,
    NodeSpec,
    PairState,
    PoolSpec,
)
from proxypool.core.node_scene import root_scene, subnet_scene
from proxypool.core.planner import plan
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.documents import Action, ActionKind, NodeOrders, Report, Spares, Step, SubnetVerdict
from proxypool.core.scaling.model import ScalingMode, ScalingSpec
from proxypool.core.scaling.overview import ScalingView, outlook, scale_status
from proxypool.core.scaling.rooms import rooms
from proxypool.core.scene import Scene
from proxypool.core.topology import topology
from proxypool.web.page import Documents
from tests.unit import builders

NOW = 1_790_000_000.0
LAYOUT = Layout("fuzz")
_LENGTH = struct.Struct("!i")


def _member(node: str, role: str) -> MemberStatus:
    return MemberStatus(
        node=node,
        role=role,
        vrrp=role,
        gate=role == "master",
        has_havip=role == "master",
        epoch=7,
        health=() if role == "master" else ("the gateway is silent",),
        conntrack=17,
        conntrack_limit=262144,
        rx_bytes=1,
        rx_bytes_per_s=5e6,
        tx_bytes_per_s=1e6,
        packets_per_s=1000.0,
        since=NOW - 60,
        at=NOW - 1,
        connections=3,
        sync="ok",
        change_reason="silent",
        blackout_s=0.05,
        probe="ok",
        probe_ms=0.4,
        damped_until=NOW + 30,
    )


def _documents() -> dict[str, msgspec.Struct]:
    """Of a pool that has one of everything, by path below it."""
    subnet = msgspec.structs.replace(
        builders.subnet(), scaling=ScalingSpec(mode=ScalingMode.ENFORCE, paused_since=NOW - 5), labels={"vpc": "v"}
    )
    first = msgspec.structs.replace(
        builders.pair(egress="172.16.101.20"), paused_since=NOW - 9, paused_by="kim@bastion", pause_reason="disk"
    )
    second = builders.pair("p2", members=(builders.N1, builders.N2), havip="192.168.4.101", vrid=2, since=NOW - 3)
    return {
        "spec": PoolSpec(),
        "subnets/s1": subnet,
        "subnets/s1/spares": Spares(members=(builders.N1,), havips=(IPv4Address("192.168.4.102"),)),
        "subnets/s1/pairs/p1": first,
        "subnets/s1/pairs/p2": msgspec.structs.replace(second, state=PairState.DRAINING),
        "subnets/s1/pairs/p1/status/n1": _member("n1", "master"),
        "subnets/s1/pairs/p1/status/n2": _member("n2", "backup"),
        "subnets/s1/pairs/p2/status/n1": _member("n1", "master"),
        **{
            f"nodes/{name}": NodeSpec(
                id=name,
                underlay=IPv4Address(f"192.168.4.{at}"),
                metrics=f"192.168.4.{at}:9477",
                version="0.1.0",
                labels={"zone": "a", "pairs": "7"},
            )
            for at, name in enumerate(("n1", "n2"), 1)
        },
        "nodes/n1/alive": Alive(underlay=IPv4Address("192.168.4.1"), since=NOW - 99, at=NOW, problems=("no arping",)),
        "nodes/n1/orders": NodeOrders(cordoned_since=NOW - 7, draining_since=NOW - 7, who="kim", reason="kernel"),
        "hosts/h1": msgspec.structs.replace(builders.host(), metrics="192.168.80.1:9478"),
        "hosts/h1/alive": Alive(underlay=IPv4Address("192.168.80.1"), at=NOW, attachments=3),
        "controller/report": Report(
            leader="ctl1:1",
            epoch=3,
            at=NOW - 1,
            round_s=0.01,
            provider="spare",
            subnets={
                "s1": SubnetVerdict(active=1, wanted=2, asked=2, cause="load", signal="bytes", load={"bytes": 1.2})
            },
            problems=("no metrics of n2",),
        ),
        "controller/actions/s1_p3": Action(
            id="1-s1-p3",
            kind=ActionKind.ADD,
            subnet="s1",
            pair="p3",
            step=Step.ACQUIRE,
            reason="load",
            began=NOW - 200,
            step_since=NOW - 190,
            signals={"bytes": 2.5},
            nodes=("n1", "n2"),
            attempts=4,
            error="no free card",
        ),
    }


VALID: Mapping[str, Any] = {path: msgspec.json.decode(encode(document)) for path, document in _documents().items()}
"""Plain values of each document, by path."""
RECORD = msgspec.json.decode(
    encode(
        Record(
            kind="failover",
            reason="silent",
            subnet="s1",
            pair="p1",
            from_node="n2",
            to_node="n1",
            epoch=7,
            at=NOW - 60,
            phases={"detection": 0.03, "gate": 0.001, "blackout": 0.05, "election": 3.9},
            carried_over=12,
            who="kim@bastion",
            note="disk",
            by="n1",
            signals={"bytes": 2.0},
            pairs_before=1,
            pairs_after=2,
            took_s=14.0,
        )
    )
)
INTENT = msgspec.json.decode(encode(Intent(epoch=7, who="kim@bastion", note="disk", at=NOW)))


class Tree:
    """Paths below the pool -> data, as ZooKeeper would answer."""

    def __init__(self, changed: Mapping[str, bytes], names: tuple[str, ...] = ()) -> None:
        """`changed`: instead of, or beside, the valid ones; `names`: of candidates."""
        self.data = {path: msgspec.json.encode(value) for path, value in VALID.items()}
        self.data |= {"version": b"1", "subnets/s1/hosts/h1": b"", "controller/election/ctl1-0000000001": b""}
        self.data |= {
            f"subnets/s1/pairs/p1/election/{name}": b"n1" for name in ("n1-0000000001", "n2-0000000002", *names)
        }
        self.data |= changed

    def answer(self, parts: Parts) -> Answer:
        """What reading this place brings."""
        path = suffix_of(parts)
        if facet_of(parts) in {Facet.CHILDREN, Facet.LIFE}:
            below = f"{path}/"
            found = sorted({at.removeprefix(below).partition("/")[0] for at in self.data if at.startswith(below)})
            raw = b"".join(_LENGTH.pack(len(name.encode())) + name.encode() for name in found)
            return RawListing(len(found), raw, 9)
        data = self.data.get(path)
        return None if data is None else Node(data, 0, 5, 6)


def loaded(tree: Tree, extent: Extent = Extent.STATUS, into: PoolTree | None = None) -> PoolTree:
    """The whole of it, read as a mirror does; `into` one that knows it already."""
    found = PoolTree(LAYOUT, extent) if into is None else into
    todo = found.roots()
    while todo:
        todo = [below for parts in todo for below in found.take(parts, tree.answer(parts), all_below=True)]
    return found


def view(tree: Tree) -> PoolView:
    """All that is published."""
    return view_of(loaded(tree))


def documents_of(found: PoolView, records: tuple[Record, ...] = ()) -> Documents:
    """What the status page shows."""
    status = assemble(found, NOW)
    sizes = ScalingView(
        pool=found.pool,
        snapshot=found.snapshot,
        actions=found.actions,
        report=found.report,
        controllers=found.controllers,
    )
    return Documents(status, RecordList(items=records), topology(status), scale_status(sizes, NOW))


def read_by_everybody(found: PoolView, before: PoolView) -> Iterator[str]:
    """What operators are shown of it, as text; and what nodes and the controller make of it is made."""
    documents = documents_of(found)
    status, sizes = documents.status, documents.scaling
    assert sizes is not None
    for document in (status, documents.topology, sizes):
        yield to_json(document)
        yield to_yaml(to_builtins(document))
    for wide in (False, True):
        texts = (
            status_text(status, wide=wide, colour=False, width=None if wide else 80),
            tree_text(documents.topology, wide=wide, colour=False, width=80),
            node_table(status.nodes, NOW, wide=wide),
            host_table(status.hosts, NOW, wide=wide),
            subnet_table(status.subnets, wide=wide),
            pair_table([(one, pair) for one in status.subnets for pair in one.pairs], NOW, wide=wide),
            scaling_texts.status_text(sizes, wide=wide, colour=False),
        )
        yield from map(_printed, texts)
    yield from _explained(documents)
    events = [*standing(found), *events_between(moment(before, NOW), moment(found, NOW + 1))]
    yield from (event_line(event, wide=True, colour=False) for event in events)
    yield from (to_json(event, indent=None) for event in events)
    yield from _used(found)


def _printed(text: str) -> str:
    """As commands print it."""
    return render(None, Format.TABLE, lambda _: text)


def _explained(documents: Documents) -> Iterator[str]:
    assert documents.scaling is not None
    for one in documents.scaling.subnets:
        outlook(one)
        yield _printed(explanation(one, documents.scaling.controller, NOW))
    for subnet in documents.status.subnets:
        for pair in subnet.pairs:
            heir = heir_of(subnet, pair, pair.master, NOW) if pair.master else None
            yield _printed(
                "\n".join(pair_paragraphs(subnet, pair, queue=("n1",), last=None, changes=0, heir=heir, now=NOW))
            )


def _used(found: PoolView) -> Iterator[str]:
    """By daemons."""
    snapshot = found.snapshot
    yield from keepalived_files(builders.keepalived_facts(), snapshot).values()
    for pair in snapshot.pairs_on("n1"):
        if snapshot.spec is not None:
            yield _planned(subnet_scene(builders.node_facts(), snapshot, pair))
    if snapshot.spec is not None:
        yield _planned(root_scene(builders.node_facts(), snapshot.spec, snapshot))
        yield _planned(builders.host_scene_of(snapshot, [("s1",)], spec=snapshot.spec))
    yield str(targets(found.pool, snapshot.nodes.values(), snapshot.hosts.values(), {}))
    placing = msgspec.structs.replace(_PLACING, orders=found.orders, spares=found.spares)
    yield str(rooms(snapshot, placing, found.actions, 100, {}))


def _planned(scene: Scene) -> str:
    return str(len(plan(scene, Scene(scene.namespace))))


_PLACING = loaded(Tree({}), Extent.PLACING).placing()


def records_shown(data: bytes, names: tuple[str, ...]) -> Iterator[str]:
    """What is shown of a log that has this record in it, among others of these names."""
    newest(names, 10, subnet="s1", since=NOW - 3600)
    last_of_each(names)
    surplus(names, 1)
    try:
        record = decode(data, Record, what="record")
    except InvalidInput:
        return
    for wide in (False, True):
        yield record_table((record,), wide=wide)
        yield scale_record_table((record,), wide=wide)
    yield to_json(RecordList(items=(record,)))
    yield from (event_line(event, wide=False, colour=False) for event in events_of((record,)))
