"""Numbers of groups and paths, shares of pairs, and distributions: what an agent remembers, and what it need not."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest

from proxypool.core.model import PairState
from proxypool.core.shares import shares_of, usable
from proxypool.core.steering import (
    CHOOSE,
    INDEX_BITS,
    Book,
    Group,
    Leg,
    MarkLayout,
    Share,
    adopt,
    advance,
    ready_entries,
    slots_of,
)
from tests.unit.builders import pair

S1: Group = ("s1",)
S2: Group = ("s2",)
A, B, C = (IPv4Address(f"192.168.4.{last}") for last in (1, 2, 3))


def leg(havip: IPv4Address, subnet: str = "s1") -> Leg:
    return Leg(subnet, havip)


def plain(*havips: IPv4Address, subnet: str = "s1") -> tuple[Share, ...]:
    """Equal shares of one subnet's pairs."""
    return shares_of([[(leg(havip, subnet), 1) for havip in havips]])


def taken(book: Book) -> dict[int, tuple[Leg, ...]]:
    return {number: book.paths[number] for number in book.taken()}


class TestShares:
    def test_one_pair_takes_everything(self) -> None:
        assert plain(A) == (Share((leg(A),), 1),)

    def test_weights_are_shares(self) -> None:
        shares = shares_of([[(leg(A), 4), (leg(B), 2)]])
        assert {share.legs[0].havip: share.weight for share in shares} == {A: 2, B: 1}

    def test_a_subnet_without_pairs_has_no_leg(self) -> None:
        assert shares_of([[]]) == (Share((), 1),)
        assert shares_of([[], [(leg(B, "s2"), 1)]]) == (Share((leg(B, "s2"),), 1),)

    def test_each_subnet_of_a_group_gets_its_own_shares(self) -> None:
        """Two pairs of s1 half and half, three of s2 in thirds: four paths are enough."""
        two = [(leg(A), 1), (leg(B), 1)]
        three = [(leg(A, "s2"), 1), (leg(B, "s2"), 1), (leg(C, "s2"), 1)]
        shares = shares_of([two, three])
        assert len(shares) == 4
        total = sum(share.weight for share in shares)
        for wanted in (two, three):
            by_leg: Counter[Leg] = Counter()
            for share in shares:
                for each in share.legs:
                    by_leg[each] += share.weight
            assert {by_leg[each] * len(wanted) for each, _ in wanted} == {total}

    def test_never_more_than_sixteen_paths(self) -> None:
        many = [[(Leg(f"s{n}", IPv4Address(n * 100 + place)), 1) for place in range(n)] for n in (5, 7, 9, 11)]
        assert len(shares_of(many)) <= 16


class TestUsable:
    def test_draining_pairs_get_nothing_new_not_even_the_last_one(self) -> None:
        draining = pair("p1", havip=str(A), state=PairState.DRAINING)
        assert usable([draining], frozenset()) == ()
        assert usable([draining, pair("p2", havip=str(B))], frozenset()) == ((leg(B), 1),)

    def test_silent_pairs_get_nothing_new_unless_all_are_silent(self) -> None:
        both = [pair("p1", havip=str(A)), pair("p2", havip=str(B))]
        assert usable(both, {A}) == ((leg(B), 1),)
        assert usable(both, {A, B}) == ((leg(A), 1), (leg(B), 1))


class TestNumbers:
    def test_a_single_path_is_the_entry_itself(self) -> None:
        book = advance(Book(), {S1: plain(A)})
        (number,) = book.paths
        assert book.entries == {S1: number}
        assert number >> INDEX_BITS == book.groups[S1] != 0

    def test_several_share_by_a_distribution_that_all_such_groups_have_in_common(self) -> None:
        book = advance(Book(), {S1: plain(A, B), S2: plain(B, C, subnet="s2")})
        assert list(book.distributions) == [(1, 1)]
        low_bits = {entry & 0xF for entry in book.entries.values()}
        assert low_bits == set(book.distributions.values())
        assert all(entry & CHOOSE for entry in book.entries.values())

    def test_a_path_keeps_its_number_whatever_comes_and_goes(self) -> None:
        """The connections that took it carry the number."""
        first = advance(Book(), {S1: plain(A, B)})
        added = advance(first, {S1: plain(A, B, C)})
        drained = advance(added, {S1: plain(B, C)})
        for number, legs in first.paths.items():
            assert added.paths[number] == drained.paths[number] == legs
        assert {legs[0].havip for legs in taken(drained).values()} == {B, C}
        (retired,) = drained.retired()
        assert drained.paths[retired] == (leg(A),)

    def test_a_retired_path_goes_when_its_last_connection_has_ended_and_a_taken_one_never(self) -> None:
        book = advance(advance(Book(), {S1: plain(A, B)}), {S1: plain(B)})
        assert set(book.without(book.paths).paths) == set(book.paths) - set(book.retired())

    def test_a_pair_that_comes_back_has_its_old_path(self) -> None:
        book = advance(Book(), {S1: plain(A, B)})
        assert advance(advance(book, {S1: plain(B)}), {S1: plain(A, B)}).entries == book.entries

    def test_a_group_that_nobody_wants_stays_as_long_as_its_connections(self) -> None:
        book = advance(Book(), {S1: plain(A), S2: plain(B, subnet="s2")})
        number = book.groups[S1]
        book = advance(book, {S2: plain(B, subnet="s2")})
        assert book.groups[S1] == number
        assert S1 not in book.entries
        book = advance(book.without(book.retired()), {S2: plain(B, subnet="s2")})
        assert S1 not in book.groups

    def test_a_number_that_connections_still_carry_is_not_given_again(self) -> None:
        book = advance(Book(), {S1: plain(A)})
        book = advance(book, {S2: plain(B, subnet="s2")})
        assert len(set(book.groups.values())) == 2

    def test_when_indexes_run_out_new_connections_stay_as_they_are(self) -> None:
        book = Book()
        for last in range(1, 40):
            book = advance(book, {S1: plain(IPv4Address(last))})
        assert len(book.paths) == 16
        assert book.crowded == (S1,)
        assert book.paths[book.entries[S1]] == (leg(IPv4Address(16)),)
        book = advance(book.without(book.retired()), {S1: plain(IPv4Address(39))})
        assert book.crowded == ()
        assert book.paths[book.entries[S1]] == (leg(IPv4Address(39)),)

    def test_a_seventeenth_way_of_sharing_takes_one_that_fits_and_says_so(self) -> None:
        wanted: dict[Group, tuple[Share, ...]] = {
            (f"s{n}",): shares_of([[(leg(A, f"s{n}"), 16), (leg(B, f"s{n}"), n if n % 16 else 17)]])
            for n in (1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33)
        }
        book = advance(Book(), wanted)
        assert len(book.distributions) == 16
        (crowded,) = book.crowded
        assert book.entries[crowded] & CHOOSE

    def test_a_group_that_keeps_its_entry_keeps_its_distribution(self) -> None:
        """However many others want one."""

        def unlike(number: int) -> dict[Group, tuple[Share, ...]]:
            return {
                (f"t{n}",): shares_of([[(leg(A, f"t{n}"), 37), (leg(B, f"t{n}"), n)]]) for n in range(1, number + 1)
            }

        first = {S1: shares_of([[(leg(A), 3), (leg(B), 7)]])}
        book = advance(Book(), first)
        for last in range(10, 24):
            # Its old paths are still in use, and at last there is no index for new ones.
            book = advance(book, {S1: plain(IPv4Address(last))})
            book = advance(book, first)
        crowded = {S1: plain(*(IPv4Address(last) for last in range(40, 44)))}
        book = advance(book, crowded | unlike(15))
        assert book.crowded == (S1,)
        assert book.entries[S1] & CHOOSE
        before = taken(book)
        book = advance(book, crowded | unlike(16))
        assert {weights for weights, number in book.distributions.items() if number == book.entries[S1] & 15} == {
            (3, 7)
        }
        assert {number: legs for number, legs in taken(book).items() if before.get(number) == legs} == before

    def test_a_distribution_that_is_no_longer_wanted_keeps_its_number(self) -> None:
        """Entries may hold it at the moment when the table changes."""
        book = advance(Book(), {S1: plain(A, B)})
        assert advance(book, {S1: plain(A, B, C)}).distributions[1, 1] == book.distributions[1, 1]

    def test_plain_distributions_have_the_same_numbers_in_every_life(self) -> None:
        long_lived = advance(advance(Book(), {S1: plain(A, B, C)}), {S1: plain(A, B)})
        fresh = advance(adopt(long_lived.paths), {S1: plain(A, B)})
        assert fresh.distributions[1, 1] == long_lived.distributions[1, 1]
        assert fresh.entries == long_lived.entries


class TestAdoption:
    def test_the_kernels_tables_tell_all_numbers(self) -> None:
        wanted: dict[Group, tuple[Share, ...]] = {S1: plain(A, B), S2: plain(C, subnet="s2")}
        book = advance(Book(), wanted)
        again = advance(adopt(book.paths), wanted)
        assert (again.groups, again.paths, again.entries) == (book.groups, book.paths, book.entries)

    def test_of_two_numbers_that_claim_a_group_one_has_it_and_the_other_keeps_its_connections(self) -> None:
        book = advance(adopt({1 << 4: (leg(A),), 2 << 4 | 3: (leg(B),)}), {S1: plain(B)})
        assert book.groups == {S1: 1}
        assert book.paths[2 << 4 | 3] == (leg(B),)
        assert book.entries[S1] >> INDEX_BITS == 1


class TestReadiness:
    def test_an_entry_waits_for_its_path_and_its_distribution(self) -> None:
        old = advance(Book(), {S1: plain(A)})
        new = advance(old, {S1: plain(A, B), S2: plain(C, subnet="s2")})
        assert ready_entries(new, old, old.entries) == old.entries
        assert ready_entries(new, new, old.entries) == new.entries

    def test_what_needs_nothing_new_is_ready_at_once(self) -> None:
        both = advance(Book(), {S1: plain(A, B)})
        one = advance(both, {S1: plain(B)})
        assert ready_entries(one, both, both.entries) == one.entries


class TestSlots:
    @pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1), (2, 1), (0, 3, 1), (16, 1), (5, 0, 0, 7)])
    def test_a_round_is_exact(self, weights: tuple[int, ...]) -> None:
        slots = slots_of(weights, 0)
        assert slots is not None
        assert Counter(slots) == Counter({index: weight for index, weight in enumerate(weights) if weight})

    def test_hosts_begin_at_different_places(self) -> None:
        assert {slots_of((1, 1, 1), turn) for turn in range(9)} == {(0, 1, 2), (1, 2, 0), (2, 0, 1)}

    def test_long_rounds_are_left_to_chance(self) -> None:
        assert slots_of((16,) * 5, 0) is None


def test_marks_stay_within_their_fifteen_bits() -> None:
    marks = MarkLayout(16)
    assert marks.mask == 0x7FFF0000
    assert marks.of_path(0x3FFF) | marks.of_choice(0xF) | marks.of_index(0xF) == marks.mask
    assert marks.choice_mask == 0x400F0000
