"""Who else calls an address of ours its own: heard by a real kernel's filter, and answered on a wire of the test's own."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address

import pytest

from proxypool.adapters.address_conflicts import MAX_FOLLOWED, AddressConflicts
from proxypool.adapters.announcer import ETHERTYPE_ARP, frames
from tests.contract.netns import own_namespace, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

OURS, FAR = "eth0", "far0"
HAVIP, OTHER = IPv4Address("192.168.4.100"), IPv4Address("192.168.4.101")
STRANGER = bytes.fromhex("02000000000b")
_ARP = struct.Struct(">HHBBH6s4s6s4s")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """The underlay's card, and its far end in the hands of another machine."""
    with own_namespace():
        run("ip", "link", "add", OURS, "type", "veth", "peer", "name", FAR)
        for device in (OURS, FAR):
            run("ip", "link", "set", device, "up")
        yield


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    """All ARP at the far end."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP)) as link:
        link.bind((FAR, ETHERTYPE_ARP))
        link.settimeout(0.5)
        yield link


@pytest.fixture
def conflicts() -> Iterator[AddressConflicts]:
    with closing(AddressConflicts(OURS)) as opened:
        yield opened


def is_readable(conflicts: AddressConflicts, within_s: float = 0.5) -> bool:
    return bool(select.select([conflicts], [], [], within_s)[0])


def claim(wire: socket.socket, address: IPv4Address) -> None:
    """As keepalived announces an address."""
    for frame in frames(STRANGER, address):
        wire.send(frame)


def test_a_claim_of_ours_is_heard_once(conflicts: AddressConflicts, wire: socket.socket) -> None:
    conflicts.follow([OTHER, HAVIP])
    claim(wire, HAVIP)
    assert is_readable(conflicts)
    assert conflicts.heard() == {HAVIP}
    assert conflicts.heard() == set()


def test_what_is_not_followed_wakes_nobody(conflicts: AddressConflicts, wire: socket.socket) -> None:
    """Before anything is, and any more."""
    claim(wire, HAVIP)
    assert not is_readable(conflicts, 0.1)
    conflicts.follow([HAVIP])
    claim(wire, OTHER)
    assert not is_readable(conflicts, 0.1)
    conflicts.follow([OTHER])
    claim(wire, HAVIP)
    assert not is_readable(conflicts, 0.1)
    claim(wire, OTHER)
    assert is_readable(conflicts)


def test_a_question_that_comes_from_the_address_is_a_claim(conflicts: AddressConflicts, wire: socket.socket) -> None:
    """RFC 5227, 2.4: any ARP packet with our address as its sender's; a question about it is none."""
    conflicts.follow([HAVIP])
    head = b"\xff" * 6 + STRANGER + struct.pack(">H", ETHERTYPE_ARP)
    wire.send(head + _ARP.pack(1, 0x800, 6, 4, 1, STRANGER, OTHER.packed, bytes(6), HAVIP.packed))
    assert not is_readable(conflicts, 0.1)
    wire.send(head + _ARP.pack(1, 0x800, 6, 4, 1, STRANGER, HAVIP.packed, bytes(6), OTHER.packed))
    assert is_readable(conflicts)


def test_what_we_say_ourselves_is_no_claim(conflicts: AddressConflicts, wire: socket.socket) -> None:
    """It goes out as a request and as an answer, from the card's own MAC; keepalived says the same."""
    conflicts.follow([HAVIP])
    conflicts.defend(HAVIP)
    assert not is_readable(conflicts, 0.1)
    mac = run("ip", "-o", "link", "show", OURS).partition("link/ether ")[2].split()[0]
    said = [wire.recv(64) for _ in range(2)]
    assert said == list(frames(bytes.fromhex(mac.replace(":", "")), HAVIP))


def test_as_many_as_a_node_can_have(conflicts: AddressConflicts, wire: socket.socket) -> None:
    """The kernel takes a filter of that size; one more is refused, and what was followed still is."""
    many = [IPv4Address(0x0A000000 + number) for number in range(MAX_FOLLOWED)]
    conflicts.follow(many)
    claim(wire, many[-1])
    assert is_readable(conflicts)
    assert conflicts.heard() == {many[-1]}
    with pytest.raises(OSError, match="513 addresses"):
        conflicts.follow([*many, HAVIP])
    claim(wire, many[0])
    assert is_readable(conflicts)


def test_an_underlay_that_goes_down_and_comes_back(conflicts: AddressConflicts, wire: socket.socket) -> None:
    conflicts.follow([HAVIP])
    run("ip", "link", "set", OURS, "down")
    assert conflicts.heard() == set()
    with pytest.raises(OSError, match="down"):
        conflicts.defend(HAVIP)
    run("ip", "link", "set", OURS, "up")
    claim(wire, HAVIP)
    assert is_readable(conflicts)
    assert conflicts.heard() == {HAVIP}


def test_without_the_device() -> None:
    with pytest.raises(OSError, match="No such device"):
        AddressConflicts("nobody")
