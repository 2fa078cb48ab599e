"""Which paths a pair that has fallen silent leaves behind, and when."""

from __future__ import annotations

from ipaddress import IPv4Address

from proxypool.core.shares import shares_of
from proxypool.core.silence import left_behind
from proxypool.core.steering import INDEX_BITS, Book, Group, Leg, Share, advance

S1: Group = ("s1",)
BOTH: Group = ("s1", "s2")
A, B, C, D = (IPv4Address(f"192.168.4.{last}") for last in (1, 2, 3, 4))


def shares(*pairs: tuple[str, tuple[IPv4Address, ...]]) -> tuple[Share, ...]:
    """Of subnets, each with its pairs alike."""
    return shares_of([[(Leg(subnet, havip), 1) for havip in havips] for subnet, havips in pairs])


def path(book: Book, *havips: IPv4Address) -> int:
    """Number of the path that leads to these, in the order of subnets."""
    (number,) = (number for number, legs in book.paths.items() if tuple(leg.havip for leg in legs) == havips)
    return number


TWO = advance(Book(), {S1: shares(("s1", (A, B)))})
ONE = advance(TWO, {S1: shares(("s1", (B,)))})


def test_the_path_of_a_silent_pair_is_left_behind_when_new_connections_take_another_one() -> None:
    assert left_behind(ONE, ONE.entries, {A}) == {path(ONE, A): {"s1"}}


def test_not_before_the_kernel_gives_new_connections_the_other_one() -> None:
    """Else the SYN that is sent again would take the same path."""
    assert left_behind(ONE, TWO.entries, {A}) == {}
    assert left_behind(ONE, {}, {A}) == {}


def test_a_pair_that_answers_leaves_nothing_behind() -> None:
    """It may drain: what began with it goes on with it."""
    assert left_behind(ONE, ONE.entries, ()) == {}
    assert left_behind(ONE, ONE.entries, {C}) == {}


def test_where_all_are_silent_nothing_moves() -> None:
    """The silence is the host's own then, and new connections take them as ever."""
    assert left_behind(TWO, TWO.entries, {A, B}) == {}
    assert left_behind(ONE, ONE.entries, {A, B}) == {}


def test_where_no_other_pair_is_nothing_is_refused_that_may_still_be_answered() -> None:
    """The last pair drains and moves its HaVip: its SYNs would have nowhere else to go."""
    none = advance(advance(Book(), {S1: shares(("s1", (A,)))}), {S1: shares(("s1", ()))})
    assert none.retired() == (path(none, A),)
    assert left_behind(none, none.entries, {A}) == {}


def test_of_several_subnets_only_that_of_the_silent_pair() -> None:
    """Those to the other subnet are with a pair that answers."""
    before = advance(Book(), {BOTH: shares(("s1", (A, B)), ("s2", (C, D))), S1: shares(("s1", (A, B)))})
    after = advance(before, {BOTH: shares(("s1", (B,)), ("s2", (C, D))), S1: shares(("s1", (B,)))})
    gone = {number for number, legs in before.paths.items() if legs[0].havip == A}
    assert left_behind(after, after.entries, {A}) == {number: {"s1"} for number in gone}
    stuck = {**after.entries, BOTH: before.entries[BOTH]}
    assert {number >> INDEX_BITS for number in left_behind(after, stuck, {A})} == {after.groups[S1]}
