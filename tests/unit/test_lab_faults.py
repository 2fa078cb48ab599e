"""The parts of faults that can be wrong without a kernel noticing: which packets a filter means, what a queue says."""

import struct

import pytest

from proxypool.lab.fault_kinds import HEALS, OF_SUBNET, Fault
from proxypool.lab.faults import packets
from proxypool.lab.inside.arp import OUR_MAC, REPLY, REQUEST, ArpWatch, Seen
from proxypool.lab.inside.delayer import PACKET, QUEUE_SUBSYSTEM, VERDICT, _packets

GO_ON, DROP = 0xFFFFFFFF, 2


def run(program: list[packets.Instruction], frame: bytes, dice: int = 0) -> int:
    """What classic BPF returns; the few instructions that these programs have."""
    accumulator = at = 0
    sizes = {0x20: 4, 0x28: 2, 0x30: 1}
    while True:
        code, true, false, operand = program[at]
        at += 1
        match code:
            case 0x06:
                return operand
            case 0x15:
                at += true if accumulator == operand else false
            case 0x35:
                at += true if accumulator >= operand else false
            case _ if operand >= 0xFFFFF000:
                accumulator = dice
            case _:
                accumulator = int.from_bytes(frame[operand : operand + sizes[code]], "big")


def ipv4(protocol: int, payload: bytes = bytes(8)) -> bytes:
    header = bytes([0x45, 0, 0, 40]) + bytes(5) + bytes([protocol]) + bytes(10)
    return bytes(12) + b"\x08\x00" + header + payload


VRRP, PING, ARP = ipv4(112), ipv4(1), bytes(12) + b"\x08\x06" + bytes(28)
TO_ZOOKEEPER, FROM_ZOOKEEPER = (ipv4(6, struct.pack("!HH4x", *ports)) for ports in ((40000, 2181), (2181, 40000)))
HTTP = ipv4(6, struct.pack("!HH4x", 40000, 80))


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        (packets.ANYTHING, {VRRP, PING, ARP, TO_ZOOKEEPER, FROM_ZOOKEEPER, HTTP}),
        (packets.VRRP, {VRRP}),
        (packets.ZOOKEEPER, {TO_ZOOKEEPER, FROM_ZOOKEEPER}),
    ],
)
def test_a_filter_drops_what_is_meant_and_nothing_else(kind: packets.Kind, meant: set[bytes]) -> None:
    for frame in (VRRP, PING, ARP, TO_ZOOKEEPER, FROM_ZOOKEEPER, HTTP):
        verdicts = {run(program, frame) for program in kind.programs(1.0)}
        assert (DROP in verdicts) is (frame in meant)


@pytest.mark.parametrize(("dice", "verdict"), [(0, DROP), (0x33333332, DROP), (0x33333334, GO_ON), (0xFFFFFFF0, GO_ON)])
def test_a_share_is_lost_by_the_dice(dice: int, verdict: int) -> None:
    (program,) = packets.VRRP.programs(0.2)
    assert run(program, VRRP, dice) == verdict
    assert run(program, PING, dice) == GO_ON


def test_every_fault_that_lasts_is_healed_by_one_that_does_not() -> None:
    assert not set(HEALS.values()) & set(HEALS)
    assert set(Fault) >= OF_SUBNET


def test_a_queue_tells_the_numbers_of_its_packets() -> None:
    def message(kind: int, number: int) -> bytes:
        timestamp = struct.pack("=HHQ", 12, 4, 0)
        header = struct.pack("=HH", 11, 1) + struct.pack(">IHB", number, 0x0800, 0) + b"\0"
        body = struct.pack(">BBH", 2, 0, 77) + timestamp + header
        return struct.pack("=IHHII", 16 + len(body), QUEUE_SUBSYSTEM << 8 | kind, 0, 0, 0) + body

    assert _packets(message(PACKET, 5) + message(VERDICT, 9) + message(PACKET, 7)) == [5, 7]
    assert _packets(b"") == []


def arp_frame(operation: int, mac: str, sender: str, to: bytes, target: str) -> bytes:
    packed = [bytes(map(int, address.split("."))) for address in (sender, target)]
    body = struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, bytes.fromhex(mac.replace(":", "")), packed[0], to, packed[1]
    )
    return bytes(14) + body


def test_who_answers_is_kept_as_spans_and_announcements_beside_them() -> None:
    watch = ArpWatch.__new__(ArpWatch)
    watch.interval_s, watch.is_answered = 0.005, True
    watch.seen = {"192.168.4.100": Seen()}
    watch.by_packed = {bytes((192, 168, 4, 100)): watch.seen["192.168.4.100"]}
    a, b = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
    for mac, times in ((a, (1.0, 1.01, 1.02)), (b, (1.5, 1.51)), (a, (2.0,))):
        for now in times:
            watch.heard(arp_frame(REPLY, mac, "192.168.4.100", OUR_MAC, "0.0.0.0"), now)
    watch.heard(arp_frame(REQUEST, b, "192.168.4.100", bytes(6), "192.168.4.100"), 1.5)
    watch.heard(arp_frame(REPLY, b, "192.168.4.7", OUR_MAC, "0.0.0.0"), 1.6)
    seen = watch.seen["192.168.4.100"]
    assert seen.spans == [(a, 1.0, 1.02), (b, 1.5, 1.51), (a, 2.0, 2.0)]
    assert seen.announced == [(b, 1.5)]
