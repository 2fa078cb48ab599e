"""The roster of a host: who is in which group, and what the set must hold of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from proxypool.core.attachment_plans import Present
from proxypool.core.attachments import Attachment, Rules
from proxypool.core.roster import Roster
from proxypool.core.steering import MarkLayout
from tests.unit.builders import subnet

ONE, TWO = IPv4Address("10.244.1.2"), IPv4Address("10.244.1.3")
HOME = IPv4Network("10.244.1.0/24")
S1, S2 = subnet("s1", "172.16.101.0/24", key=1), subnet("s2", "172.16.102.0/24", key=2)
BOTH = Rules((HOME,), {"s1": S1, "s2": S2})
ONLY_S1 = Rules((HOME,), {"s1": S1})
MARKS = MarkLayout(16)


def attached(address: IPv4Address, *subnets: str) -> Present:
    return {name: Attachment(address=address, subnet=name) for name in subnets}


def test_while_the_pool_is_not_known_nobody_is_in_a_group() -> None:
    roster = Roster(MARKS, {ONE: attached(ONE, "s1")})
    assert roster.groups() == frozenset()
    assert roster.wanted_entries() == {}
    assert roster.number_of(ONE) is None
    assert roster.unknown_subnets() == frozenset()


def test_the_set_holds_the_mark_of_each_address_whose_group_is_programmed() -> None:
    roster = Roster(MARKS, {ONE: attached(ONE, "s1"), TWO: attached(TWO, "s1", "s2")})
    assert roster.follow(BOTH, {("s1",): 0x100}, None)
    assert roster.groups() == {("s1",), ("s1", "s2")}
    assert roster.wanted_entries() == {IPv4Network(ONE): 0x100 << 16}
    assert roster.wanted_entries([TWO]) == {}


def test_what_is_the_same_as_before_is_no_news() -> None:
    roster = Roster(MARKS)
    assert roster.follow(BOTH, {("s1",): 0x100}, None)
    assert not roster.follow(BOTH, {("s1",): 0x100}, None)
    assert roster.follow(BOTH, {("s1",): 0x110}, None)
    assert roster.follow(BOTH, {("s1",): 0x110}, ("s1",))


def test_a_subnet_that_leaves_the_pool_changes_the_groups_of_those_attached_to_it() -> None:
    roster = Roster(MARKS, {TWO: attached(TWO, "s1", "s2")})
    roster.follow(BOTH, {}, None)
    assert roster.follow(ONLY_S1, {}, None)
    assert roster.groups() == {("s1",)}
    assert roster.unknown_subnets() == {"s2"}
    assert roster.reach() == {TWO: S1.cidrs}
    assert roster.cidrs_of([(TWO, "s1"), (TWO, "s2")]) == {TWO: S1.cidrs}


def test_whoever_is_attached_to_nothing_has_the_number_of_everyone() -> None:
    roster = Roster(MARKS, {ONE: attached(ONE, "s1")})
    roster.follow(BOTH, {("s1",): 0x100, ("s2",): 0x110}, ("s2",))
    assert (roster.number_of(ONE), roster.number_of(TWO)) == (0x10, 0x11)
    assert roster.wanted_entries() == {IPv4Network(ONE): 0x100 << 16, HOME: 0x110 << 16}
    assert roster.wanted_entries([ONE]) == {IPv4Network(ONE): 0x100 << 16}


def test_an_address_without_attachments_is_gone() -> None:
    roster = Roster(MARKS, {ONE: attached(ONE, "s1")})
    roster.follow(BOTH, {}, None)
    roster.replace({ONE: {}, TWO: attached(TWO, "s2")})
    assert [(item.address, item.subnet) for item in roster.all()] == [(TWO, "s2")]
    assert roster.groups() == {("s2",)}
