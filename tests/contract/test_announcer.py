"""An address that is nobody's: who answers for it, and how it is announced. In a real kernel, on a card of the test's own."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.announcer import REFRESH_S, REPEAT_AFTER_S, Announcer
from proxypool.adapters.sysctl import write_sysctl
from proxypool.core.errors import TransientError
from proxypool.core.scene import ProxyNeighbour, Route, Sysctl
from tests.contract.netns import own_namespace, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

EGRESS, OWN = IPv4Address("172.16.1.201"), IPv4Address("172.16.1.11")
CARD, FAR, ELSEWHERE = "eni0", "far0", "ppt1"
ARP = 0x0806


@pytest.fixture(autouse=True)
def card() -> Iterator[None]:
    """A card with an address, the far end in the hands of a customer's server, and another device."""
    with own_namespace():
        run("ip", "link", "add", CARD, "type", "veth", "peer", "name", FAR)
        run("ip", "link", "add", ELSEWHERE, "type", "bridge")
        run("ip", "addr", "add", "172.16.1.11/24", "dev", CARD)
        for device in (CARD, FAR, ELSEWHERE):
            run("ip", "link", "set", device, "up")
        for path, value in (("conf/eni0/arp_ignore", "1"), ("neigh/eni0/proxy_delay", "0"), ("ip_forward", "0")):
            write_sysctl(Sysctl(f"ipv4/{path}", value))
        yield


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    """All ARP at the far end."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as link:
        link.bind((FAR, ARP))
        link.settimeout(0.3)
        yield link


def gate(*, is_open: bool) -> None:
    write_sysctl(Sysctl("ipv4/ip_forward", str(int(is_open))))


def heard(wire: socket.socket) -> list[tuple[int, str, str, str]]:
    """Operation, sender's MAC and address, target, of what came."""
    found: list[tuple[int, str, str, str]] = []
    wire.settimeout(0.05)
    while True:
        try:
            data, (_, _, kind, *_) = wire.recvfrom(128)
        except TimeoutError:
            return found
        if kind != socket.PACKET_OUTGOING:
            operation, mac, sender, _, target = struct.unpack_from(">6xH6s4s6s4s", data, 14)
            found.append((operation, mac.hex(":"), socket.inet_ntoa(sender), socket.inet_ntoa(target)))


def ask(wire: socket.socket, address: IPv4Address) -> list[str]:
    """Who has it? MACs of the answers."""
    mac = bytes.fromhex("020000000004")
    question = struct.pack(
        ">HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac, IPv4Address("172.16.1.4").packed, bytes(6), address.packed
    )
    wire.send(b"\xff" * 6 + mac + struct.pack(">H", ARP) + question)
    return [sender for operation, sender, source, _ in heard(wire) if operation == 2 and source == str(address)]


def own_mac() -> str:
    return run("ip", "-o", "link", "show", CARD).partition("link/ether ")[2].split()[0]


def proxied() -> None:
    items = Route(IPv4Network(EGRESS), device=ELSEWHERE), ProxyNeighbour(CARD, EGRESS)
    assert netlink.apply_batch([(item, True) for item in items]) == [None, None]


def test_the_gate_decides_who_answers(wire: socket.socket) -> None:
    """At once, and only with the entry and with a route that leads elsewhere; our own address is answered for always."""
    proxied()
    assert ask(wire, EGRESS) == []
    gate(is_open=True)
    assert ask(wire, EGRESS) == [own_mac()]
    assert ask(wire, IPv4Address("172.16.1.202")) == []
    netlink.apply_batch([(Route(IPv4Network(EGRESS), device=ELSEWHERE), False)])
    assert ask(wire, EGRESS) == []
    proxied()
    assert ask(wire, EGRESS) == [own_mac()]
    netlink.apply_batch([(ProxyNeighbour(CARD, EGRESS), False)])
    assert ask(wire, EGRESS) == []
    gate(is_open=False)
    assert ask(wire, IPv4Address("172.16.1.11")) == [own_mac()]


def test_an_announcement_is_a_request_and_an_answer_repeated_while_the_gate_is_open(wire: socket.socket) -> None:
    gate(is_open=True)
    both = [(1, own_mac(), str(EGRESS), str(EGRESS)), (2, own_mac(), str(EGRESS), str(EGRESS))]
    with closing(Announcer(CARD)) as announcer:
        announcer.begin(EGRESS, 100.0)
        assert announcer.is_announcing(EGRESS)
        assert heard(wire) == both
        now = 100.0
        for pause in (*REPEAT_AFTER_S, REFRESH_S, REFRESH_S):
            announcer.repeat(now + pause - 0.01)
            assert heard(wire) == []
            now += pause
            announcer.repeat(now)
            assert heard(wire) == both
        announcer.end()
        announcer.repeat(now + 100)
        assert heard(wire) == []
        assert not announcer.is_announcing(EGRESS)


def test_nothing_is_announced_behind_a_closed_gate(wire: socket.socket) -> None:
    """Whoever closed it: the daemon may not know yet. Once it is open the next repetition is heard."""
    with closing(Announcer(CARD)) as announcer:
        announcer.begin(EGRESS, 100.0)
        assert heard(wire) == []
        gate(is_open=True)
        announcer.repeat(101.0)
        assert len(heard(wire)) == 2
        gate(is_open=False)
        announcer.repeat(200.0)
        assert heard(wire) == []


def test_the_cards_own_address_is_said_a_few_times_also_behind_a_closed_gate(wire: socket.socket) -> None:
    """Whoever has it with the MAC of a card that is gone learns the new one, and is left alone after that."""
    with closing(Announcer(CARD)) as announcer:
        announcer.introduce(OWN, 100.0)
        now = 100.0
        for pause in (*REPEAT_AFTER_S, None):
            assert heard(wire) == [(1, own_mac(), str(OWN), str(OWN)), (2, own_mac(), str(OWN), str(OWN))]
            now += pause or 0.0
            announcer.repeat(now)
        assert heard(wire) == []
        announcer.repeat(now + 100)
        assert heard(wire) == []


def test_what_a_card_that_is_down_could_not_say_is_said_when_it_is_up(wire: socket.socket) -> None:
    with closing(Announcer(CARD)) as announcer:
        run("ip", "link", "set", CARD, "down")
        announcer.introduce(OWN, 100.0)
        run("ip", "link", "set", CARD, "up")
        announcer.repeat(100.0 + REFRESH_S - 0.01)
        assert heard(wire) == []
        announcer.repeat(100.0 + REFRESH_S)
        assert len(heard(wire)) == 2


def test_a_card_that_is_gone_is_no_error(wire: socket.socket) -> None:
    gate(is_open=True)
    announcer = Announcer(CARD)
    run("ip", "link", "set", CARD, "down")
    announcer.begin(EGRESS, 100.0)
    run("ip", "link", "del", CARD)
    announcer.introduce(OWN, 200.0)
    announcer.repeat(200.0)
    announcer.close()
    announcer.repeat(300.0)
    announcer.begin(EGRESS, 300.0)
    with pytest.raises(TransientError):
        Announcer(CARD)


def test_the_probe_sees_what_is_answered_for_without_being_told() -> None:
    with closing(netlink.ProxyProbe()) as probe:
        assert probe.addresses == frozenset()
        proxied()
        subprocess.run(["ip", "neigh", "add", "proxy", "172.16.1.250", "dev", CARD], check=True)
        assert probe.addresses == frozenset()
        probe.look()
        assert probe.addresses == {EGRESS, IPv4Address("172.16.1.250")}
        run("ip", "link", "set", CARD, "down")
        probe.look()
        assert probe.addresses == frozenset()
