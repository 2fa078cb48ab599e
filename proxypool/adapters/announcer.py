"""Says in the customer's subnet that an address is here now: gratuitous ARP out of the ENI (RFC 5227, RFC 826).

The egress address is the master's. A server keeps sending to the member that it knows until its ARP entry is doubted,
which can take a minute. So the new master announces the address, at once when its gate opens and again and again while
it is open: one frame may be lost, and of two masters that did not see each other the one that stood aside may have
spoken last.

Nothing is sent of it while the ENI does not forward, whoever closed the gate: the kernel is asked each time.

The ENI's own address is the member's whoever is master, and needs saying when its card is a new one: the same address
has another MAC then, and what servers send to the old one is lost.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import chain, repeat

from proxypool.adapters.sysctl import SysctlHandle

ETHERTYPE_ARP = 0x0806
BROADCAST = b"\xff" * 6
REPEAT_AFTER_S = (0.1, 0.9)
"""Pauses after the first announcement. The ENI's own address has said all then; the egress address goes on with:"""
REFRESH_S = 2.0
_REQUEST, _REPLY = 1, 2
_HEAD = struct.Struct(">6s6sH")
_ARP = struct.Struct(">HHBBH6s4s6s4s")
_ETHERNET, _IPV4 = 1, 0x0800


@dataclass(slots=True)
class _Introduction:
    """The ENI's own address, said a few times."""

    address: IPv4Address
    due: float
    pauses: Iterator[float]


class Announcer:
    """For one ENI. Opened in its namespace, used from any thread."""

    def __init__(self, device: str) -> None:
        """Open it in the calling thread's namespace.

        Raises:
            TransientError: the device is not there.
            OSError: it was removed at this moment.
        """
        self._forwarding = SysctlHandle(f"ipv4/conf/{device}/forwarding")
        self._lock = threading.Lock()
        self._address: IPv4Address | None = None
        self._due = 0.0
        self._pauses: Iterator[float] = iter(())
        self._introduction: _Introduction | None = None
        self._link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._link.setblocking(False)
            # No protocol: nothing is ever received.
            self._link.bind((device, 0))
        except OSError:
            self.close()
            raise

    def introduce(self, own: IPv4Address, now: float) -> None:
        """Say whose the ENI's own address is: now, and a few times more with `repeat`."""
        with self._lock:
            self._introduction = _Introduction(own, now, iter(REPEAT_AFTER_S))
            self._introduce(now)

    def begin(self, address: IPv4Address, now: float) -> None:
        """Announce now, and go on with `repeat`. `now` in monotonic seconds, as there."""
        with self._lock:
            self._address = address
            self._pauses = chain(REPEAT_AFTER_S, repeat(REFRESH_S))
            self._announce(now)

    def end(self) -> None:
        """The address is no longer ours to announce."""
        with self._lock:
            self._address = None

    def is_announcing(self, address: IPv4Address) -> bool:
        """Whether this address is announced again and again."""
        return self._address == address

    def repeat(self, now: float) -> None:
        """Announce again if it is time for it; called many times a second."""
        with self._lock:
            if self._address is not None and now >= self._due:
                self._announce(now)
            self._introduce(now)

    def _introduce(self, now: float) -> None:
        said = self._introduction
        if said is None or now < said.due:
            return
        try:
            announce(self._link, said.address)
        except OSError:
            # Down, or gone: nobody would have heard it.
            said.due = now + REFRESH_S
            return
        pause = next(said.pauses, None)
        if pause is None:
            self._introduction = None
        else:
            said.due = now + pause

    def _announce(self, now: float) -> None:
        self._due = now + next(self._pauses)
        # A device that is down or gone announces nothing, and nobody would hear it.
        with suppress(OSError, ValueError):
            if self._address is not None and self._forwarding.read():
                announce(self._link, self._address)

    def close(self) -> None:
        """Close what is open. Who calls does not wait for the kernel, which lets go of a packet socket only when all
        processors have: 8 ms and more, and a hundred ENIs may go at once.
        """
        with self._lock:
            self._address = self._introduction = None
            self._forwarding.close()
            threading.Thread(target=self._link.close, name="closing", daemon=True).start()


def announce(link: socket.socket, address: IPv4Address) -> None:
    """Say once that the address is at the card that a packet socket is bound to.

    Raises:
        OSError: the card is down or gone.
    """
    for frame in frames(link.getsockname()[4], address):
        link.send(frame)


def frames(mac: bytes, address: IPv4Address) -> tuple[bytes, bytes]:
    """The announcement as a request and as an answer: there are those who believe only one of them."""
    head = _HEAD.pack(BROADCAST, mac, ETHERTYPE_ARP)
    own = address.packed
    request = _ARP.pack(_ETHERNET, _IPV4, 6, 4, _REQUEST, mac, own, bytes(6), own)
    answer = _ARP.pack(_ETHERNET, _IPV4, 6, 4, _REPLY, mac, own, BROADCAST, own)
    return head + request, head + answer
