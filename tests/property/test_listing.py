"""Lists of names that are compared as bytes say the same as lists that are read name by name."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from proxypool.adapters.zookeeper.listing import Listing, RawListing
from tests.property.effort import effort

names = st.one_of(st.sampled_from(("a", "aa", "aaa", "b", "ab", "h1", "h2", "ü", "a" * 255)), st.text("ab", min_size=1))
odd_names = st.one_of(names, st.sampled_from(("x" * 256, "y" * 300, "x" * 65536)))
lists = st.lists(st.lists(names, unique=True, max_size=8), min_size=2, max_size=5)


def raw(listed: Iterable[str], pzxid: int = 1) -> RawListing:
    """As ZooKeeper sends it."""
    encoded = [name.encode() for name in listed]
    return RawListing(len(encoded), b"".join(struct.pack("!i", len(name)) + name for name in encoded), pzxid)


@given(lists)
@effort(300)
def test_each_list_says_what_is_in_it_whatever_came_before(listed: list[list[str]]) -> None:
    listing = Listing()
    for pzxid, each in enumerate(listed):
        listing = raw(each, pzxid).after(listing)
        assert listing.names == frozenset(each)
        assert listing.pzxid == pzxid


@given(st.lists(odd_names, unique=True, max_size=6), st.lists(odd_names, unique=True, max_size=6))
@effort(100)
def test_names_too_long_to_be_ours_do_no_harm(before: list[str], after: list[str]) -> None:
    assert raw(after).after(raw(before).after(Listing())).names == frozenset(after)


@given(st.lists(names, unique=True, min_size=1, max_size=8), names, st.integers(0, 8))
@effort(200)
def test_one_more_anywhere_and_one_less(before: list[str], name: str, place: int) -> None:
    """ZooKeeper's order is that of a hash table: a new name comes anywhere."""
    others = [each for each in before if each != name]
    after = [*others[:place], name, *others[place:]]
    listing = raw(others).after(Listing())
    assert raw(after).after(listing).names == frozenset(after)
    assert raw(others).after(raw(after).after(listing)).names == frozenset(others)


def test_the_same_list_again_is_the_same_set() -> None:
    """Whoever asks what changed may ask by identity."""
    listing = raw(["a", "b"], 1).after(Listing())
    again = raw(["a", "b"], 2).after(listing)
    assert again.names is listing.names
    assert again.pzxid == 2
