"""Entries of the connection table made by hand, thousands in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from proxypool.adapters.nfnetlink import NetfilterSocket, attribute, nested

NEW = 0x100
CREATE_EXCLUSIVELY = 0x600
TCP, UDP = 6, 17


@dataclass(frozen=True)
class Entry:
    """One to be made."""

    source: IPv4Address
    protocol: int = UDP
    mark: int = 0
    tcp_state: int = 3
    is_replied: bool = True
    timeout_s: int = 600
    port: int = 1000
    is_nated: bool = False
    """It leaves with the address NAT, and its own port if that is free."""


NAT = IPv4Address("172.16.101.11")
DESTINATION = IPv4Address("172.16.101.4")
DESTINATION_PORT = 5432


def make(entries: Sequence[Entry]) -> None:
    """Put them into the table of the calling thread's namespace."""
    link = NetfilterSocket()
    for start in range(0, len(entries), 100):
        refused = link.exchange(NEW, [_body(entry) for entry in entries[start : start + 100]], CREATE_EXCLUSIVELY)
        assert not refused, refused[0]
    link.close()


def _body(entry: Entry) -> bytes:
    there = _tuple(1, entry.protocol, entry.source, DESTINATION, entry.port, DESTINATION_PORT)
    back = _tuple(2, entry.protocol, DESTINATION, entry.source, DESTINATION_PORT, entry.port)
    # IPS_CONFIRMED; IPS_SEEN_REPLY and IPS_ASSURED
    status = attribute(3, (0xE if entry.is_replied else 0x8).to_bytes(4))
    body = there + back + status + attribute(7, entry.timeout_s.to_bytes(4)) + attribute(8, entry.mark.to_bytes(4))
    if entry.is_nated:
        body += nested(6, attribute(1, NAT.packed), attribute(2, NAT.packed))
    if entry.protocol == TCP:
        flags = attribute(4, b"\x0a\x0a") + attribute(5, b"\x0a\x0a")
        body += nested(4, nested(1, attribute(1, bytes([entry.tcp_state])), flags))
    return body


def _tuple(kind: int, protocol: int, source: IPv4Address, destination: IPv4Address, *ports: int) -> bytes:
    addresses = nested(1, attribute(1, source.packed), attribute(2, destination.packed))
    layer4 = (attribute(1, bytes([protocol])), *(attribute(2 + i, port.to_bytes(2)) for i, port in enumerate(ports)))
    return nested(kind, addresses, nested(2, *layer4))
