"""The filter on a card's way out, in a real kernel: what passes it, and that it is recognised."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.counters import NamespaceCounters
from proxypool.adapters.netlink.guard_drops import LOOK_EVERY_S
from proxypool.adapters.netlink.raw import RawSocket
from proxypool.adapters.netlink.source_guard import observe_guard, put_guard, remove_guard
from proxypool.core.blocking import Blocked
from proxypool.core.scene import SourceGuard
from tests.contract.netns import own_namespace, run
from tests.orphans import left_namespaces

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
    pytest.mark.skipif(os.geteuid() == 0 and not netlink.can_guard_sources(), reason="no sch_ingress or cls_bpf here"),
]

OWN, EGRESS, OTHER = "172.16.101.11", "172.16.101.20", "100.64.0.1"
GUARD = SourceGuard("eni0", frozenset({IPv4Address(OWN), IPv4Address(EGRESS)}))
IP, ARP, IPV6, LLDP = 0x0800, 0x0806, 0x86DD, 0x88CC


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """A card with its far end, in a namespace of the test's own."""
    with own_namespace():
        run("ip", "link", "add", "eni0", "type", "veth", "peer", "name", "far")
        for device in ("eni0", "far"):
            run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6")
            run("ip", "link", "set", device, "up")
        yield


def observed(wanted: SourceGuard | None = GUARD) -> SourceGuard | None:
    with RawSocket() as link:
        return observe_guard(link, "eni0", socket.if_nametoindex("eni0"), wanted)


def frame(kind: int, source: str) -> bytes:
    """A frame of this EtherType with this address where the protocol has the sender's."""
    address = socket.inet_aton(source)
    body = {IP: bytes(12) + address + bytes(30), ARP: bytes(14) + address + bytes(28)}.get(kind, bytes(46))
    return b"\xff" * 6 + b"\x02" + bytes(5) + struct.pack("!H", kind) + body


def passes(*frames: bytes) -> list[bool]:
    """Which of them come out at the far end. They are told apart by their last byte."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as far,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as near,
    ):
        far.bind(("far", 3))
        far.settimeout(1.0)
        near.bind(("eni0", 0))
        for number, each in enumerate(frames):
            with contextlib.suppress(OSError):  # ENOBUFS is how a sender hears that its frame was dropped
                near.send(each[:-1] + bytes((number,)))
        last = b"\xff" * 6 + b"\x02" + bytes(5) + struct.pack("!H", LLDP) + bytes(45) + b"\xff"
        near.send(last)
        came = set[int]()
        while 0xFF not in came:
            came.add(far.recv(256)[-1])
    return [number in came for number in range(len(frames))]


FRAMES = [frame(kind, source) for kind in (IP, ARP) for source in (OWN, EGRESS, OTHER)]


def test_only_the_cards_own_addresses_leave() -> None:
    """Of protocols with addresses; one without is none of its business."""
    assert passes(*FRAMES, frame(IPV6, OWN)) == [True] * 7
    put_guard(GUARD)
    assert passes(*FRAMES, frame(IPV6, OWN)) == [True, True, False, True, True, False, False]
    assert passes(frame(LLDP, OTHER)) == [True]


def test_it_is_recognised_and_put_twice_is_put_once() -> None:
    assert observed() is None
    put_guard(GUARD)
    put_guard(GUARD)
    assert observed() == GUARD
    assert run("tc", "filter", "show", "dev", "eni0", "egress").count("direct-action") == 1


def test_other_addresses_take_its_place() -> None:
    """Without a moment without any, as far as the kernel goes: it is one message."""
    put_guard(GUARD)
    alone = SourceGuard("eni0", frozenset({IPv4Address(OWN)}))
    assert observed(alone) == SourceGuard("eni0", frozenset()), "there is one, and another one than wanted"
    put_guard(alone)
    assert observed(alone) == alone
    assert passes(*FRAMES) == [True, False, False, True, False, False]


def test_a_flush_of_all_iptables_tables_does_not_reach_it() -> None:
    put_guard(GUARD)
    for table in ("filter", "nat", "mangle", "raw"):
        run("iptables-legacy", "-t", table, "-F")
        run("iptables-legacy", "-t", table, "-X")
    assert passes(*FRAMES) == [True, True, False, True, True, False]


def test_it_is_removed_and_what_others_made_stays() -> None:
    run("tc", "qdisc", "add", "dev", "eni0", "clsact")
    run(
        "tc",
        "filter",
        "add",
        "dev",
        "eni0",
        "egress",
        "prio",
        "5",
        "protocol",
        "ip",
        "u32",
        "match",
        "ip",
        "dst",
        "192.0.2.9",
        "flowid",
        "1:1",
    )
    put_guard(GUARD)
    remove_guard("eni0")
    remove_guard("eni0")
    assert observed() is None
    assert passes(*FRAMES) == [True] * 6
    assert "u32" in run("tc", "filter", "show", "dev", "eni0", "egress")


def test_a_card_that_leaves_the_namespace_leaves_it_behind() -> None:
    """The owner of the card gets it back as it was given."""
    put_guard(GUARD)
    for left in left_namespaces("guard"):
        run("ip", "netns", "del", left)
    run("ip", "netns", "add", f"guard{os.getpid()}")
    try:
        run("ip", "link", "set", "eni0", "netns", f"guard{os.getpid()}")
        there = run("ip", "netns", "exec", f"guard{os.getpid()}", "tc", "qdisc", "show", "dev", "eni0")
        assert "clsact" not in there
    finally:
        run("ip", "netns", "del", f"guard{os.getpid()}")


def test_a_device_that_is_not_there_is_an_error_to_put_and_none_to_remove() -> None:
    remove_guard("eni9")
    with pytest.raises(OSError, match="no device eni9"):
        put_guard(SourceGuard("eni9", frozenset()))


class Minutes:
    """The counters of the namespace, as a node reads them; time passes as they are asked."""

    def __init__(self) -> None:
        self.counters, self.now = NamespaceCounters("pp-none", "eni0"), 0.0

    def blocked(self) -> int | None:
        self.now += LOOK_EVERY_S
        self.counters.look(self.now)
        return self.counters.read(is_master=False).blocked.get(Blocked.SOURCE)


@pytest.fixture
def told() -> Iterator[Minutes]:
    minutes = Minutes()
    with contextlib.closing(minutes.counters):
        yield minutes


def test_what_it_drops_is_counted_and_what_it_lets_pass_is_not(told: Minutes) -> None:
    assert told.blocked() is None, "no filter, no number"
    put_guard(GUARD)
    assert told.blocked() == 0
    assert passes(*FRAMES, frame(IPV6, OWN)).count(False) == 3
    assert told.blocked() == 3


def test_it_is_looked_at_now_and_then_and_told_as_last_seen(told: Minutes) -> None:
    """The look takes a lock of the whole machine, and is not made where the counters are read."""
    put_guard(GUARD)
    assert told.blocked() == 0
    passes(frame(IP, OTHER))
    told.counters.look(told.now + LOOK_EVERY_S / 2)
    assert told.counters.read(is_master=True).blocked == {Blocked.SOURCE: 0}
    assert told.blocked() == 1


def test_what_was_counted_stays_when_addresses_change_and_when_it_is_made_anew(told: Minutes) -> None:
    """A counter that falls would be a reset to whoever reads it."""
    put_guard(GUARD)
    passes(frame(IP, OTHER), frame(IP, OTHER))
    assert told.blocked() == 2
    put_guard(SourceGuard("eni0", frozenset({IPv4Address(OWN)})))
    passes(frame(IP, EGRESS))
    assert told.blocked() == 3
    run("tc", "qdisc", "del", "dev", "eni0", "clsact")
    assert told.blocked() == 3
    put_guard(GUARD)
    passes(frame(IP, OTHER))
    assert told.blocked() == 4
    run("tc", "qdisc", "del", "dev", "eni0", "clsact")
    put_guard(GUARD)
    assert told.blocked() == 4, "the one that is there now has counted nothing"
    passes(frame(IP, OTHER))
    assert told.blocked() == 5
    run("ip", "link", "del", "eni0")
    assert told.blocked() == 5


def test_a_daemon_that_starts_tells_what_the_kernel_has_counted_before(told: Minutes) -> None:
    put_guard(GUARD)
    passes(frame(IP, OTHER))
    with contextlib.closing(NamespaceCounters("pp-none", "eni0")) as counters:
        assert counters.read(is_master=False).blocked == {Blocked.SOURCE: 1}
    assert told.blocked() == 1
