"""Whatever pairs and attachments do: a path is never another one, and new connections take what can be taken."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.model import PairSpec, PairState
from proxypool.core.shares import shares_of, usable, wanted_shares
from proxypool.core.steering import (
    CHOOSE,
    INDEX_BITS,
    INDEXES,
    Book,
    Group,
    Leg,
    adopt,
    advance,
    ready_entries,
    slots_of,
)
from tests.property.effort import effort
from tests.unit.builders import pair

SUBNETS = ("s1", "s2", "s3")
GROUPS: tuple[Group, ...] = (("s1",), ("s2",), ("s3",), ("s1", "s2"), ("s1", "s2", "s3"))
Pairs = Mapping[str, Mapping[str, PairSpec]]


def havip(subnet: str, number: int) -> IPv4Address:
    return IPv4Address(f"192.168.{SUBNETS.index(subnet)}.{number}")


@st.composite
def pools(draw: st.DrawFn) -> Pairs:
    """None to four pairs of each subnet, active or draining, with weights."""
    return {
        subnet: {
            f"p{number}": pair(
                f"p{number}",
                subnet,
                havip=str(havip(subnet, number)),
                state=draw(st.sampled_from((PairState.ACTIVE, PairState.ACTIVE, PairState.DRAINING))),
                weight=draw(st.sampled_from((1, 1, 1, 2, 5))),
            )
            for number in draw(st.sets(st.integers(1, 4)))
        }
        for subnet in SUBNETS
    }


silences = st.sets(st.builds(havip, st.sampled_from(SUBNETS), st.integers(1, 4)), max_size=3)
groups = st.sets(st.sampled_from(GROUPS))


def leads_to(book: Book, entry: int) -> dict[int, int]:
    """Path -> weight."""
    if not entry & CHOOSE:
        return {entry: 1}
    weights = {number: weights for weights, number in book.distributions.items()}[entry & INDEXES[-1]]
    place = (entry & ~CHOOSE) >> INDEX_BITS << INDEX_BITS
    return {place | index: weight for index, weight in enumerate(weights) if weight}


def check(book: Book, wanted: set[Group], pairs: Pairs, silent: set[IPv4Address]) -> None:
    """What holds of every book."""
    assert len(set(book.groups.values())) == len(book.groups)
    assert set(book.distributions.values()) <= set(INDEXES)
    assert len(set(book.distributions.values())) == len(book.distributions)
    names = book.group_names()
    for path, legs in book.paths.items():
        subnets = names.get(path >> INDEX_BITS)
        if subnets is not None:
            assert {leg.subnet for leg in legs} <= set(subnets)
    assert set(book.entries) <= wanted
    for group, entry in book.entries.items():
        for path in leads_to(book, entry):
            assert path >> INDEX_BITS == book.groups[group]
            assert path in book.paths
            if group not in book.crowded:
                for subnet in group:
                    options = {leg for leg, _ in usable(pairs[subnet].values(), silent)}
                    assert {leg for leg in book.paths[path] if leg.subnet == subnet} <= options
                    assert bool(options) is any(leg.subnet == subnet for leg in book.paths[path])


@given(st.lists(st.tuples(groups, pools(), silences, st.booleans()), max_size=8))
@effort(150)
def test_any_history(history: list[tuple[set[Group], Pairs, set[IPv4Address], bool]]) -> None:
    book = Book()
    for wanted, pairs, silent, are_connections_gone in history:
        before = book
        book = advance(book, wanted_shares(wanted, pairs, silent))
        check(book, wanted, pairs, silent)
        assert {number: book.paths[number] for number in before.paths} == dict(before.paths)
        assert advance(book, wanted_shares(wanted, pairs, silent)) == book
        if are_connections_gone:
            book = book.without(book.retired())
            assert book.retired() == ()
            check(book, wanted, pairs, silent)


@given(groups, pools(), silences)
@effort(150)
def test_a_restarted_agent_gives_new_connections_the_paths_that_its_predecessor_gave(
    wanted: set[Group], pairs: Pairs, silent: set[IPv4Address]
) -> None:
    """As far as the kernel tells: a path without any leg leaves nothing that could be recognised, and of a group of
    which some subnets have no pair it cannot tell the others. Connections keep their paths in any case.
    """
    shares = wanted_shares(wanted, pairs, silent)
    book = advance(Book(), shares)
    told = {number: legs for number, legs in book.paths.items() if legs}
    again = advance(adopt(told), shares)
    check(again, wanted, pairs, silent)
    assert {number: again.paths[number] for number in told} == told
    has_all_pairs = all(usable(pairs[subnet].values(), silent) for subnet in SUBNETS)
    for group, entry in book.entries.items():
        taken, later = leads_to(book, entry), leads_to(again, again.entries[group])
        assert {book.paths[path]: weight for path, weight in taken.items()} == {
            again.paths[path]: weight for path, weight in later.items()
        }
        if has_all_pairs:
            assert later == taken


@given(pools(), silences)
@effort(150)
def test_every_subnet_gets_its_own_shares(pairs: Pairs, silent: set[IPv4Address]) -> None:
    options = [usable(pairs[subnet].values(), silent) for subnet in SUBNETS]
    shares = shares_of(options)
    total = sum(share.weight for share in shares)
    for option in options:
        of_all = sum(weight for _, weight in option)
        for leg, weight in option:
            got = sum(share.weight for share in shares if leg in share.legs)
            # Exact, unless there were so many paths that shares are in sixteenths.
            assert abs(Fraction(got, total) - Fraction(weight, of_all)) <= (
                Fraction(1, 16) if len(shares) > len(option) and total == len(INDEXES) else 0
            )


@given(groups, pools(), pools(), silences)
@effort(150)
def test_an_entry_never_leads_to_what_is_not_programmed(
    wanted: set[Group], before: Pairs, after: Pairs, silent: set[IPv4Address]
) -> None:
    old = advance(Book(), wanted_shares(wanted, before, ()))
    new = advance(old, wanted_shares(wanted, after, silent))
    entries = ready_entries(new, old, old.entries)
    for entry in entries.values():
        for path in leads_to(old, entry):
            assert old.paths[path] == new.paths[path]
    assert ready_entries(new, new, entries) == new.entries


@given(st.lists(st.integers(0, 16), min_size=1, max_size=16).filter(any), st.integers(0, 1 << 32))
@effort(150)
def test_a_round_gives_each_index_its_weight(weights: list[int], turn: int) -> None:
    slots = slots_of(tuple(weights), turn)
    if slots is not None:
        assert [slots.count(index) for index in range(len(weights))] == weights


def test_legs_sort_by_subnet() -> None:
    """Two ways to the same paths give the same legs."""
    assert sorted((Leg("s2", havip("s1", 1)), Leg("s1", havip("s2", 4)))) == [
        Leg("s1", havip("s2", 4)),
        Leg("s2", havip("s1", 1)),
    ]
