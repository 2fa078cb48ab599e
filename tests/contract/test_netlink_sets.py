"""ipsets in a real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.netlink import ipset, sets
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.planner import Put, Remove, plan
from proxypool.core.scene import AddressSet, AnyObject, MarkedSet, Scene, UnknownSet
from tests.contract.netns import own_namespace, run
from tests.contract.timing import best_ms

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

NAME = "pp-attached"
MASK = 0x7FFF0000
MARKED = MarkedSet(NAME)
ONE, NET = IPv4Network("10.244.1.2/32"), IPv4Network("10.245.0.0/24")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_namespace():
        yield


@pytest.fixture
def handle() -> Iterator[netlink.MarkedSetHandle]:
    """A handle of the set, which is there and empty."""
    sets.put_set(MARKED)
    opened = netlink.MarkedSetHandle(NAME, MASK)
    yield opened
    opened.close()


def instances(count: int) -> dict[IPv4Network, int]:
    first = int(IPv4Address("10.244.0.0"))
    return {IPv4Network((first + number, 32)): (1 + number % 9) << 16 for number in range(count)}


def observed(*desired: AnyObject) -> set[AnyObject]:
    return set(sets.observe_sets(Scene.of(None, desired)))


class TestScene:
    def test_a_marked_set_that_was_put_is_observed(self) -> None:
        assert observed(MARKED) == set()
        sets.put_set(MARKED)
        sets.put_set(MARKED)
        assert observed(MARKED) == {MARKED}
        assert "family inet" in run("ipset", "list", NAME)
        assert "maxelem 262144 skbinfo" in run("ipset", "list", NAME)

    def test_members_of_a_marked_set_are_not_of_the_scene(self, handle: netlink.MarkedSetHandle) -> None:
        handle.put(instances(3))
        sets.put_set(MARKED)
        assert observed(MARKED) == {MARKED}
        assert handle.count() == 3

    def test_an_address_set_gets_its_members_and_loses_the_others(self) -> None:
        first = int(IPv4Address("192.168.0.0"))
        addresses = [IPv4Address(first + number) for number in range(10_000)]
        for wanted in (addresses[:6000], addresses[3000:], addresses[:1], []):
            item = AddressSet("pp-peers", frozenset(wanted))
            sets.put_set(item)
            assert observed(item) == {item}
        sets.put_set(AddressSet("pp-peers", frozenset(addresses[5:7])))
        listed = run("ipset", "list", "pp-peers", "-o", "save").splitlines()[1:]
        assert sorted(listed) == ["add pp-peers 192.168.0.5", "add pp-peers 192.168.0.6"]

    def test_a_set_that_another_version_or_tool_made_is_adopted(self) -> None:
        run("ipset", "create", "pp-peers", "hash:ip", "maxelem", "1024")
        run("ipset", "create", NAME, "hash:net", "skbinfo")
        item = AddressSet("pp-peers", frozenset({IPv4Address("192.0.2.1")}))
        sets.put_set(item)
        sets.put_set(MARKED)
        assert observed(item, MARKED) == {item, MARKED}

    def test_members_are_read_only_of_sets_that_are_wanted_as_address_sets(self) -> None:
        item = AddressSet("pp-peers", frozenset({IPv4Address("192.0.2.1")}))
        sets.put_set(item)
        assert observed(MARKED) == {AddressSet("pp-peers", frozenset())}
        assert observed(MarkedSet("pp-peers")) == {AddressSet("pp-peers", frozenset())}

    def test_sets_of_others_are_not_observed(self) -> None:
        run("ipset", "create", "theirs", "hash:ip")
        assert observed(MARKED) == set()

    @pytest.mark.parametrize(
        "kind",
        [
            "hash:ip",
            "hash:ip skbinfo",
            "hash:net",
            "hash:net skbinfo timeout 5",
            "hash:net skbinfo family inet6",
            "hash:ip netmask 24",
            "hash:ip,port",
        ],
    )
    def test_a_set_of_another_kind_is_replaced(self, kind: str) -> None:
        run("ipset", "create", NAME, *kind.split())
        with pytest.raises(TransientError, match="set pp-attached: a set of another type has that name"):
            sets.put_set(MARKED)
        desired = Scene.of(None, [MARKED])
        operations = plan(desired, Scene.of(None, sets.observe_sets(desired)))
        match operations:
            case (Remove(AddressSet() | UnknownSet() as old), Put(item)):
                sets.remove_set(old.name)
                assert item == MARKED
            case _:
                pytest.fail(f"not replaced: {operations}")
        sets.put_set(MARKED)
        assert observed(MARKED) == {MARKED}

    def test_a_set_that_is_in_use_cannot_go_and_the_error_says_why(self) -> None:
        sets.put_set(MARKED)
        rule = ("PREROUTING", "-m", "set", "--match-set", NAME, "src")
        run("iptables-legacy", "-w", "-t", "mangle", "-A", *rule)
        with pytest.raises(TransientError, match=r"remove set pp-attached: it is in use .* no iptables rule names it"):
            sets.remove_set(NAME)
        run("iptables-legacy", "-w", "-t", "mangle", "-D", *rule)
        sets.remove_set(NAME)
        sets.remove_set(NAME)
        assert observed(MARKED) == set()


class TestMembers:
    def test_what_was_put_is_read(self, handle: netlink.MarkedSetHandle) -> None:
        wanted = instances(2500) | {NET: 0x7FFF0000}
        handle.put(wanted)
        assert handle.read() == wanted
        assert handle.read() == wanted
        assert handle.count() == 2501
        assert "10.245.0.0/24 skbmark 0x7fff0000/0x7fff0000" in run("ipset", "list", NAME)

    def test_marks_are_read_where_the_kernel_pads_before_them(
        self, handle: netlink.MarkedSetHandle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a machine whose words must be aligned (user-mode Linux): IPSET_ATTR_PAD, then the mark."""
        padded = bytes.fromhex(
            "28000780 0c000180 08000100 0af40102 05000300 20000000 04001e00 0c001b40 00030000 7fff0000"
        )
        plain = bytes.fromhex("24000780 0c000180 08000100 0af50000 05000300 18000000 0c001b40 00040000 7fff0000")
        monkeypatch.setattr(ipset, "member_lists", lambda link, name: iter([padded + plain + padded]))
        assert handle.read() == {ONE: 0x30000, NET: 0x40000}

    def test_a_mark_is_changed_in_place(self, handle: netlink.MarkedSetHandle) -> None:
        handle.put({ONE: 0x10000, NET: 0})
        handle.put({ONE: 0x20000})
        assert handle.read() == {ONE: 0x20000, NET: 0}

    def test_removing_what_is_absent_is_fine(self, handle: netlink.MarkedSetHandle) -> None:
        handle.put(instances(10))
        handle.remove([ONE, *list(instances(9))])
        handle.remove([])
        assert handle.read() == dict([list(instances(10).items())[-1]])

    @pytest.mark.parametrize(
        "options",
        ["", "nomatch skbmark 0x10000/0x7fff0000", "skbmark 0x10000", "skbmark 0x10000/0x7fff0000 skbprio 1:2"],
        ids=["no mark", "nomatch", "another mask", "more than a mark"],
    )
    def test_what_somebody_else_added_is_different_from_any_wish(
        self, handle: netlink.MarkedSetHandle, options: str
    ) -> None:
        run("ipset", "add", NAME, str(NET), *options.split())
        handle.put({ONE: 0x10000})
        assert handle.read() == {ONE: 0x10000, NET: netlink.NOT_OURS}
        handle.put({NET: 0x10000})
        assert handle.read() == {ONE: 0x10000, NET: 0x10000}

    def test_a_handle_belongs_to_the_namespace_it_was_opened_in(self, handle: netlink.MarkedSetHandle) -> None:
        with own_namespace(), ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(handle.put, {ONE: 0x10000}).result()
            assert observed(MARKED) == set()
        assert handle.read() == {ONE: 0x10000}

    def test_a_handle_outlives_its_set(self, handle: netlink.MarkedSetHandle) -> None:
        handle.put({ONE: 0x10000})
        sets.remove_set(NAME)
        assert handle.count() is None
        for call in (lambda: handle.put({ONE: 0x10000}), lambda: handle.remove([ONE]), handle.read):
            with pytest.raises(TransientError, match=r"set pp-attached.*there is no such set"):
                call()
        sets.put_set(MARKED)
        assert handle.count() == 0
        handle.put({ONE: 0x10000})
        assert handle.read() == {ONE: 0x10000}

    @pytest.mark.parametrize(
        ("kind", "why"),
        [
            ("hash:ip skbinfo", "is of type hash:ip instead of hash:net"),
            ("hash:net", "add 10.244.1.2/32: the set was made without skbinfo"),
            ("hash:net skbinfo family inet6", "add 10.244.1.2/32: it is not what this type of set holds"),
        ],
    )
    def test_a_set_of_another_type_takes_nothing(self, kind: str, why: str) -> None:
        run("ipset", "create", NAME, *kind.split())
        handle = netlink.MarkedSetHandle(NAME, MASK)
        with pytest.raises(TransientError, match=f"set pp-attached.* {why}"):
            handle.put({ONE: 0x10000})
        handle.close()

    def test_a_full_set_says_which_member_it_did_not_take(self) -> None:
        run("ipset", "create", NAME, "hash:net", "skbinfo", "maxelem", "1500")
        handle = netlink.MarkedSetHandle(NAME, MASK)
        many = instances(1502)
        refused = list(many)[1500]
        with pytest.raises(TransientError, match=rf"set pp-attached: add {refused}: the set is full"):
            handle.put(many)
        assert handle.count() == 1500
        handle.close()

    def test_a_member_that_cannot_be_is_a_permanent_error(self, handle: netlink.MarkedSetHandle) -> None:
        with pytest.raises(PermanentError, match=r"add 0\.0\.0\.0/0: the prefix length is out of range"):
            handle.put({IPv4Network("0.0.0.0/0"): 0x10000})

    def test_a_mark_outside_the_mask_is_refused(self, handle: netlink.MarkedSetHandle) -> None:
        with pytest.raises(ValueError, match=r"mark 0x10001 of 10\.244\.1\.2/32 is not within 0x7fff0000"):
            handle.put({ONE: 0x10001})
        assert handle.count() == 0

    def test_a_probe_sees_a_member_come_and_go_and_the_set_go(self, handle: netlink.MarkedSetHandle) -> None:
        probe = netlink.SetProbe(NAME)
        probe.remember()
        assert not probe.has_changed()
        handle.put({ONE: 0x10000})
        assert probe.has_changed()
        probe.remember()
        handle.put({ONE: 0x20000})
        assert probe.has_changed()
        probe.remember()
        sets.remove_set(NAME)
        assert probe.has_changed()
        probe.close()


@pytest.mark.timed
def test_a_set_costs_little(handle: netlink.MarkedSetHandle) -> None:
    """One put is on the path of a cold start; reading and counting happen again and again."""
    handle.put(instances(2000))
    assert best_ms(lambda: handle.put({ONE: 0x10000})) < 0.15
    assert best_ms(lambda: handle.remove([ONE])) < 0.15
    assert best_ms(handle.read) < 5
    assert best_ms(handle.count) < 0.1
    assert ipset.heads(handle._link, NAME)[0].count == 1999 + (ONE not in instances(2000))
