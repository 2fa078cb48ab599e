"""Who is looked at between two rounds."""

from __future__ import annotations

from proxypool.core.scaling.waiting import Waiting

QUEUE = Waiting(("a", "b", "c", "d"))


def test_the_most_urgent_are_first() -> None:
    assert QUEUE.first(2) == ("a", "b")
    assert Waiting().first(2) == ()


def test_who_needs_nothing_more_waits_no_longer() -> None:
    """It may need nothing any more although nothing began: its load is gone, or somebody else has helped."""
    assert QUEUE.after(("a", "b"), began=("a",), still=()).subnets == ("c", "d")


def test_who_had_a_turn_gets_the_next_one_after_all_others() -> None:
    """As in a round every subnet gets its first pair before any gets its second."""
    assert QUEUE.after(("a", "b"), began=("a",), still=("a", "b")).subnets == ("b", "c", "d", "a")
    assert QUEUE.after(("a", "b"), began=("a", "a"), still=("a",)).subnets == ("c", "d", "a")


def test_who_had_none_keeps_its_place() -> None:
    assert QUEUE.after(("a", "b"), began=(), still=("b", "a")) == QUEUE
