"""What the packets of a new connection are marked with, and so which pair it takes; `shares` says how often. Pure.

Theory. A **group** is the set of subnets that an instance is attached to; their CIDRs do not overlap. A **path** of a
group is one pair for each of its subnets (a leg each); it never changes, because the connections that took it carry its
number in their connection mark. Pairs that come, go, drain or fall silent change only which paths new connections take:
the group's **shares**. A path that is no longer taken keeps its routing table until its last connection has ended.

    mark, 15 bits:   choose (1) | group (10) | path's index in the group, or distribution (4)

An instance's entry in the set of attached instances holds its group's only path; or, where several share the new
connections, the bit `choose` and the number of a distribution. A distribution is a chain that replaces the bit and
those four bits by an index; it knows nothing of groups, so a host needs one for each way of sharing (two pairs alike,
three alike, …) and not one for each subnet. See "Steering" in the design.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from ipaddress import IPv4Address
from typing import TypeAlias

INDEX_BITS = 4
INDEXES = range(1 << INDEX_BITS)
GROUPS = range(16, 1 << 10)
"""Not the first sixteen: their block of rules (see `host_scene`) would be that of packets without a mark."""
CHOOSE = 1 << 14
WHOLE_MARK = 0x7FFF
MAX_SLOTS = 64
"""Rules of a distribution that shares exactly, in turn; with more, shares are left to chance."""


def number_of_group(entry: int) -> int:
    """The group's part of a path's number, or of what its instances are marked with (no layout's shift)."""
    return (entry & ~CHOOSE) >> INDEX_BITS


Group: TypeAlias = tuple[str, ...]
"""Ids of subnets, sorted."""
Weights: TypeAlias = tuple[int, ...]
"""Of a distribution: index -> share, none at the end zero; their greatest common divisor is 1."""


@dataclass(frozen=True, slots=True, order=True)
class Leg:
    """How a path reaches one subnet."""

    subnet: str
    havip: IPv4Address


Legs: TypeAlias = tuple[Leg, ...]
"""Sorted; a subnet without a usable pair has none."""


@dataclass(frozen=True, slots=True)
class MarkLayout:
    """Where our fifteen bits are in a mark."""

    shift: int

    @property
    def mask(self) -> int:
        """All of them."""
        return WHOLE_MARK << self.shift

    @property
    def choice_mask(self) -> int:
        """What a distribution looks at and replaces: the bit `choose` and the index."""
        return (CHOOSE | INDEXES[-1]) << self.shift

    def of_path(self, number: int) -> int:
        """Mark of a path's packets and connections."""
        return number << self.shift

    def group(self, mark: int) -> int:
        """The number of the group that a connection's mark belongs to."""
        return number_of_group((mark & self.mask) >> self.shift)

    def of_choice(self, distribution: int) -> int:
        """What a distribution's chain is entered by, under `choice_mask`."""
        return (CHOOSE | distribution) << self.shift

    def of_index(self, index: int) -> int:
        """What a distribution replaces that by."""
        return index << self.shift


@dataclass(frozen=True, slots=True)
class Share:
    """A path and how many of so many new connections it takes."""

    legs: Legs
    weight: int


@dataclass(frozen=True, slots=True)
class Book:
    """The numbers in use. They outlive the process in the kernel's routing tables: see `adopt`."""

    groups: Mapping[Group, int] = field(default_factory=dict)
    paths: Mapping[int, Legs] = field(default_factory=dict)
    """Number (group and index) -> legs; those of no share are kept for the connections that took them."""
    distributions: Mapping[Weights, int] = field(default_factory=dict)
    entries: Mapping[Group, int] = field(default_factory=dict)
    """What the instances of a group are marked with, without the layout's shift."""
    crowded: tuple[Group, ...] = ()
    """Groups whose new shares could not be numbered or shared as wanted: an old path or distribution stays."""

    def taken(self) -> frozenset[int]:
        """Paths that new connections may take."""
        by_number = {number: weights for weights, number in self.distributions.items()}
        found: set[int] = set()
        for entry in self.entries.values():
            if entry & CHOOSE:
                found |= _paths_of_choice(entry, by_number[entry & INDEXES[-1]])
            else:
                found.add(entry)
        return frozenset(found)

    def retired(self) -> tuple[int, ...]:
        """Paths that no new connection takes."""
        return tuple(sorted(self.paths.keys() - self.taken()))

    def group_names(self) -> dict[int, Group]:
        """Number of a group -> its subnets."""
        return {number: group for group, number in self.groups.items()}

    def without(self, numbers: Container[int]) -> Book:
        """The same without paths that have no connection left; those that are taken stay."""
        gone = {number for number in self.retired() if number in numbers}
        return replace(self, paths={number: legs for number, legs in self.paths.items() if number not in gone})


def _paths_of_choice(entry: int, weights: Weights) -> set[int]:
    place = (entry & ~CHOOSE) >> INDEX_BITS << INDEX_BITS
    return {place | index for index, weight in enumerate(weights) if weight}


def ready_entries(book: Book, programmed: Book, before: Mapping[Group, int]) -> dict[Group, int]:
    """The groups' entries, as far as what they lead to is programmed; a group's former entry where it is not yet.

    `programmed` is the book that the kernel was last seen to be like, `before` the entries in force.
    """
    found: dict[Group, int] = {}
    by_number = {number: weights for weights, number in book.distributions.items()}
    for group, entry in book.entries.items():
        if not entry & CHOOSE:
            needed = {entry}
        else:
            weights = by_number[entry & INDEXES[-1]]
            if programmed.distributions.get(weights) != entry & INDEXES[-1]:
                needed = set()
            else:
                needed = _paths_of_choice(entry, weights)
        if needed and all(programmed.paths.get(number) == book.paths.get(number) for number in needed):
            found[group] = entry
        elif group in before:
            found[group] = before[group]
    return found


def advance(book: Book, wanted: Mapping[Group, tuple[Share, ...]]) -> Book:
    """Numbers for the groups' shares: kept where there are any, the lowest free ones for what is new.

    Paths that lost their share stay until `without` drops them; groups that are no longer wanted stay as long as a path
    of theirs does. `crowded` names the groups for which numbers ran out.
    """
    numbers = _number_groups(book, wanted)
    paths = dict(book.paths)
    wishes: dict[Group, Weights | int] = {}
    for group in sorted(wanted.keys() & numbers.keys()):
        number = numbers[group]
        indexes = _number_paths(paths, number, wanted[group])
        if indexes is not None:
            wishes[group] = _weights(indexes) if len(indexes) > 1 else number << INDEX_BITS | next(iter(indexes))
    crowded = wanted.keys() - wishes.keys()
    kept = {group: book.entries[group] for group in crowded if group in book.entries}
    held = {entry & INDEXES[-1] for entry in kept.values() if entry & CHOOSE}
    distributions, entries, unshared = _distribute(book.distributions, numbers, wishes, held)
    return Book(numbers, paths, distributions, entries | kept, tuple(sorted({*crowded, *unshared})))


def _number_groups(book: Book, wanted: Iterable[Group]) -> dict[Group, int]:
    """Of those wanted, as far as numbers reach, and of those that still have a path."""
    groups = sorted(wanted)
    used = {path >> INDEX_BITS for path in book.paths}
    numbers = {group: number for group, number in book.groups.items() if group in groups or number in used}
    taken = {*numbers.values(), *used}
    free = (number for number in GROUPS if number not in taken)
    fresh = (group for group in groups if group not in numbers)
    return numbers | dict(zip(fresh, free, strict=False))


def _lowest(numbers: Iterable[int], taken: Container[int]) -> int | None:
    return next((number for number in numbers if number not in taken), None)


def _number_paths(paths: dict[int, Legs], group: int, shares: tuple[Share, ...]) -> dict[int, int] | None:
    """Index -> weight of each share, new paths numbered in `paths`; None (and nothing new) when indexes run out."""
    places = ((index, paths.get(group << INDEX_BITS | index)) for index in INDEXES)
    known = {legs: index for index, legs in places if legs is not None}
    free = [index for index in INDEXES if index not in known.values()]
    fresh = [share.legs for share in shares if share.legs not in known]
    if len(fresh) > len(free):
        return None
    for legs, index in zip(fresh, free, strict=False):
        known[legs] = index
        paths[group << INDEX_BITS | index] = legs
    return {known[share.legs]: share.weight for share in shares}


def _weights(indexes: Mapping[int, int]) -> Weights:
    return tuple(indexes.get(index, 0) for index in range(max(indexes) + 1))


def _distribute(
    known: Mapping[Weights, int],
    groups: Mapping[Group, int],
    wishes: Mapping[Group, Weights | int],
    held: Container[int],
) -> tuple[dict[Weights, int], dict[Group, int], list[Group]]:
    """Numbers for the distributions that are wanted, and the groups' entries.

    There are sixteen. One that is no longer wanted keeps its number until that is needed: entries may still hold it
    when the table changes. Those that are `held` keep it: groups that keep their entries lead there. What cannot have
    its own takes one whose paths are all among those wanted, the one with most of them; or else a single path.
    """
    needed = sorted({wish for wish in wishes.values() if isinstance(wish, tuple)})
    numbers = dict(known)
    for weights in needed:
        if weights in numbers:
            continue
        idle = next((other for other in sorted(numbers) if other not in needed and numbers[other] not in held), None)
        if len(numbers) == len(INDEXES) and idle is not None:
            del numbers[idle]
        candidates = (_usual_number(weights), *reversed(INDEXES))
        free = _lowest(candidates, numbers.values())
        if free is not None:
            numbers[weights] = free
    entries: dict[Group, int] = {}
    unshared = []
    for group, wish in wishes.items():
        if isinstance(wish, int):
            entries[group] = wish
            continue
        place = groups[group] << INDEX_BITS
        if wish not in numbers:
            unshared.append(group)
        stand_in = wish if wish in numbers else _stand_in(wish, numbers)
        if stand_in is None:
            entries[group] = place | next(index for index, weight in enumerate(wish) if weight)
        else:
            entries[group] = CHOOSE | place | numbers[stand_in]
    return numbers, entries, unshared


def _usual_number(weights: Weights) -> int:
    """Of the most common distributions, so that an agent that starts anew numbers them as its predecessor did."""
    is_plain = set(weights) == {1}
    return len(weights) - 2 if is_plain else INDEXES[-1]


def _stand_in(wish: Weights, numbers: Iterable[Weights]) -> Weights | None:
    wanted = {index for index, weight in enumerate(wish) if weight}
    fitting = [weights for weights in numbers if {index for index, weight in enumerate(weights) if weight} <= wanted]
    return max(fitting, key=lambda weights: sum(map(bool, weights)), default=None)


def slots_of(weights: Weights, turn: int) -> tuple[int, ...] | None:
    """The order in which a distribution gives new connections to indexes, one round; None if the round is too long.

    `turn` says where the round begins: hosts that each open one connection should not all take the same pair.
    """
    total = sum(weights)
    if total > MAX_SLOTS:
        return None
    # Spread evenly: each index at the middles of its share of the round.
    places = sorted(
        (Fraction(2 * place + 1, 2 * weight), index) for index, weight in enumerate(weights) for place in range(weight)
    )
    order = [index for _, index in places]
    begin = turn % total
    return tuple(order[begin:] + order[:begin])


def adopt(found: Mapping[int, Legs]) -> Book:
    """The book as routing tables of a predecessor tell it: path number -> legs.

    A group is known by the subnets of all its paths; where two numbers claim the same one, the lower has it, and the
    other's paths stay for their connections only. Which distributions there were does not matter: nothing remembers it.
    """
    by_number: dict[int, set[str]] = {}
    for number, legs in found.items():
        by_number.setdefault(number >> INDEX_BITS, set()).update(leg.subnet for leg in legs)
    groups: dict[Group, int] = {}
    for number in sorted(by_number):
        groups.setdefault(tuple(sorted(by_number[number])), number)
    groups.pop((), None)
    return Book(groups=groups, paths={number: tuple(sorted(legs)) for number, legs in found.items()})
