"""Who answers for an address? Asked on the wire every few milliseconds, without anybody noticing.

python -m proxypool.lab.inside.arp ADDRESS[,ADDRESS…] [--device eth0] [--interval-ms MS] [--sender ADDRESS]

The requests come from a MAC that no machine has, so answers reach only this program: the machine it runs in learns
nothing from them, and goes on believing what it was told by announcements. By default they are probes (RFC 5227: no
sender), from which nobody learns anything. Linux answers no probe for an address that it only proxies: with `--sender`,
an unused address of that network, it does.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import time
from dataclasses import dataclass, field

from proxypool.lab.inside.instrument import ANSWERING, ATTENTION_S, Stop, arguments, hurry, say

ARP = 0x0806
REQUEST, REPLY = 1, 2
OUR_MAC = bytes.fromhex("0e6172700001")
_BODY = struct.Struct("!HHBBH6s4s6s4s")
_BROADCAST, _NOBODY = b"\xff" * 6, bytes(6)
SPAN_INTERVALS = 10
"""An answer this many intervals after the one before begins a new span."""


@dataclass
class Seen:
    """What was seen of one address."""

    spans: list[tuple[str, float, float]] = field(default_factory=list)
    """(MAC, first answer, last answer): a MAC that goes on answering has one span."""
    announced: list[tuple[str, float]] = field(default_factory=list)
    """(MAC, when) of gratuitous ARPs."""
    _open: dict[str, int] = field(default_factory=dict)

    def answered(self, mac: str, now: float, pause_s: float) -> None:
        """An answer; it prolongs the MAC's last span if that ended less than `pause_s` ago."""
        index = self._open.get(mac)
        if index is not None and now - self.spans[index][2] <= pause_s:
            self.spans[index] = (mac, self.spans[index][1], now)
        else:
            self._open[mac] = len(self.spans)
            self.spans.append((mac, now, now))


class ArpWatch:
    """Asks and listens on one device."""

    def __init__(self, device: str, addresses: list[str], sender: str | None, interval_s: float) -> None:
        self.link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.link.bind((device, ARP))
        # PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC: answers go to a MAC that the card does not have.
        self.link.setsockopt(263, 1, struct.pack("iHH8s", socket.if_nametoindex(device), 1, 0, b""))
        self.link.setblocking(False)
        self.interval_s = interval_s
        self.seen = {address: Seen() for address in addresses}
        self.by_packed = {socket.inet_aton(address): seen for address, seen in self.seen.items()}
        source = socket.inet_aton(sender) if sender else bytes(4)
        head = _BROADCAST + OUR_MAC + struct.pack("!H", ARP)
        self.requests = [
            head + _BODY.pack(1, 0x0800, 6, 4, REQUEST, OUR_MAC, source, _NOBODY, target) for target in self.by_packed
        ]
        self.is_answered = False

    def run(self, stop: Stop, duration_s: float) -> None:
        """Ask and listen until the time is over."""
        began = due = time.monotonic()
        while not stop.asked and due < began + duration_s:
            now = time.monotonic()
            if now >= due:
                for request in self.requests:
                    with contextlib.suppress(OSError):
                        self.link.send(request)
                due = max(due + self.interval_s, now)
            if select.select([self.link], [], [], max(0.0, min(ATTENTION_S, due - time.monotonic())))[0]:
                self._listen()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                frame = self.link.recv(128)
                if frame[6:12] != OUR_MAC and len(frame) >= 14 + _BODY.size:
                    self.heard(frame, time.monotonic())

    def heard(self, frame: bytes, now: float) -> None:
        """One ARP frame of somebody else."""
        _, _, _, _, operation, mac, sender, to, target = _BODY.unpack_from(frame, 14)
        if (seen := self.by_packed.get(sender)) is None:
            return
        if operation == REPLY and to == OUR_MAC:
            seen.answered(mac.hex(":"), now, SPAN_INTERVALS * self.interval_s)
            if not self.is_answered:
                self.is_answered = True
                say(ANSWERING)
        elif sender == target:
            seen.announced.append((mac.hex(":"), now))

    def result(self) -> dict[str, object]:
        """The document."""
        return {
            "mode": "arp",
            "interval_ms": self.interval_s * 1e3,
            "addresses": {
                address: {
                    "spans": [{"mac": mac, "start": start, "end": end} for mac, start, end in seen.spans],
                    "announced": [{"mac": mac, "at": at} for mac, at in seen.announced],
                }
                for address, seen in self.seen.items()
            },
        }


def main() -> None:
    """Parse, watch, print."""
    parser = arguments(__doc__, 5.0)
    parser.add_argument("--device", default="eth0")
    parser.add_argument("--sender", metavar="ADDRESS")
    options = parser.parse_args()
    stop = Stop()
    hurry()
    watch = ArpWatch(options.device, options.target.split(","), options.sender, options.interval_ms / 1e3)
    watch.run(stop, options.duration)
    say(json.dumps(watch.result()))


if __name__ == "__main__":
    main()
