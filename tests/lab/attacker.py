"""What an attacker sends: packets made by hand, put on a machine's wire by raw sockets. And where they must not be seen.

No library: a forged packet is a few bytes, and what is in them must be exactly what the test says.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from proxypool.adapters.iptables import BlockedCounts
from proxypool.core.addressing import mac_of, namespace_of
from proxypool.core.blocking import Blocked
from proxypool.core.firewall import vxlan_sync_port
from proxypool.core.sync_link import FIRST_SYNC_KEY
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.topology import Kind, Tunnel
from tests.lab.observe import PATIENCE, Sniffer, inside, tunnel_kind, wait_until

ICMP, TCP, UDP, GRE, VRRP = 1, 6, 17, 47, 112
MARK = b"attack!" + os.urandom(9)
"""In every forged packet that has room for it: random, so that nothing else can be taken for one."""
PORT = 4666
"""Where nobody listens but who says so."""
VXLAN_PORT = 4789
BROADCAST = "ff:ff:ff:ff:ff:ff"
MORE_FRAGMENTS = 0x2000
SEEN_WITHIN_S = 0.15
"""A packet crosses the whole lab in a millisecond; what has not come by then does not come."""


# ---- packets ---------------------------------------------------------------------------------------------------------


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    options: bytes = b"",
    fragment: int = 0,
    ident: int = 0,
) -> bytes:
    """A packet with these addresses; `fragment`: flags and offset as they stand in the header."""
    words = 5 + len(options) // 4
    length = 4 * words + len(payload)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    fields = (words | 0x40, 0, length, ident or int.from_bytes(os.urandom(2)), fragment, ttl, protocol)
    blank = struct.pack("!BBHHHBBH", *fields, 0) + addresses + options
    return blank[:10] + _checksum(blank).to_bytes(2) + blank[12:] + payload


def fragments(packet: bytes, first: int = 8) -> tuple[bytes, bytes]:
    """A packet in two: the first with so many bytes of what it carries, a multiple of eight."""
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    ident = int.from_bytes(os.urandom(2)) | 1
    body = packet[20:]
    head = ipv4(source, destination, packet[9], body[:first], fragment=MORE_FRAGMENTS, ident=ident)
    return head, ipv4(source, destination, packet[9], body[first:], fragment=first // 8, ident=ident)


def udp(source_port: int, port: int, payload: bytes = MARK) -> bytes:
    """A datagram without a checksum, which is allowed."""
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def tcp(source: str, destination: str, source_port: int, port: int, flags: int) -> bytes:
    """A segment: 2 is SYN, 16 is ACK. Its checksum is right, or conntrack would not look at it."""
    blank = struct.pack("!HHIIBBHHH", source_port, port, 4711, 815, 0x50, flags, 64240, 0, 0) + MARK
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    total = _checksum(addresses + struct.pack("!BBH", 0, TCP, len(blank)) + blank)
    return blank[:16] + total.to_bytes(2) + blank[18:]


def icmp(kind: int, code: int, rest: bytes = bytes(4), payload: bytes = MARK) -> bytes:
    """A message: 8 is an echo request, 5 a redirect whose `rest` is the new gateway."""
    blank = struct.pack("!BBH", kind, code, 0) + rest + payload
    return blank[:2] + _checksum(blank).to_bytes(2) + blank[4:]


def three_kinds(source: str, destination: str, port: int = PORT) -> Iterator[bytes]:
    """The first packet of each kind of connection."""
    yield ipv4(source, destination, UDP, udp(4000, port))
    yield ipv4(source, destination, TCP, tcp(source, destination, 4000, port, 2))
    yield ipv4(source, destination, ICMP, icmp(8, 0))


def ethernet(destination: str, source: str, kind: int, payload: bytes) -> bytes:
    """A frame."""
    return bytes.fromhex((destination + source).replace(":", "")) + struct.pack("!H", kind) + payload


def arp(operation: int, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """1 asks, 2 answers; MAC and address of each."""
    ends = b"".join(bytes.fromhex(mac.replace(":", "")) + socket.inet_aton(ip) for mac, ip in (sender, target))
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + ends


def advertisement(vrid: int, source: str, destination: str, havip: str) -> bytes:
    """VRRPv3 (RFC 5798) with the highest priority there is, as the owner of the address sends it."""
    blank = struct.pack("!BBBBHH", 0x31, vrid, 255, 1, 1, 0) + socket.inet_aton(havip)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    total = _checksum(addresses + struct.pack("!BBH", 0, VRRP, len(blank)) + blank)
    return ipv4(source, destination, VRRP, blank[:6] + total.to_bytes(2) + blank[8:], ttl=255)


def tunnelled(
    key: int,
    inner: bytes,
    outer: tuple[str, str],
    *,
    end: str | None = None,
    kind: int = 0x0800,
    vxlan_port: int = VXLAN_PORT,
) -> bytes:
    """A tunnel packet of the lab's kind, with everything as a host or a node would make it. `end`: whose tunnel end it
    is for, by its tunnel address or HaVip; default: where it is sent. `kind`: EtherType of what is inside.
    """
    source, destination = outer
    if tunnel_kind() is Tunnel.GRE:
        return ipv4(source, destination, GRE, struct.pack("!HHI", 0x2000, kind, key) + inner)
    frame = ethernet(mac_of(IPv4Address(end or destination)), "02:00:00:00:00:01", kind, inner)
    return ipv4(source, destination, UDP, udp(50000, vxlan_port, struct.pack("!II", 8 << 24, key << 8) + frame))


def over_the_link(key: int, inner: bytes, outer: tuple[str, str], end: str) -> bytes:
    """The same in the tunnel between the members of a subnet's pair. `end`: the address in it of the one it is for."""
    if tunnel_kind() is Tunnel.GRE:
        return tunnelled(FIRST_SYNC_KEY + key, inner, outer)
    return tunnelled(key, inner, outer, end=end, vxlan_port=vxlan_sync_port(VXLAN_PORT))


# ---- sending ---------------------------------------------------------------------------------------------------------


def send(lab: Lab, machine: str, packets: Iterable[bytes]) -> None:
    """Whole IPv4 packets, with whatever source: the machine's own kernel routes them, and changes nothing."""

    def act() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as link:
            for packet in packets:
                # What the sender's own kernel refuses has not been sent, as the test will see.
                with contextlib.suppress(OSError):
                    link.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    inside(lab.machine(machine), None, act)


def send_frames(lab: Lab, machine: str, frames: Iterable[bytes], device: str = "eth0") -> None:
    """Whole frames, past the sender's kernel."""

    def act() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((device, 0))
            for frame in frames:
                link.send(frame)

    inside(lab.machine(machine), None, act)


# ---- what came of it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is blocked: a machine, or a subnet's namespace on a node."""

    machine: str
    subnet: SubnetPlan | None = None

    @property
    def namespace(self) -> str | None:
        """Its name on the machine."""
        return namespace_of(self.subnet.id) if self.subnet is not None else None


def blocked(lab: Lab, place: Place) -> Mapping[Blocked, int]:
    """What the kernel has counted there. The metrics say the same, a second later."""
    machine = lab.machine(place.machine)
    if place.subnet is not None:
        tables: tuple[str, ...] = ("filter",)
    else:
        tables = ("raw",) if machine.spec.kind is Kind.NODE else ("mangle", "filter")

    def look() -> Mapping[Blocked, int]:
        counts = BlockedCounts(tables)
        with contextlib.closing(counts):
            return counts.read()

    return inside(machine, place.namespace, look)


def netstat(lab: Lab, place: Place, name: str) -> int:
    """A counter of /proc/net/netstat, such as `IPReversePathFilter`."""

    def look() -> int:
        lines = Path("/proc/thread-self/net/netstat").read_text(encoding="ascii").splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            if name in names.split():
                return int(values.split()[names.split().index(name)])
        return 0

    return inside(lab.machine(place.machine), place.namespace, look)


@contextlib.contextmanager
def counted(lab: Lab, place: Place, why: Blocked, packets: int) -> Iterator[None]:
    """So many packets, and no others, are blocked there for this reason while this lasts."""
    before = blocked(lab, place).get(why, 0)
    yield
    end = time.monotonic() + 2.0 * PATIENCE
    while (found := blocked(lab, place).get(why, 0) - before) < packets and time.monotonic() < end:
        time.sleep(0.01)
    assert found == packets, f"{found} packets counted as {why.value} at {place.machine}, not {packets}"


@contextlib.contextmanager
def unseen(lab: Lab, *wires: tuple[str, str]) -> Iterator[None]:
    """No forged packet is seen on any of these wires (machine and interface, or the fabric and a bridge)."""
    with contextlib.ExitStack() as stack:
        is_forged = lambda frame: MARK in frame.payload  # noqa: E731
        sniffers = [stack.enter_context(Sniffer(lab, *wire, is_wanted=is_forged)) for wire in wires]
        yield
        time.sleep(SEEN_WITHIN_S * PATIENCE)
        for wire, sniffer in zip(wires, sniffers, strict=True):
            assert not sniffer.frames, f"seen on {wire}: {[str(frame) for frame in sniffer.frames[:5]]}"


@contextlib.contextmanager
def seen(lab: Lab, wire: tuple[str, str], packets: int = 1) -> Iterator[None]:
    """The control: so many forged packets at least are seen on this wire."""
    with Sniffer(lab, *wire, is_wanted=lambda frame: MARK in frame.payload) as sniffer:
        yield
        wait_until(lambda: len(sniffer.frames) >= packets, 3.0, f"a forged packet on {wire}")
