"""From what nodes say to the load of a subnet."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.freshness import stale_after
from proxypool.core.scaling.model import Signal
from proxypool.core.scaling.rates import Problem
from proxypool.core.scaling.series import NodeSeries, Sample, Series
from proxypool.core.scaling.signals import Signals, SubnetLoad
from tests.unit.builders import member, pair
from tests.unit.signal_samples import LIMITS, WHERE, counted, idle, node_sample, watched

PAIR = pair()
OTHER = pair("p2", members=(member("n3", "172.16.101.13/24"), member("n4", "172.16.101.14/24")), havip="192.168.4.101")
JUST_MASTER: Sample = {Series.MASTER: 1.0}
FULL = {
    Signal.CONNTRACK: 0.25,
    Signal.CONNECTIONS: 0.1,
    Signal.BYTES: 0.3,
    Signal.PACKETS: 0.3,
    Signal.PORTS: 0.25,
}


def looked(signals: Signals, now: float, *pairs: PairSpec) -> SubnetLoad:
    return signals.load_of(pairs or (PAIR,), now)


def problem_of(found: SubnetLoad, signal: Signal, name: str = "p1") -> Problem | None:
    """Why a load is not known; it must then be None, and a lower bound must be there."""
    problem = found.problems[name].get(signal)
    if problem is not None:
        assert found.load[signal] is None
        assert signal in found.at_least
    return problem


def test_a_load_is_what_the_master_uses_of_what_there_is() -> None:
    found = looked(watched(10.0, 12.0), 12.0)
    assert found.load == pytest.approx(FULL)
    assert found.at_least == {}
    assert found.problems == {"p1": {}}
    assert not found.drops


def test_pairs_are_added_up() -> None:
    """Those that drain too: what ends there begins again elsewhere. Not those that are not open yet."""
    signals = watched(10.0, 12.0)
    for at in (10.0, 12.0):
        signals.saw(node_sample("n3", at, {("s1", "p2"): counted(at, scale=2.0)}))
        signals.saw(node_sample("n4", at, {("s1", "p2"): idle(at)}))
    preparing = pair("p3", members=(member("n5", "172.16.101.15/24"), member("n6", "172.16.101.16/24")))
    draining = replace(OTHER, state=PairState.DRAINING)
    preparing = replace(preparing, state=PairState.PREPARING)
    for pairs in ((PAIR, OTHER), (PAIR, draining), (PAIR, OTHER, preparing)):
        found = looked(signals, 12.0, *pairs)
        assert found.load == pytest.approx({signal: 3 * load for signal, load in FULL.items()})


def test_where_one_pair_is_not_known_the_sum_is_a_lower_bound() -> None:
    found = looked(watched(10.0, 12.0), 12.0, PAIR, OTHER)
    assert set(found.load.values()) == {None}
    assert found.at_least == pytest.approx(FULL)
    assert found.problems["p1"] == {}
    assert set(found.problems["p2"].values()) == {Problem.UNREAD}


def test_the_first_look_gives_no_rates() -> None:
    found = looked(watched(10.0), 10.0)
    assert found.load[Signal.CONNTRACK] == 0.25
    for signal in (Signal.CONNECTIONS, Signal.BYTES, Signal.PACKETS):
        assert problem_of(found, signal) is Problem.NEW


class TestCounters:
    def test_one_that_went_back_is_not_known(self) -> None:
        """The others are."""
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n1", 14.0, counted(14.0, CONNECTIONS=5.0)))
        found = looked(signals, 14.0)
        assert problem_of(found, Signal.CONNECTIONS) is Problem.RESET
        assert found.load[Signal.BYTES] == pytest.approx(0.3)
        signals.saw(node_sample("n1", 16.0, counted(16.0, CONNECTIONS=2005.0)))
        assert looked(signals, 16.0).load[Signal.CONNECTIONS] == pytest.approx(0.1)

    def test_another_life_of_the_counters_is_not_compared_with_the_last(self) -> None:
        """Even if they are higher than before: the daemon, the role or the namespace changed."""
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n1", 14.0, counted(14.0, SINCE=1013.0, CLOCK=1.0)))
        found = looked(signals, 14.0)
        assert problem_of(found, Signal.BYTES) is Problem.NEW
        signals.saw(node_sample("n1", 16.0, counted(16.0, SINCE=1013.0, CLOCK=3.0)))
        assert looked(signals, 16.0).load == pytest.approx(FULL)

    def test_the_same_look_twice_is_one(self) -> None:
        """A node reads its counters more rarely than it is asked, and a server answers the same until its next scrape."""
        signals = watched(10.0, 12.0)
        for at in (12.5, 13.0, 14.0):
            signals.saw(node_sample("n1", at, counted(12.0, AGE=at - 12.0)))
            signals.saw(node_sample("n2", at, idle(at)))
        assert looked(signals, 14.0).load == pytest.approx(FULL)

    def test_a_look_from_before_changes_nothing(self) -> None:
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n1", 13.0, counted(11.0)))
        assert looked(signals, 13.0).load == pytest.approx(FULL)

    def test_a_clock_that_went_back_holds_nothing_up_for_long(self) -> None:
        """Whatever the reason is: when what was known is stale, it begins anew."""
        signals = Signals(6.0)
        signals.saw(node_sample("n1", 10.0, counted(1000.0)))
        for clock_s in (1.0, 3.0, 5.0, 7.0, 9.0):
            signals.saw(node_sample("n1", 10.0 + clock_s, counted(clock_s)))
        assert looked(signals, 19.0).load == pytest.approx(FULL)

    def test_the_nodes_clock_counts_not_when_the_answer_came(self) -> None:
        signals = watched(10.0)
        signals.saw(node_sample("n1", 15.9, counted(12.0)))
        assert looked(signals, 15.9).load[Signal.BYTES] == pytest.approx(0.3)

    def test_looks_far_apart_are_not_compared(self) -> None:
        """The mean of ten minutes says nothing about now."""
        signals = watched(10.0)
        signals.saw(node_sample("n1", 610.0, counted(610.0)))
        assert problem_of(looked(signals, 610.0), Signal.BYTES) is Problem.NEW

    @pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
    @pytest.mark.parametrize(
        ("series", "signal"),
        [
            ("CONNTRACK", Signal.CONNTRACK),
            ("CONNTRACK_LIMIT", Signal.CONNTRACK),
            ("CONNECTIONS", Signal.CONNECTIONS),
            ("SENT_BYTES", Signal.BYTES),
            ("RECEIVED_PACKETS", Signal.PACKETS),
            ("PORTS", Signal.PORTS),
            ("PORTS_AGE", Signal.PORTS),
        ],
    )
    def test_what_cannot_be_true_is_not_known(self, series: str, signal: Signal, value: float) -> None:
        signals = watched(10.0, 12.0)
        changed = counted(14.0, **{series: value})  # type: ignore[arg-type]  # names of series
        signals.saw(node_sample("n1", 14.0, changed))
        assert problem_of(looked(signals, 14.0), signal) is Problem.INVALID

    @pytest.mark.parametrize(
        ("series", "signal"),
        [
            ("CONNTRACK", Signal.CONNTRACK),
            ("CONNTRACK_LIMIT", Signal.CONNTRACK),
            ("CONNECTIONS", Signal.CONNECTIONS),
            ("SENT_BYTES", Signal.BYTES),
            ("RECEIVED_PACKETS", Signal.PACKETS),
            ("PORTS", Signal.PORTS),
        ],
    )
    def test_what_is_not_exported_is_not_known(self, series: str, signal: Signal) -> None:
        signals = watched(10.0, 12.0)
        changed = counted(14.0, **{series: None})  # type: ignore[arg-type]  # a name of a series
        signals.saw(node_sample("n1", 14.0, changed))
        assert problem_of(looked(signals, 14.0), signal) is Problem.MISSING


class TestAge:
    def test_what_is_older_than_three_rounds_is_not_known(self) -> None:
        """As a lower bound neither: what was may be long over."""
        signals = watched(10.0, 12.0)
        assert looked(signals, 18.0).load == pytest.approx(FULL)
        found = looked(signals, 18.1)
        assert set(found.load.values()) == {None}
        assert set(found.problems["p1"].values()) == {Problem.STALE}
        assert set(found.at_least.values()) == {0.0}

    def test_a_node_that_answers_with_old_numbers_is_stale(self) -> None:
        """Its main loop hangs, its metrics' thread does not."""
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n1", 20.0, counted(12.0, AGE=8.0)))
        signals.saw(node_sample("n2", 20.0, idle(20.0)))
        found = looked(signals, 20.0)
        for signal in (Signal.CONNTRACK, Signal.CONNECTIONS, Signal.BYTES, Signal.PACKETS):
            assert problem_of(found, signal) is Problem.STALE

    def test_ports_are_looked_at_more_rarely(self) -> None:
        """As often as the node says, and three times that is too old."""
        signals = watched(10.0)
        for age, is_known in ((89.0, True), (91.0, False)):
            signals.saw(node_sample("n1", 12.0, counted(12.0, PORTS_AGE=age)))
            assert (problem_of(looked(signals, 12.0), Signal.PORTS) is None) is is_known
        rarer: Sample = {**LIMITS, NodeSeries.PORTS_INTERVAL: 300.0}
        signals.saw(node_sample("n1", 12.0, counted(12.0, PORTS_AGE=890.0), rarer))
        assert looked(signals, 12.0).load[Signal.PORTS] == 0.25

    def test_how_old_is_too_old(self) -> None:
        """A node reads its counters every second or two, however often it is asked."""
        assert stale_after(15.0) == 45.0
        assert stale_after(0.5) == 6.0


class TestRoles:
    def test_only_the_masters_table_counts(self) -> None:
        """The other member's holds the same connections, told by state sync, or old ones."""
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n2", 12.0, counted(12.0, master=False)))
        assert looked(signals, 12.0).load == pytest.approx(FULL)

    def test_a_master_that_moved_is_known_with_its_second_look(self) -> None:
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n1", 14.0, counted(1.0, master=False, SINCE=1013.0)))
        signals.saw(node_sample("n2", 14.0, counted(1.0, SINCE=1013.0)))
        found = looked(signals, 14.0)
        assert problem_of(found, Signal.BYTES) is Problem.NEW
        assert found.load[Signal.CONNTRACK] == 0.25
        signals.saw(node_sample("n2", 16.0, counted(3.0, SINCE=1013.0)))
        assert looked(signals, 16.0).load == pytest.approx(FULL)

    def test_a_master_that_has_not_read_its_counters_yet(self) -> None:
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n1", 14.0, {WHERE: idle(14.0)}))
        signals.saw(node_sample("n2", 14.0, JUST_MASTER))
        assert set(looked(signals, 14.0).problems["p1"].values()) == {Problem.NEW}

    def test_two_masters_are_a_lower_bound(self) -> None:
        """Their tables may be copies of each other, so the higher counts."""
        signals = Signals(6.0)
        for at in (10.0, 12.0):
            signals.saw(node_sample("n1", at, counted(at)))
            signals.saw(node_sample("n2", at, counted(at, scale=2.0)))
        found = looked(signals, 12.0)
        assert set(found.problems["p1"].values()) == {Problem.TWO_MASTERS}
        assert found.at_least == pytest.approx({signal: 2 * load for signal, load in FULL.items()})

    def test_no_master(self) -> None:
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n1", 14.0, idle(14.0)))
        assert set(looked(signals, 14.0).problems["p1"].values()) == {Problem.NO_MASTER}

    def test_a_master_alone_is_enough(self) -> None:
        """The other member's node may be dead."""
        signals = Signals(6.0)
        for at in (10.0, 12.0):
            signals.saw(node_sample("n1", at, counted(at)))
        assert looked(signals, 12.0).load == pytest.approx(FULL)

    def test_a_master_that_is_not_heard_of_is_not_replaced_by_its_backup(self) -> None:
        signals = watched(10.0, 12.0)
        signals.saw(node_sample("n2", 19.0, idle(19.0)))
        assert set(looked(signals, 19.0).problems["p1"].values()) == {Problem.STALE}

    def test_a_node_that_left_is_forgotten(self) -> None:
        signals = watched(10.0, 12.0)
        signals.keep(["n2"])
        assert set(looked(signals, 12.0).problems["p1"].values()) == {Problem.UNREAD}


class TestLimits:
    def test_without_a_limit_there_is_no_signal(self) -> None:
        """It neither grows nor holds anything."""
        only: Sample = {NodeSeries.PORTS_INTERVAL: 30.0}
        signals = Signals(6.0)
        for at in (10.0, 12.0):
            signals.saw(node_sample("n1", at, counted(at), only))
        found = looked(signals, 12.0)
        assert found.load == pytest.approx({Signal.CONNTRACK: 0.25, Signal.PORTS: 0.25})
        assert found.problems == {"p1": {}}

    def test_a_limit_that_only_some_nodes_have(self) -> None:
        signals = watched(10.0, 12.0)
        for at in (10.0, 12.0):
            signals.saw(node_sample("n3", at, {("s1", "p2"): counted(at)}, {NodeSeries.PORTS_INTERVAL: 30.0}))
        found = looked(signals, 12.0, PAIR, OTHER)
        assert problem_of(found, Signal.BYTES, "p2") is Problem.NO_LIMIT
        assert found.at_least[Signal.BYTES] == pytest.approx(0.3)

    def test_the_link_of_the_eni_may_be_the_narrowest(self) -> None:
        signals = Signals(6.0)
        for at in (10.0, 12.0):
            signals.saw(node_sample("n1", at, counted(at, ENI_LIMIT=4e8)))
        assert looked(signals, 12.0).load[Signal.BYTES] == pytest.approx(0.75)

    def test_the_members_of_a_node_share_it(self) -> None:
        """What the others use is not there for this one."""
        signals = Signals(6.0)
        for at in (10.0, 12.0):
            members = {WHERE: counted(at), ("s2", "p1"): counted(at, scale=1.5), ("s3", "p1"): idle(at)}
            signals.saw(node_sample("n1", at, members))
        found = looked(signals, 12.0)
        assert found.load[Signal.BYTES] == pytest.approx(0.3 / 0.55)
        assert found.load[Signal.CONNECTIONS] == pytest.approx(0.1 / 0.85)
        assert found.load[Signal.CONNTRACK] == 0.25

    def test_on_a_full_node_those_are_full_who_fill_it(self) -> None:
        signals = Signals(6.0)
        for at in (10.0, 12.0):
            members = {WHERE: counted(at, scale=0.1), ("s2", "p1"): counted(at, scale=4.0)}
            signals.saw(node_sample("n1", at, members))
        assert looked(signals, 12.0).load[Signal.BYTES] == pytest.approx(0.03 / 0.5)
        big = pair(subnet="s2")
        assert looked(signals, 12.0, big).load[Signal.BYTES] == pytest.approx(1.2 / 0.97)

    def test_what_a_neighbour_uses_may_not_be_known(self) -> None:
        """Then there may be less room than it seems."""
        signals = Signals(6.0)
        for at in (10.0, 12.0):
            members = {WHERE: counted(at), ("s2", "p1"): counted(at, SINCE=at, scale=2.0)}
            signals.saw(node_sample("n1", at, members))
        found = looked(signals, 12.0)
        assert problem_of(found, Signal.BYTES) is Problem.NEW
        assert found.at_least[Signal.BYTES] == pytest.approx(0.3)
        assert found.load[Signal.CONNTRACK] == 0.25


class TestDrops:
    @pytest.mark.parametrize(
        ("changes", "is_drop"),
        [
            ({"TABLE_FULL": 1.0}, True),
            ({"EARLY_DROPS": 1.0}, True),
            ({"INSERT_FAILURES": 15.0}, False),
            ({"INSERT_FAILURES": 25.0}, True),
            ({"ENI_DROPS": 5000.0}, False),
            ({"ENI_DROPS": 7000.0}, True),
            ({"TUNNEL_DROPS": 7000.0}, True),
        ],
    )
    def test_want_of_room(self, changes: dict[str, float], is_drop: object) -> None:
        """In two seconds with 2,000 new connections and 600,000 packets."""
        signals = watched(10.0)
        changed = counted(12.0, **changes)  # type: ignore[arg-type]  # names of series
        signals.saw(node_sample("n1", 12.0, changed))
        assert looked(signals, 12.0).drops is is_drop

    def test_a_few_drops_of_an_idle_pair_are_none(self) -> None:
        """An ENI drops what it does not know."""
        signals = Signals(6.0)
        signals.saw(node_sample("n1", 10.0, counted(10.0, scale=0.0)))
        signals.saw(node_sample("n1", 12.0, counted(12.0, scale=0.0, ENI_DROPS=19.0, INSERT_FAILURES=2.0)))
        assert not looked(signals, 12.0).drops

    def test_old_drops_are_over(self) -> None:
        signals = watched(10.0)
        signals.saw(node_sample("n1", 12.0, counted(12.0, TABLE_FULL=9.0)))
        signals.saw(node_sample("n1", 14.0, counted(14.0, TABLE_FULL=9.0)))
        assert not looked(signals, 14.0).drops


def test_a_subnet_without_a_pair_has_no_load() -> None:
    assert watched(10.0).load_of((), 10.0) == SubnetLoad({}, {}, False, {})


def test_how_full_a_node_is() -> None:
    """Of the busier direction, all its masters together; a node that fell silent is not known."""
    signals = watched(10.0, 12.0)
    assert signals.bandwidth_used(12.0) == pytest.approx({"n1": 0.3, "n2": 0.0})
    assert signals.bandwidth_used(100.0) == {}
