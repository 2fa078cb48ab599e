"""Echo requests through a real kernel, in network namespaces of the test's own."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

import pytest

from proxypool.adapters.echo import RECENT_ROUNDS, EchoSocket
from proxypool.core.errors import TransientError
from tests.contract.netns import enter_new_namespace, own_namespace, run
from tests.contract.timing import best_ms

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

LOOPBACK = IPv4Address("127.0.0.1")
HAVIPS = [IPv4Address("192.168.4.100") + number for number in range(40)]
NOWHERE = IPv4Address("203.0.113.1")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_namespace():
        yield


@pytest.fixture
def echo() -> Iterator[EchoSocket]:
    opened = EchoSocket()
    yield opened
    opened.close()


@pytest.fixture
def pairs() -> Iterator[None]:
    """A machine beside the test's that holds every other HaVip."""

    def make() -> None:
        enter_new_namespace()
        for havip in HAVIPS[::2]:
            run("ip", "address", "add", f"{havip}/32", "dev", "lo")
        run("ip", "link", "set", "lo", "up")

    with ThreadPoolExecutor(1, initializer=make) as machine:
        tid = machine.submit(lambda: os.readlink("/proc/thread-self")).result().rpartition("/")[2]
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", tid)
        machine.submit(run, "ip", "address", "add", "192.168.4.1/24", "dev", "eth0").result()
        machine.submit(run, "ip", "link", "set", "eth0", "up").result()
        run("ip", "address", "add", "192.168.4.2/24", "dev", "eth0")
        run("ip", "link", "set", "eth0", "up")
        yield


def answers(echo: EchoSocket, count: int, timeout_s: float = 5.0) -> frozenset[IPv4Address]:
    """What was answered, as soon as so many did."""
    found: frozenset[IPv4Address] = frozenset()
    deadline = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < deadline:
        select.select([echo], [], [], 0.1)
        found |= echo.receive()
    return found


def test_who_holds_an_address_answers(echo: EchoSocket, pairs: None) -> None:
    echo.send(HAVIPS)
    assert answers(echo, 20) == set(HAVIPS[::2])
    assert echo.receive() == frozenset()


def test_nobody_was_asked_nobody_answers(echo: EchoSocket) -> None:
    echo.send([])
    assert echo.receive() == frozenset()


def test_an_address_that_cannot_be_reached_hinders_no_other(echo: EchoSocket) -> None:
    """No route; an unreachable one; a filter of our own; a broadcast address; and at last one that answers."""
    run("ip", "route", "add", "unreachable", "198.51.100.0/24")
    run("ip", "address", "add", "192.0.2.1/24", "dev", "lo")
    run("iptables-legacy", "-w", "-A", "OUTPUT", "-d", "127.0.0.9", "-j", "DROP")
    bad = ["203.0.113.1", "198.51.100.1", "127.0.0.9", "255.255.255.255", "192.0.2.255", "0.0.0.1"]
    echo.send([*map(IPv4Address, bad), LOOPBACK])
    assert answers(echo, 1) == {LOOPBACK}


def test_many_that_nobody_holds_leave_room_for_those_that_are_held(echo: EchoSocket, pairs: None) -> None:
    """Requests to the others wait in the kernel for a link-layer address and fill the socket's buffer."""
    absent = [IPv4Address("192.168.4.150") + number for number in range(100)]
    for _ in range(20):
        echo.send([*absent, *HAVIPS])
        assert answers(echo, 20) == set(HAVIPS[::2])


def test_answers_to_others_do_not_count(echo: EchoSocket) -> None:
    other = EchoSocket()
    other.send([LOOPBACK])
    run("ping", "-c", "1", "-e", str(echo._identifier), "127.0.0.1")
    assert answers(other, 1) == {LOOPBACK}
    assert echo.receive() == frozenset()
    other.close()


def test_an_answer_from_somebody_who_was_not_asked_does_not_count(echo: EchoSocket) -> None:
    echo.send([NOWHERE])
    reply = bytearray(echo._request())
    reply[0] = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as stranger:
        stranger.sendto(bytes(reply), (str(LOOPBACK), 0))
    assert select.select([echo], [], [], 5)[0]
    assert echo.receive() == frozenset()


@pytest.mark.parametrize("rounds_since", range(RECENT_ROUNDS + 2))
def test_answers_count_while_their_round_is_recent(echo: EchoSocket, rounds_since: int) -> None:
    echo.send([LOOPBACK])
    assert select.select([echo], [], [], 5)[0]
    for _ in range(rounds_since):
        echo.send([NOWHERE])
    assert echo.receive() == ({LOOPBACK} if rounds_since < RECENT_ROUNDS else frozenset())


def test_rounds_go_on_when_the_sequence_number_is_used_up(echo: EchoSocket) -> None:
    echo._sequence = 0xFFFE
    for _ in range(4):
        echo.send([LOOPBACK])
        assert answers(echo, 1) == {LOOPBACK}
    assert len(echo._rounds) == RECENT_ROUNDS


def test_it_belongs_to_the_namespace_it_was_opened_in(echo: EchoSocket, pairs: None) -> None:
    with own_namespace(), ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(echo.send, HAVIPS).result()
        assert elsewhere.submit(answers, echo, 20).result() == set(HAVIPS[::2])


def test_a_closed_socket_is_an_error(echo: EchoSocket) -> None:
    echo.close()
    with pytest.raises(TransientError, match=r"send an echo request to 127\.0\.0\.1: Bad file descriptor"):
        echo.send([LOOPBACK])
    with pytest.raises(TransientError, match="receive echo replies: Bad file descriptor"):
        echo.receive()


@pytest.mark.timed
def test_a_round_of_400_costs_little(echo: EchoSocket) -> None:
    """Not much more than as many datagrams to oneself: on loopback the kernel answers a request while it is being sent."""
    addresses = [IPv4Address("127.0.1.0") + number for number in range(400)]

    def one_round() -> None:
        echo.send(addresses)
        assert len(answers(echo, 400)) == 400

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mirror:
        mirror.bind(("127.0.0.1", 0))

        def datagrams() -> None:
            for _ in addresses:
                mirror.sendto(b"12345678", mirror.getsockname())
                mirror.recv(64)

        assert best_ms(one_round) < 3 * best_ms(datagrams)
