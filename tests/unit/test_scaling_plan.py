"""Which actions begin, and why others do not."""

from __future__ import annotations

from msgspec.structs import replace

from proxypool.core.breaker import Breaker
from proxypool.core.documents import encode
from proxypool.core.model import PairSpec, PairState, Snapshot, SubnetSpec
from proxypool.core.scaling.deaths import Deaths
from proxypool.core.scaling.documents import Action, ActionKind, NodeOrders, Placing, Report, Step
from proxypool.core.scaling.leaks import leaks
from proxypool.core.scaling.model import Cause, Decision, ScalingMode, ScalingSpec
from proxypool.core.scaling.plan import Limits, Nodes, Plan, Subject, new_breaker, plan
from proxypool.core.scaling.records import MAX_REPORT_BYTES, cut, record_of, verdict_of
from proxypool.core.scaling.rooms import rooms
from proxypool.core.scaling.turns import SetState, Turn
from tests.unit.builders import member, node, pair, subnet

CLOCK = (1_800_000_000.0, 50.0)
NOBODY = Nodes()


def scaled(name: str = "s1", least: int = 1, mode: ScalingMode = ScalingMode.ENFORCE, **fields: object) -> SubnetSpec:
    return replace(subnet(name), scaling=ScalingSpec(min_pairs=least, mode=mode, **fields))  # type: ignore[arg-type]


def of_nodes(
    name: str, first: str, second: str, state: PairState = PairState.ACTIVE, provider: str = "fake"
) -> PairSpec:
    members = (member(first, "172.16.101.11/24"), member(second, "172.16.101.12/24"))
    return replace(pair(name, members=members, state=state), provider=provider)


def subject(spec: SubnetSpec, *pairs: PairSpec, wanted: int | None = None, **fields: object) -> Subject:
    decision = None if wanted is None else Decision(wanted=wanted, asked=wanted, cause=Cause.LOAD)
    return Subject(spec, {one.id: one for one in pairs}, decision, **fields)  # type: ignore[arg-type]


def planned(
    *subjects: Subject,
    nodes: Nodes = NOBODY,
    actions: tuple[Action, ...] = (),
    limits: Limits | None = None,
    breaker: Breaker | None = None,
) -> Plan:
    return plan(subjects, actions, nodes, limits or Limits(), breaker or new_breaker(), CLOCK)


def begun(found: Plan) -> list[tuple[str, str, str, Step]]:
    return [(one.subnet, one.kind.value, one.reason, one.step) for one in found.begin]


P1, P2 = of_nodes("p1", "n1", "n2"), of_nodes("p2", "n3", "n4")


def test_a_subnet_gets_the_pairs_that_it_must_have_in_any_mode_but_off() -> None:
    for mode in (ScalingMode.OBSERVE, ScalingMode.ENFORCE):
        found = planned(subject(scaled(least=2, mode=mode), P1))
        assert begun(found) == [("s1", "add", "min-pairs", Step.PLACE)]
        assert found.begin[0].pairs_before == 1
    assert begun(planned(subject(scaled(least=2, mode=ScalingMode.OFF), P1))) == []


def test_the_load_is_followed_in_mode_enforce_only() -> None:
    more, fewer = subject(scaled(), P1, wanted=2), subject(scaled(), P1, P2, wanted=1)
    assert begun(planned(more)) == [("s1", "add", "load", Step.PLACE)]
    assert begun(planned(fewer)) == [("s1", "drain", "load", Step.DRAIN)]
    observed = scaled(mode=ScalingMode.OBSERVE)
    assert begun(planned(subject(observed, P1, wanted=2), subject(observed, P1, P2, wanted=1))) == []


def test_nothing_begins_while_a_subnet_is_paused() -> None:
    spec = scaled(least=2, paused_since=1.0)
    found = planned(subject(spec, P1))
    assert (begun(found), found.blocked["s1"]) == ([], "paused: end it with `proxypool scale resume s1`")


def test_all_pairs_that_are_missing_are_added_together() -> None:
    """As many as are wanted beyond those that there are and that are coming, each under a name of its own."""
    found = planned(subject(scaled(), P1, wanted=5))
    assert begun(found) == [("s1", "add", "load", Step.PLACE)] * 4
    assert len({one.pair for one in found.begin}) == len({one.id for one in found.begin}) == 4
    assert (found.blocked, found.waits) == ({}, {})
    again = planned(subject(scaled(), P1, wanted=5), actions=found.begin)
    assert begun(again) == []
    more = planned(subject(scaled(), P1, wanted=6), actions=found.begin)
    assert [one.pair in {other.pair for other in found.begin} for one in more.begin] == [False]
    first, *others = begun(planned(subject(scaled(least=3), wanted=4)))
    assert (first, others) == (
        ("s1", "add", "min-pairs", Step.PLACE),
        [first, first, ("s1", "add", "load", Step.PLACE)],
    )


def test_no_more_begin_than_the_pool_allows_and_every_subnet_gets_one_first() -> None:
    subjects = (subject(scaled("s1"), P1, wanted=5), subject(scaled("s2"), P1, wanted=2))
    found = planned(*subjects, limits=Limits(max_actions=4), actions=(_action(subnet="s9"),))
    assert [one.subnet for one in found.begin] == ["s1", "s2", "s1"]
    assert found.waits == {"s1": "4 actions are under way in the pool: its turn comes after them"}
    assert found.blocked == {}
    more = planned(*subjects, limits=Limits(max_actions=3), actions=found.begin[::2])
    assert [one.subnet for one in more.begin] == ["s2"]


def test_pairs_are_added_beside_a_drain_or_a_replacement() -> None:
    """Either may take an hour."""
    going = of_nodes("p3", "n5", "n6", PairState.DRAINING)
    for kind, at in ((ActionKind.DRAIN, Step.WAIT), (ActionKind.REPLACE, Step.READY)):
        beside = _action(kind=kind, step=at, pair="p3")
        found = planned(subject(scaled(), P1, going, wanted=3), actions=(beside,))
        assert begun(found) == [("s1", "add", "load", Step.PLACE)] * 2


def test_drains_and_replacements_begin_alone() -> None:
    """Not beside a pair that comes, nor beside each other."""
    nodes = Nodes(dead=frozenset({"n1"}))
    for kind in ActionKind:
        beside = _action(kind=kind, step=Step.ACQUIRE, pair="p9")
        assert begun(planned(subject(scaled(), P1, P2, wanted=1), actions=(beside,))) == []
        assert begun(planned(subject(scaled(), P1, P2), nodes=nodes, actions=(beside,))) == []
    short = subject(scaled(), P1, P2, wanted=3)
    assert [one.kind for one in planned(short, nodes=nodes).begin] == [ActionKind.ADD]


def test_what_is_only_given_back_is_in_nobodys_way() -> None:
    """A provider may take back a card only hours later: meanwhile pairs leave dead nodes, and drain. But nothing more is
    asked of it for the same subnet.
    """
    nodes = Nodes(dead=frozenset({"n1"}))
    for kind, at in ((ActionKind.ADD, Step.UNDO), (ActionKind.DRAIN, Step.RELEASE)):
        stuck = _action(kind=kind, step=at, pair="p9")
        drained = planned(subject(scaled(), P1, P2, wanted=1), actions=(stuck,))
        assert begun(drained) == [("s1", "drain", "load", Step.DRAIN)]
        assert [one.kind for one in planned(subject(scaled(), P1, P2), nodes=nodes, actions=(stuck,)).begin] == [
            ActionKind.REPLACE
        ]
    undone = _action(step=Step.UNDO, pair="p9")
    assert begun(planned(subject(scaled(), P1, wanted=2), actions=(undone,))) == []


def test_drains_that_wait_keep_no_pair_from_coming() -> None:
    """Only other drains: connections may take an hour to end, and a subnet that nobody serves has not that long."""
    waiting = tuple(
        _action(kind=ActionKind.DRAIN, step=Step.WAIT, subnet=f"t{number}", pair="p1") for number in range(3)
    )
    subjects = (subject(scaled("s1"), P1, P2, wanted=1), subject(scaled("s4")))
    found = planned(*subjects, actions=waiting, limits=Limits(max_actions=3))
    assert [one.subnet for one in found.begin] == ["s4"]
    assert "its turn comes" in found.waits["s1"]
    assert [one.subnet for one in planned(*subjects, actions=waiting, limits=Limits(max_actions=5)).begin] == [
        "s4",
        "s1",
    ]


def test_what_an_operator_made_goes_last() -> None:
    """Of the others the newest."""
    theirs = of_nodes("z9", "n5", "n6", provider="")
    found = planned(subject(scaled(), P1, P2, theirs, wanted=2))
    assert found.begin[0].pair == "p2"


def test_what_is_too_much_drains_together() -> None:
    """The newest first; and while a pair drains none begins to."""
    found = planned(subject(scaled(), P1, P2, of_nodes("p3", "n5", "n6"), wanted=1))
    assert [(one.kind, one.pair) for one in found.begin] == [(ActionKind.DRAIN, "p3"), (ActionKind.DRAIN, "p2")]
    draining = of_nodes("p3", "n5", "n6", PairState.DRAINING, provider="")
    assert begun(planned(subject(scaled(), P1, P2, draining, wanted=1))) == []


def test_every_subnet_drains_its_first_pair_before_any_drains_its_second() -> None:
    first = subject(scaled("s1"), P1, P2, of_nodes("p3", "n5", "n6"), wanted=1)
    second = subject(scaled("s2"), P1, P2, wanted=1)
    found = planned(first, second, limits=Limits(max_actions=2))
    assert [(one.subnet, one.pair) for one in found.begin] == [("s1", "p3"), ("s2", "p2")]
    assert "its turn comes" in found.waits["s1"]


def test_no_drain_begins_with_a_replacement() -> None:
    nodes = Nodes(dead=frozenset({"n1"}))
    found = planned(subject(scaled(), P1, P2, of_nodes("p3", "n5", "n6"), wanted=2), nodes=nodes)
    assert [one.kind for one in found.begin] == [ActionKind.REPLACE]


def test_never_fewer_than_there_must_be() -> None:
    """Whatever the policy says."""
    assert begun(planned(subject(scaled(least=2), P1, P2, wanted=1))) == []
    assert begun(planned(subject(scaled(), P1, wanted=0))) == []


def test_pairs_of_dead_and_drained_nodes_are_replaced() -> None:
    """The one without a living member first."""
    nodes = Nodes(dead=frozenset({"n1", "n3", "n4"}))
    found = planned(subject(scaled(), P1, P2), nodes=nodes)
    assert begun(found) == [("s1", "replace", "dead-node", Step.PLACE)]
    assert found.begin[0].leaving == "p2"
    found = planned(subject(scaled(), P1, P2), nodes=Nodes(draining=frozenset({"n2"})))
    assert [(one.reason, one.leaving) for one in found.begin] == [("node-drain", "p1")]


def test_members_of_dead_nodes_stay_while_there_is_doubt() -> None:
    """But what an operator drains is moved."""
    nodes = Nodes(dead=frozenset({"n1"}), draining=frozenset({"n3"}), doubt="many look dead")
    found = planned(subject(scaled(), P1), subject(scaled("s2"), P2), nodes=nodes)
    assert [(one.subnet, one.reason) for one in found.begin] == [("s2", "node-drain")]
    assert found.blocked == {"s1": "many look dead"}


def test_replacements_begin_one_after_the_other() -> None:
    nodes = Nodes(dead=frozenset({"n1"}))
    subjects = [subject(scaled(f"s{number}"), P1) for number in range(9)]
    found = planned(*subjects, nodes=nodes, limits=Limits(max_actions=100))
    assert len(found.begin) == 4
    assert "one after the other" in found.waits["s8"]
    assert found.blocked == {}
    assert plan(subjects, (), nodes, Limits(), found.breaker, (CLOCK[0], CLOCK[1] + 10.0)).begin[0].subnet == "s0"


def test_what_is_most_urgent_comes_first() -> None:
    """A subnet that nobody serves before one that is short, and that before one that is large."""
    subjects = (
        subject(scaled("s1"), P1, P2, wanted=1),
        subject(scaled("s2"), P1, wanted=2),
        subject(scaled("s3", least=2), P1),
        subject(scaled("s4")),
    )
    found = planned(*subjects, actions=(_action(subnet="s9"),), limits=Limits(max_actions=3))
    assert [one.subnet for one in found.begin] == ["s4", "s3"]
    assert found.waits["s1"] == "3 actions are under way in the pool: its turn comes after them"


def test_what_failed_is_not_begun_again_at_once_and_nothing_else_waits_for_it() -> None:
    waits = {ActionKind.ADD: "no node with room"}
    found = planned(subject(scaled(least=2), P1, waits=waits))
    assert (begun(found), found.blocked) == ([], {"s1": "no node with room"})
    assert begun(planned(subject(scaled(), P1, P2, wanted=1, waits=waits))) == [("s1", "drain", "load", Step.DRAIN)]


def test_pairs_without_an_action_are_taken_up() -> None:
    """Preparing, to be opened; draining, to be removed. Not those that an operator made."""
    coming = of_nodes("p3", "n5", "n6", PairState.PREPARING)
    found = planned(subject(scaled(), P1, coming))
    assert begun(found) == [("s1", "add", "left-over", Step.READY)]
    assert (found.begin[0].members, found.begin[0].havip) == (coming.members, coming.havip)
    going = of_nodes("p3", "n5", "n6", PairState.DRAINING)
    assert begun(planned(subject(scaled(), P1, going))) == [("s1", "drain", "left-over", Step.DRAIN)]
    assert begun(planned(subject(scaled(), P1, replace(going, provider="")))) == []
    worked_on = _action(kind=ActionKind.REPLACE, step=Step.READY, pair="p3", leaving="p1")
    assert begun(planned(subject(scaled(), P1, coming, wanted=1), actions=(worked_on,))) == []


def test_a_node_is_dead_after_it_was_not_seen_for_long_enough() -> None:
    """Without a break; and whoever begins to watch begins to count."""
    deaths = Deaths().seen(("n1", "n2"), ("n1",), 0.0)
    assert deaths.dead(300.0, 299.0) == frozenset()
    assert deaths.dead(300.0, 300.0) == {"n2"}
    assert deaths.seen(("n1", "n2"), ("n1", "n2"), 100.0).seen(("n2",), (), 200.0).dead(300.0, 499.0) == frozenset()
    assert Deaths().seen(("n2",), (), 400.0).dead(300.0, 600.0) == frozenset()


def test_many_that_look_dead_at_once_are_doubted() -> None:
    """More than a quarter of those that carry pairs; one alone never is."""
    carriers = [f"n{number}" for number in range(8)]
    assert Deaths().seen(("n1", "n2"), (), 0.0).doubt(carriers) == ""
    assert "3 of 8 nodes look dead at once" in Deaths().seen(("n1", "n2", "n3"), (), 0.0).doubt(carriers)
    assert Deaths().seen(("n1",), (), 0.0).doubt(["n1", "n2"]) == ""
    assert Deaths().seen(("x1", "x2", "x3"), (), 0.0).doubt(carriers) == ""


def test_rooms_count_what_is_on_its_way() -> None:
    """Cards of an action whose pair is not written yet; those that are written are in the pair."""
    snapshot = Snapshot(
        nodes={"n1": replace(node("n1", "10.0.0.1"), labels={"pairs": "5"}), "n2": node("n2", "10.0.0.2")},
        pairs={"s1": {"p1": P1}},
    )
    under_way = _action(pair="p9", nodes=("n1",)), _action(subnet="s1", pair="p1", nodes=("n1", "n2"))
    placing = Placing(nodes_alive=frozenset({"n1"}), orders={"n2": NodeOrders(cordoned_since=1.0)})
    first, second = rooms(snapshot, placing, under_way, 100, {"n2": 0.5})
    assert (first.members, first.max_members, first.is_alive, first.is_cordoned) == (2, 5, True, False)
    assert (second.members, second.max_members, second.is_alive, second.is_cordoned) == (1, 100, False, True)
    assert (first.bandwidth_used, second.bandwidth_used) == (None, 0.5)


def _action(**fields: object) -> Action:
    values = {"id": "x", "subnet": "s1", "kind": ActionKind.ADD, "step": Step.ACQUIRE, "reason": "load", "pair": "p1"}
    return Action(**(values | {"began": 1.0, "step_since": 1.0, "pairs_before": 1} | fields))  # type: ignore[arg-type]


def test_what_belongs_to_no_pair_and_no_action_is_a_leak() -> None:
    """A card on a node that is not the pair's is one, too."""
    held = {("s1", "p1", "n1"), ("s1", "p1", ""), ("s1", "p1", "n7"), ("s1", "p8", "n1"), ("s1", "p9", "n1")}
    found = leaks(held, {"s1": {"p1": P1}}, (_action(pair="p9"),))
    assert found == {("s1", "p1", "n7"), ("s1", "p8", "n1")}


def test_a_record_tells_what_became_of_an_action() -> None:
    """The pair counts that is opened by the very last step; a place that was not found is told by the report alone."""
    over = _action(step=Step.DONE, opened="p2", pair="p2", began=100.0)
    coming = of_nodes("p2", "n3", "n4", PairState.PREPARING)
    record = record_of(Turn(over, SetState("p2", PairState.ACTIVE)), {"p1": P1, "p2": coming}, "c1", 130.0)
    assert record is not None
    assert (record.kind, record.pair, record.pairs_before, record.pairs_after, record.took_s, record.by) == (
        *("scale-out", "p2", 1, 2, 30.0, "c1"),
    )
    replaced = replace(over, kind=ActionKind.REPLACE, pair="p1")
    record = record_of(Turn(replaced), {"p2": P2}, "c1", 130.0)
    assert record is not None
    assert (record.kind, record.pair, record.note, record.pairs_after) == ("replace", "p2", "in place of pair p1", 1)
    assert record_of(Turn(_action(step=Step.DONE, error="no room")), {}, "c1", 130.0) is None


def test_pairs_that_come_together_are_counted_one_by_one() -> None:
    """Whichever is opened first."""
    over = _action(step=Step.DONE, opened="p3", pair="p3", pairs_before=1)
    there = {"p1": P1, "p2": P2, "p3": of_nodes("p3", "n5", "n6", PairState.PREPARING)}
    record = record_of(Turn(over, SetState("p3", PairState.ACTIVE)), there, "c1", 130.0)
    assert record is not None
    assert (record.pairs_before, record.pairs_after) == (2, 3)


def test_a_report_that_is_too_large_tells_what_is_out_of_the_ordinary() -> None:
    calm = verdict_of(2, None, {}, "")
    subnets = {f"subnet-{number}": calm for number in range(9000)} | {"odd": verdict_of(2, None, {}, "no room")}
    shorter = cut(Report(subnets=subnets))
    assert set(shorter.subnets) == {"odd"}
    assert len(encode(shorter)) < MAX_REPORT_BYTES
    assert "1 of 9001 subnets" in shorter.problems[0]
    assert cut(Report(subnets={"s1": calm})).problems == ()
