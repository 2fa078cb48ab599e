"""Timing VRRP advertisements with the real kernel: hand-made ones on loopback, in a namespace of the test's own."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from proxypool.adapters.vrrp_ear import IPPROTO_VRRP, VrrpEar
from proxypool.core.errors import PermanentError
from proxypool.core.history import Heard
from tests.contract.netns import own_namespace, run

PEER, OTHER = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")


@pytest.fixture
def ear() -> Iterator[VrrpEar]:
    """In a namespace with nothing but loopback."""
    if os.geteuid() != 0:
        pytest.skip("makes network namespaces and raw sockets")
    with own_namespace():
        try:
            made = VrrpEar()
        except PermanentError as error:
            pytest.skip(str(error))
        try:
            yield made
        finally:
            made.close()


def advertise(
    vrid: int = 51,
    priority: int = 240,
    *,
    centiseconds: int = 5,
    sender: IPv4Address = PEER,
    first: int = 0x31,
    cut: int | None = None,
    options: bytes = b"",
) -> tuple[float, float]:
    """Send one, and say between which two moments it arrived: on loopback that is while it is sent."""
    packet = struct.pack(">BBBBHH4s", first, vrid, priority, 1, centiseconds, 0, IPv4Address("10.0.0.1").packed)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_VRRP) as link:
        link.bind((str(sender), 0))
        if options:
            link.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        before = time.monotonic()
        link.sendto(packet[:cut], (str(PEER), 0))
        return before, time.monotonic()


def known(ear: VrrpEar, sender: IPv4Address = PEER, vrid: int = 51) -> Heard:
    """What is noted of a sender that is followed."""
    found = ear.heard((sender, vrid))
    assert found is not None
    return found


def test_the_time_is_that_of_the_arrival(ear: VrrpEar) -> None:
    """By the clock that the daemon reads, without anybody having to wake up for it."""
    ear.follow([(PEER, 51)])
    assert known(ear) == Heard(None, None, 0, 0.0)
    for _ in range(20):
        last = known(ear)
        before, after = advertise()
        time.sleep(0.002)
        found = known(ear)
        assert found.at is not None
        assert before <= found.at <= after
        assert found.before == last.at


def test_what_the_last_one_said(ear: VrrpEar) -> None:
    """Priority, zero among them, and interval, whose upper bits are reserved."""
    ear.follow([(PEER, 51)])
    advertise(priority=199, centiseconds=3)
    assert (known(ear).priority, known(ear).interval_s) == (199, 0.03)
    advertise(priority=0, centiseconds=0xF000 | 100)
    assert (known(ear).priority, known(ear).interval_s) == (0, 1.0)


def test_others_change_nothing(ear: VrrpEar) -> None:
    """Another id, another sender with our id, another version, half a header."""
    ear.follow([(PEER, 51)])
    advertise()
    before = known(ear)
    advertise(52)
    advertise(sender=OTHER)
    advertise(first=0x21)
    advertise(first=0x32)
    advertise(cut=7)
    advertise(cut=0)
    assert known(ear) == before
    assert ear.heard((PEER, 52)) is None
    assert ear.heard((OTHER, 51)) is None


def test_a_longer_ip_header(ear: VrrpEar) -> None:
    """The VRRP header is behind its options."""
    ear.follow([(PEER, 51)])
    advertise(priority=123, options=bytes([1, 1, 1, 0]))
    assert known(ear).priority == 123


def test_who_is_followed_changes(ear: VrrpEar) -> None:
    """Those that stay keep their notes; one that comes back begins anew."""
    ear.follow([(PEER, 51), (PEER, 52)])
    advertise(51)
    advertise(52)
    before = known(ear)
    ear.follow([(PEER, 51), (OTHER, 51)])
    assert known(ear) == before
    assert known(ear, OTHER).at is None
    assert ear.heard((PEER, 52)) is None
    ear.follow([(PEER, 51), (PEER, 52)])
    assert known(ear, vrid=52).at is None
    ear.follow([])
    assert ear.heard((PEER, 51)) is None


def test_nothing_is_queued(ear: VrrpEar) -> None:
    """A hundred pairs with a hundred adverts a second fill no buffer and wake nobody."""
    ear.follow([(PEER, 51)])
    for vrid in range(1, 200):
        advertise(vrid)
    ear._socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        ear._socket.recv(100)


@pytest.mark.timed
def test_reading_costs_microseconds_also_while_others_compute(ear: VrrpEar) -> None:
    """It is read on the main loop in the middle of a failover; the interpreter's lock is not given away for it."""
    ear.follow([(PEER, 51)])
    advertise()
    is_over = threading.Event()

    def compute() -> None:
        while not is_over.is_set():
            sum(range(1000))

    busy = threading.Thread(target=compute)
    busy.start()
    try:
        took = []
        for _ in range(2000):
            started = time.perf_counter()
            known(ear)
            took.append(time.perf_counter() - started)
    finally:
        is_over.set()
        busy.join()
    assert sorted(took)[len(took) // 2] < 0.0005
    # With a switch of threads in each call, each would take the interpreter's 5 ms.
    assert sum(took) < 2000 * 0.0025


def test_nothing_is_left_open(ear: VrrpEar) -> None:
    """Map, program and socket go with it."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        another = VrrpEar()
        another.follow([(PEER, 1)])
        another.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_the_right_it_says_so() -> None:
    """The daemon goes on without."""
    if os.geteuid() != 0:
        pytest.skip("drops capabilities")
    program = "from proxypool.adapters.vrrp_ear import VrrpEar; VrrpEar()"
    with own_namespace(), pytest.raises(subprocess.CalledProcessError) as caught:
        run("setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", program)
    assert "PermanentError: cannot time VRRP advertisements" in caught.value.stderr
