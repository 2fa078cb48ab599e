"""Events: what two looks at a pool tell, and what history and documents tell of the past."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

import msgspec
import pytest

from proxypool.cli.event_texts import event_line
from proxypool.core.assembly import assemble
from proxypool.core.checks import Level
from proxypool.core.event_changes import events_between, moment
from proxypool.core.events import Event, events_of, last, standing
from proxypool.core.history import Kind, Record, pausing_record
from proxypool.core.model import Alive, FailoverMode, PairState
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.documents import Action, ActionKind, NodeOrders, Report, Step
from proxypool.core.scaling.model import ScalingSpec
from tests.unit.builders import candidates, host, node, pair, snapshot, subnet
from tests.unit.test_status import BACKUP, MASTER, NOW, alive, member, view

replace = msgspec.structs.replace
LATER = NOW + 1
QUIET = view(MASTER, BACKUP)
ACTION = Action(
    id="1",
    kind=ActionKind.ADD,
    subnet="s1",
    pair="p2",
    step=Step.READY,
    reason="load",
    began=NOW - 3,
    step_since=NOW - 2,
)


def told(before: PoolView, after: PoolView) -> list[tuple[str, str, str]]:
    """Type, subject and message of what happened, checks left out."""
    found = events_between(moment(before, NOW), moment(after, LATER))
    return [(event.type, event.subject, event.message) for event in found if event.type != "check"]


def with_documents(documents: object) -> PoolView:
    return replace(QUIET, snapshot=documents)


def with_pair(**fields: object) -> PoolView:
    """The pair is changed."""
    changed = replace(pair(), **fields)
    return with_documents(replace(QUIET.snapshot, pairs={"s1": {"p1": changed}}))


def with_subnet(**fields: object) -> PoolView:
    changed = replace(QUIET.snapshot.subnets["s1"], **fields)
    return with_documents(replace(QUIET.snapshot, subnets={"s1": changed}))


def test_nothing_happens_in_a_pool_that_stays_as_it_is() -> None:
    """Heartbeats and counters are no events."""
    later = view(replace(MASTER, at=LATER, conntrack=7, rx_bytes=9), replace(BACKUP, at=LATER))
    assert events_between(moment(QUIET, NOW), moment(later, LATER)) == []


def test_versions_of_hosts_which_who_follows_does_not_read_neither_begin_nor_end_anything() -> None:
    """The first look comes from a reader that knows them: a mixture would seem to be over at the next one."""
    old = Alive(underlay=IPv4Address("192.168.80.1"), version="0.0.9", since=NOW - 9e5)
    nodes = {name: replace(life, version="0.1.0", since=NOW - 8e5) for name, life in QUIET.nodes_alive.items()}
    after = replace(QUIET, nodes_alive=nodes, hosts_living=frozenset({"h1"}))
    before = replace(after, hosts_alive={"h1": old})
    assert any(check.name == "mixed-versions" for check in assemble(before, NOW).checks)
    assert events_between(moment(before, NOW), moment(after, LATER)) == []


@dataclass
class Case:
    after: PoolView
    expected: list[tuple[str, str, str]]
    before: PoolView = field(default_factory=lambda: QUIET)


CASES = {
    "a takeover": Case(
        view(member("n2", "master", since=LATER), living=("n2",), elected=("n2",)),
        [
            ("daemon", "nodes/n1", "is gone: its session ended"),
            ("elected", "s1/p1", "n1 -> n2"),
            ("role", "s1/p1/n1", "master -> silent"),
            ("role", "s1/p1/n2", "backup -> master"),
        ],
    ),
    "a member that cannot serve": Case(
        view(MASTER, member("n2", "fault", since=LATER, health=("the ENI is gone",))),
        [("role", "s1/p1/n2", "backup -> fault: the ENI is gone")],
    ),
    "a daemon that comes": Case(
        QUIET,
        [("daemon", "nodes/n2", "is there"), ("role", "s1/p1/n2", "silent -> backup")],
        view(MASTER, living=("n1",)),
    ),
    "a restart": Case(
        replace(QUIET, nodes_alive={"n1": replace(alive(), since=NOW), "n2": alive()}),
        [("daemon", "nodes/n1", "restarted")],
    ),
    "a weight": Case(
        with_pair(weight=3, mode=FailoverMode.STRICT), [("spec", "s1/p1", "weight 1 -> 3, mode fast -> strict")]
    ),
    "an egress address": Case(
        with_pair(egress_address=IPv4Address("172.16.101.9")),
        [("spec", "s1/p1", "egress_address none -> 172.16.101.9")],
    ),
    "a drain": Case(
        with_pair(state=PairState.DRAINING, draining_since=NOW + 0.5), [("drain", "s1/p1", "begins to drain")]
    ),
    "a drain taken back": Case(
        QUIET,
        [("drain", "s1/p1", "takes new connections")],
        with_pair(state=PairState.DRAINING, draining_since=NOW),
    ),
    "a pause": Case(with_pair(paused_since=NOW + 0.5), [("pause", "s1/p1", "is paused")]),
    "a pause by somebody": Case(
        with_pair(paused_since=NOW, paused_by="ann@ops", pause_reason="new kernel"),
        [("pause", "s1/p1", "is paused, by ann@ops: new kernel")],
    ),
    "a resumption": Case(QUIET, [("pause", "s1/p1", "is resumed")], with_pair(paused_since=NOW)),
    "a pair more": Case(
        with_documents(replace(QUIET.snapshot, pairs={"s1": {"p1": pair(), "p2": pair("p2", havip="192.168.4.101")}})),
        [("spec", "s1/p2", "pair is added: active, n1 and n2")],
    ),
    "a pair less": Case(
        with_documents(replace(QUIET.snapshot, pairs={}, elections={})),
        [("spec", "s1/p1", "pair is removed")],
    ),
    "a subnet more": Case(
        with_documents(
            replace(QUIET.snapshot, subnets={**QUIET.snapshot.subnets, "s2": subnet("s2", "172.16.102.0/24", key=2)})
        ),
        [("spec", "s2", "subnet is added")],
    ),
    "a size": Case(
        with_subnet(scaling=ScalingSpec(min_pairs=2)),
        [("spec", "s1", "scaling none -> min_pairs 2, max_pairs 8, mode observe")],
    ),
    "another size": Case(
        with_subnet(scaling=ScalingSpec(min_pairs=3)),
        [("spec", "s1", "scaling (min_pairs 2 -> 3)")],
        with_subnet(scaling=ScalingSpec(min_pairs=2)),
    ),
    "scaling is paused": Case(
        with_subnet(scaling=ScalingSpec(paused_since=NOW + 0.5)),
        [("pause", "s1", "scaling is paused")],
        with_subnet(scaling=ScalingSpec()),
    ),
    "a node registers": Case(
        with_documents(replace(QUIET.snapshot, nodes={**QUIET.snapshot.nodes, "n3": node("n3", "192.168.4.3")})),
        [("spec", "nodes/n3", "node is added")],
    ),
    "a host goes": Case(with_documents(replace(QUIET.snapshot, hosts={})), [("spec", "hosts/h1", "host is removed")]),
    "a host's daemon goes, another one's comes": Case(
        replace(QUIET, hosts_living=frozenset({"h2", "h3"})),
        [("daemon", "hosts/h1", "is gone: its session ended"), ("daemon", "hosts/h3", "is there")],
        replace(QUIET, hosts_living=frozenset({"h1", "h2"})),
    ),
    "a cordon": Case(
        replace(QUIET, orders={"n1": NodeOrders(cordoned_since=NOW + 0.5, who="ann@ops", reason="new kernel")}),
        [("drain", "nodes/n1", "is cordoned, by ann@ops: new kernel")],
    ),
    "a node's drain": Case(
        replace(QUIET, orders={"n1": NodeOrders(cordoned_since=NOW, draining_since=NOW + 0.5, who="ann@ops")}),
        [("drain", "nodes/n1", "begins to drain, by ann@ops")],
    ),
    "an order taken back": Case(
        replace(QUIET, orders={"n1": NodeOrders(who="ben@ops")}),
        [("drain", "nodes/n1", "takes new pairs again, by ben@ops")],
        replace(QUIET, orders={"n1": NodeOrders(cordoned_since=NOW)}),
    ),
    "an action begins": Case(replace(QUIET, actions=(ACTION,)), [("scaling", "s1/p2", "add begins: load")]),
    "an action goes on": Case(
        replace(QUIET, actions=(replace(ACTION, step=Step.OPEN, step_since=NOW + 0.5),)),
        [("scaling", "s1/p2", "add: ready -> open")],
        replace(QUIET, actions=(ACTION,)),
    ),
    "an action meets an error": Case(
        replace(QUIET, actions=(replace(ACTION, error="no card"),)),
        [("scaling", "s1/p2", "add at ready: no card")],
        replace(QUIET, actions=(ACTION,)),
    ),
    "an action is over": Case(QUIET, [("scaling", "s1/p2", "add is over")], replace(QUIET, actions=(ACTION,))),
    "another controller": Case(
        replace(QUIET, report=Report(leader="ctl-2:9", at=NOW)),
        [("daemon", "controller", "ctl-2:9 leads")],
        replace(QUIET, report=Report(leader="ctl-1:7", at=NOW)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_happened_is_told(name: str) -> None:
    case = CASES[name]
    assert told(case.before, case.after) == case.expected


def test_every_change_of_a_spec_is_told() -> None:
    """Whatever field it is in: none may be forgotten when a document gets another one."""
    silent = {"v", "id", "subnet", "paused_by", "pause_reason"}
    changes: dict[str, object] = {
        "members": pair().members[::-1],
        "havip": IPv4Address("192.168.4.9"),
        "vrid": 9,
        "egress_address": IPv4Address("172.16.101.9"),
        "state": PairState.PREPARING,
        "weight": 2,
        "draining_since": None,
        "mode": FailoverMode.STRICT,
        "probe": IPv4Address("172.16.101.1"),
        "paused_since": NOW,
        "provider": "spare",
    }
    assert set(changes) | silent == set(pair().__struct_fields__)
    for name, value in changes.items():
        assert bool(told(QUIET, with_pair(**{name: value}))) is (value is not None), name


def test_a_check_begins_and_ends() -> None:
    """With its code, its level, and what to do; its end is ok."""
    broken = view(MASTER, living=("n1",), elected=("n1",))
    begun = [event for event in events_between(moment(QUIET, NOW), moment(broken, LATER)) if event.type == "check"]
    assert [(event.subject, event.message.split(":")[0], event.level) for event in begun] == [
        ("s1/p1", "PP003 no-backup", Level.DEGRADED),
        ("s1/p1/n2", "PP008 node-not-alive", Level.DEGRADED),
    ]
    ended = [event for event in events_between(moment(broken, NOW), moment(QUIET, LATER)) if event.type == "check"]
    assert [(event.message, event.level) for event in ended] == [
        ("PP003 no-backup is over", Level.OK),
        ("PP008 node-not-alive is over", Level.OK),
    ]


def test_a_check_that_only_time_makes_is_told() -> None:
    """The pool is the same, and its word has become old."""
    found = events_between(moment(QUIET, NOW), moment(QUIET, NOW + 60))
    assert {event.message.split(":")[0] for event in found} == {"PP010 stale-status"}


def test_a_pause_is_told_once() -> None:
    """By the pair's document; the history's record of it is for those who look there."""
    assert not list(events_of([pausing_record(Kind.PAUSE, pair(), NOW, "ann@ops", "new kernel")]))


def test_events_come_in_the_order_of_their_times() -> None:
    after = replace(
        view(MASTER, member("n2", "master", since=NOW + 0.7)),
        orders={"n1": NodeOrders(cordoned_since=NOW + 0.2)},
    )
    found = events_between(moment(QUIET, NOW), moment(after, LATER))
    assert [event.type for event in found][:2] == ["drain", "role"]
    assert [event.at for event in found] == sorted(event.at for event in found)


FAILOVER = Record(
    kind="failover",
    reason="silent",
    subnet="s1",
    pair="p1",
    from_node="n1",
    to_node="n2",
    at=NOW,
    phases={"detection": 0.162, "blackout": 0.164},
)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (FAILOVER, "n1 -> n2: silent, detection 162 ms, blackout 164 ms"),
        (replace(FAILOVER, from_node="", reason="cold-start", phases={}), "nobody -> n2: cold-start"),
        (replace(FAILOVER, who="ann@ops", note="new kernel", phases={}), "n1 -> n2: silent, by ann@ops, new kernel"),
        (
            Record(
                kind="scale-out",
                reason="load",
                subnet="s1",
                pair="p2",
                at=NOW,
                pairs_before=1,
                pairs_after=2,
                took_s=9.4,
            ),
            "1 -> 2 pairs: load, took 9 s",
        ),
        (Record(kind="scale-in", reason="load", subnet="s1", pair="p2", at=NOW, error="no"), "load, given up: no"),
    ],
)
def test_a_record_of_the_history_is_an_event(record: Record, message: str) -> None:
    (event,) = events_of([record])
    assert (event.type, event.at, event.message, event.record) == (record.kind, NOW, message, record)
    assert event.subject == f"s1/{record.pair}"


def test_documents_tell_since_when_things_are_so() -> None:
    """What the history does not keep."""
    draining = pair(state=PairState.DRAINING, since=NOW - 9)
    paused = replace(draining, paused_since=NOW - 5)
    documents = snapshot(pairs=[paused], hosts=[host()], elections={"s1/p1": candidates("n1")})
    seen = replace(
        view(MASTER, BACKUP, documents=documents),
        orders={"n1": NodeOrders(cordoned_since=NOW - 7)},
        actions=(ACTION,),
    )
    found = sorted((event.at, event.type, event.subject, event.message) for event in standing(seen))
    assert found == [
        (NOW - 100, "daemon", "nodes/n1", "started"),
        (NOW - 100, "daemon", "nodes/n2", "started"),
        (NOW - 9, "drain", "s1/p1", "begins to drain"),
        (NOW - 7, "drain", "nodes/n1", "is cordoned"),
        (NOW - 5, "pause", "s1/p1", "is paused"),
        (NOW - 3, "scaling", "s1/p2", "add begins: load"),
    ]
    assert [event.at for event in last(standing(seen), 2)] == [NOW - 5, NOW - 3]
    assert last(standing(seen), 0) == []


@pytest.mark.parametrize(
    ("subject", "asked", "is_so"),
    [
        ("s1", ("s1",), True),
        ("s1/p1/n1", ("s1",), True),
        ("s1/p1/n1", ("s1", "p1"), True),
        ("s1/p2", ("s1", "p1"), False),
        ("s1", ("s1", "p1"), False),
        ("s12", ("s1",), False),
        ("nodes/s1", ("s1",), False),
    ],
)
def test_events_of_one_subnet_or_pair(subject: str, asked: tuple[str, ...], *, is_so: bool) -> None:
    event = Event(at=NOW, type="spec", subject=subject, message="x")
    assert event.concerns(*asked) is is_so


def test_a_line_has_time_type_subject_and_message() -> None:
    """Aligned as long as names are of a usual length; colours do not shift them."""
    lines = [
        event_line(event, wide=False, colour=False)
        for event in (next(events_of([FAILOVER])), Event(at=NOW, type="spec", subject="s1", message="subnet is added"))
    ]
    assert [line[16:] for line in lines] == [
        "failover    s1/p1             n1 -> n2: silent, detection 162 ms, blackout 164 ms",
        "spec        s1                subnet is added",
    ]
    assert event_line(next(events_of([FAILOVER])), wide=False, colour=True)[16:].startswith(
        "\x1b[1;31mfailover\x1b[0m    s1/p1 "
    )
    assert event_line(next(events_of([FAILOVER])), wide=True, colour=False)[23:26] == "  f"
