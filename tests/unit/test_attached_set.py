"""The set of attached instances beside what was written to it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.core.errors import TransientError
from proxypool.daemons.attached_set import COMPARE_S, SMALL_SET, AttachedSet
from tests.unit.test_attachments import FakeSet

ONE, TWO = IPv4Network("10.244.1.2"), IPv4Network("10.244.1.3")


def test_only_what_differs_is_written() -> None:
    kernel = FakeSet()
    kept = AttachedSet(kernel)
    kept.bring({ONE: 1, TWO: 2})
    kept.bring({ONE: 1, TWO: 2})
    assert kernel.writes == 1
    kept.bring({ONE: 3})
    assert kernel.entries == {ONE: 3}


def test_of_addresses_that_are_not_named_nothing_is_touched() -> None:
    kernel = FakeSet()
    kept = AttachedSet(kernel)
    kept.bring({ONE: 1, TWO: 2})
    kept.update({}, [IPv4Address("10.244.1.2")])
    assert kernel.entries == {TWO: 2}


def test_what_could_not_be_written_is_not_intact_until_it_is_put_right() -> None:
    kernel = FakeSet()
    kept = AttachedSet(kernel)
    kernel.refuses = True
    with pytest.raises(TransientError):
        kept.bring({ONE: 1})
    kernel.refuses = False
    assert not kept.is_intact(0.0)
    assert kept.repair({ONE: 1}) == 1
    assert kept.is_intact(0.0)


def test_strangers_and_wrong_marks_are_put_right() -> None:
    kernel = FakeSet()
    kept = AttachedSet(kernel)
    kept.bring({ONE: 1})
    kernel.entries = {ONE: 9, TWO: 9}
    assert not kept.is_intact(0.0)
    assert kept.repair({ONE: 1}) == 2
    assert kernel.entries == {ONE: 1}


def test_a_large_set_is_compared_now_and_then_and_counted_always() -> None:
    kernel = FakeSet()
    kept = AttachedSet(kernel)
    first = int(IPv4Address("10.0.0.0"))
    kept.bring({IPv4Network(first + number): 1 for number in range(SMALL_SET + 1)})
    assert kept.is_intact(0.0)
    kernel.entries[IPv4Network(first)] = 9
    assert kept.is_intact(COMPARE_S / 2)
    assert not kept.is_intact(COMPARE_S)
    del kernel.entries[IPv4Network(first)]
    assert not kept.is_intact(COMPARE_S + 1)
