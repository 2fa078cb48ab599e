"""Up to which change of its hosts a member says that it has programmed a subnet."""

from __future__ import annotations

from proxypool.core.acknowledgement import UNKNOWN_S, Acknowledgement


def test_nothing_is_said_before_anything_is_in_place() -> None:
    seen = Acknowledgement()
    seen.listed(10, (), subnet_mark=1, node_mark=2, now=0.0)
    assert not seen.programmed(-1, -1)
    assert seen.seen == 0


def test_a_list_is_seen_when_the_subnet_and_the_machine_have_it() -> None:
    """The machine's own namespace lets tunnel packets of registered hosts through only."""
    seen = Acknowledgement()
    seen.listed(10, (), subnet_mark=3, node_mark=4, now=0.0)
    assert not seen.programmed(3, 2)
    assert not seen.programmed(2, 4)
    assert seen.seen == 0
    assert seen.programmed(3, 4)
    assert seen.seen == 10
    assert not seen.programmed(3, 4)


def test_results_that_lag_behind_the_wishes_are_said_as_far_as_they_go() -> None:
    """Hosts join faster than they can be programmed one by one."""
    seen = Acknowledgement()
    for number in range(1, 6):
        seen.listed(10 * number, (), subnet_mark=number, node_mark=1, now=0.0)
    assert seen.programmed(3, 1)
    assert seen.seen == 30
    assert seen.programmed(5, 1)
    assert seen.seen == 50


def test_a_host_without_a_document_is_not_acknowledged_and_those_before_it_are() -> None:
    seen = Acknowledgement()
    seen.listed(10, (), subnet_mark=1, node_mark=1, now=0.0)
    seen.listed(20, ("h2",), subnet_mark=2, node_mark=1, now=0.0)
    seen.programmed(2, 1)
    assert seen.seen == 10
    seen.listed(20, (), subnet_mark=3, node_mark=2, now=0.5)
    assert not seen.programmed(2, 1)
    assert seen.programmed(3, 2)
    assert seen.seen == 20


def test_a_host_that_never_gets_a_document_holds_up_the_others_for_a_while_only() -> None:
    seen = Acknowledgement()
    seen.listed(20, ("h2",), subnet_mark=2, node_mark=1, now=100.0)
    seen.listed(30, ("h2",), subnet_mark=3, node_mark=1, now=102.0)
    seen.second_passed(100.0 + UNKNOWN_S - 0.1)
    assert not seen.programmed(3, 1)
    seen.second_passed(100.0 + UNKNOWN_S)
    assert seen.programmed(3, 1)
    assert seen.seen == 30


def test_what_is_said_follows_zookeeper_when_it_starts_anew() -> None:
    """Its data were lost: what was said of the old ones must not hold for the new ones."""
    seen = Acknowledgement()
    seen.listed(1000, (), subnet_mark=1, node_mark=1, now=0.0)
    seen.programmed(1, 1)
    seen.listed(5, (), subnet_mark=2, node_mark=1, now=1.0)
    seen.programmed(2, 1)
    assert seen.seen == 5


def test_time_alone_says_nothing_new() -> None:
    seen = Acknowledgement()
    seen.listed(10, (), subnet_mark=1, node_mark=1, now=0.0)
    seen.programmed(1, 1)
    for second in range(5):
        seen.second_passed(float(second))
        assert not seen.programmed(1, 1)
