"""Questions through an ENI, and what the kernel says of its carrier, in network namespaces of the test's own."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import IPv4Address

import pytest

from proxypool.adapters.eni_probe import EniProbe
from proxypool.adapters.netlink import LinkWatch
from tests.contract.netns import enter_new_namespace, own_namespace, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

OWN, GATEWAY, NOBODY = (IPv4Address(f"172.16.101.{last}") for last in (11, 1, 99))
BEHIND = IPv4Address("172.16.200.4")


@pytest.fixture(autouse=True)
def gateway() -> Iterator[ThreadPoolExecutor]:
    """A machine at the other end of the ENI, with an address of a network behind it."""

    def make() -> None:
        enter_new_namespace()
        run("ip", "address", "add", f"{BEHIND}/32", "dev", "lo")
        run("ip", "link", "set", "lo", "up")

    with own_namespace(), ThreadPoolExecutor(1, initializer=make) as machine:
        tid = machine.submit(lambda: os.readlink("/proc/thread-self")).result().rpartition("/")[2]
        run("ip", "link", "add", "eni0", "type", "veth", "peer", "name", "far0", "netns", tid)
        machine.submit(run, "ip", "address", "add", f"{GATEWAY}/24", "dev", "far0").result()
        machine.submit(run, "ip", "link", "set", "far0", "up").result()
        run("ip", "address", "add", f"{OWN}/24", "dev", "eni0")
        run("ip", "link", "set", "eni0", "up")
        run("ip", "route", "add", "172.16.200.0/24", "via", str(GATEWAY))
        deadline = time.monotonic() + 5.0
        while "state UP" not in run("ip", "link", "show", "eni0"):
            # Up to a second after the last change of any carrier of this computer; packets are dropped until then.
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield machine


def is_answered(probe: EniProbe, timeout_s: float = 2.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        select.select([probe], [], [], 0.05)
        if probe.receive():
            return True
    return False


@pytest.mark.parametrize(("target", "is_onlink"), [(GATEWAY, True), (BEHIND, False)])
def test_the_target_answers_each_question_once(target: IPv4Address, *, is_onlink: bool) -> None:
    """By ARP on the ENI's own network, by echo behind a gateway."""
    with closing(EniProbe("eni0", OWN, target, is_onlink=is_onlink)) as probe:
        assert not probe.receive()
        for _ in range(3):
            probe.send()
            assert is_answered(probe)
            assert not probe.receive()


@pytest.mark.parametrize(("target", "is_onlink"), [(NOBODY, True), (IPv4Address("172.16.200.9"), False)])
def test_nobody_there_is_silence(target: IPv4Address, *, is_onlink: bool) -> None:
    with closing(EniProbe("eni0", OWN, target, is_onlink=is_onlink)) as probe:
        probe.send()
        assert not is_answered(probe, 0.3)


def test_another_members_answer_is_none_of_ours() -> None:
    """Both members ask the same gateway; an answer that is sent to all must not count for the wrong one."""
    other = EniProbe("eni0", IPv4Address("172.16.101.12"), GATEWAY, is_onlink=True)
    with closing(other), closing(EniProbe("eni0", OWN, GATEWAY, is_onlink=True)) as probe:
        other.send()
        assert is_answered(other)
        assert not probe.receive()


def test_a_carrier_is_seen_as_it_is_now(gateway: ThreadPoolExecutor) -> None:
    """At once, whenever the kernel gets round to telling of it. A card that is gone has none."""
    with closing(EniProbe("eni0", OWN, GATEWAY, is_onlink=True)) as probe:
        assert probe.has_carrier()
        for state, expected in (("down", False), ("up", True), ("down", False)):
            gateway.submit(run, "ip", "link", "set", "far0", state).result()
            assert probe.has_carrier() is expected
            probe.send()
        run("ip", "link", "del", "eni0")
        assert not probe.has_carrier()
        probe.send()
        assert not probe.receive()


def wait_down(watch: LinkWatch, expected: set[str], timeout_s: float = 3.0) -> float:
    began = time.monotonic()
    while watch.down() != frozenset(expected):
        assert time.monotonic() < began + timeout_s, f"{watch.down()} instead of {expected}"
        select.select([watch], [], [], 0.05)
    return time.monotonic() - began


def test_links_that_go_and_come_are_told(gateway: ThreadPoolExecutor) -> None:
    with closing(LinkWatch(("eni0", "tun0"))) as watch:
        wait_down(watch, {"tun0"})
        run("ip", "link", "add", "tun0", "type", "vxlan", "id", "7", "dstport", "4789", "local", str(OWN))
        wait_down(watch, {"tun0"})
        run("ip", "link", "set", "tun0", "up")
        wait_down(watch, set())
        gateway.submit(run, "ip", "link", "set", "far0", "down").result()
        wait_down(watch, {"eni0"})
        gateway.submit(run, "ip", "link", "set", "far0", "up").result()
        wait_down(watch, set())
        run("ip", "link", "del", "eni0")
        wait_down(watch, {"eni0"})


def test_lost_notifications_are_made_up_for() -> None:
    """More than a socket's buffer holds."""
    with closing(LinkWatch(("eni0",))) as watch:
        wait_down(watch, set())
        for _ in range(300):
            run("ip", "link", "set", "eni0", "alias", "x" * 200)
        run("ip", "link", "set", "eni0", "down")
        wait_down(watch, {"eni0"})
