"""Who else says that an address of ours is theirs, and our answer to it (RFC 5227, 2.4), on one device.

A member that missed the master's advertisements claims the HaVip, says so to everybody, hears the master and gives it
up, all in a few milliseconds. If the master has not heard its advertisement it knows nothing of that and says nothing,
and hosts send to the other one until the next announcement. ARP is broadcast, so the master can hear the claim itself.

A socket filter lets in what others send with one of the addresses that are followed: a network with thousands of pairs
announces thousands of addresses a second, and none of them wakes us.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import IPv4Address

from proxypool.adapters.announcer import ETHERTYPE_ARP, announce
from proxypool.adapters.packet_filter import EQUAL, LOAD_WORD, PACKET_TYPE, RETURN, Instruction, attach

MAX_FOLLOWED = 512
"""More than the 255 VRRP ids that a node can have on its underlay."""
_LARGEST_FRAME = 64
_ETHERNET_LENGTH = 14
_SENDER_AT = _ETHERNET_LENGTH + 14
"""Where the sender's protocol address is in a frame."""


class AddressConflicts:
    """See the module's text. Opened in the device's namespace; used from any thread."""

    def __init__(self, device: str) -> None:
        """Nothing is heard before `follow`.

        Raises:
            OSError: the device is not there, or we may not (CAP_NET_RAW).
        """
        self._link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            self.follow(())
            self._link.bind((device, ETHERTYPE_ARP))
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor; readable when there is something to hear."""
        return self._link.fileno()

    def follow(self, addresses: Collection[IPv4Address]) -> None:
        """Hear of these from now on, and of no others.

        Raises:
            OSError: the kernel refuses the filter, or there are more than `MAX_FOLLOWED`; what was followed still is.
        """
        if len(addresses) > MAX_FOLLOWED:
            raise OSError(f"{len(addresses)} addresses are to be followed, {MAX_FOLLOWED} are the most")
        attach(self._link, _program(addresses))

    def heard(self) -> set[IPv4Address]:
        """Addresses that others have called theirs since the last call."""
        found = set[IPv4Address]()
        # An underlay that goes down is an error once.
        with suppress(OSError):
            while True:
                frame = self._link.recv(_LARGEST_FRAME)
                if len(frame) >= _SENDER_AT + 4:
                    found.add(IPv4Address(frame[_SENDER_AT : _SENDER_AT + 4]))
        return found

    def defend(self, address: IPv4Address) -> None:
        """Say to everybody that it is ours.

        Raises:
            OSError: the device is down or gone.
        """
        announce(self._link, address)

    def close(self) -> None:
        """Close the socket."""
        self._link.close()


def _program(addresses: Collection[IPv4Address]) -> Iterator[Instruction]:
    """Frames of others whose ARP sender is one of these."""
    yield LOAD_WORD, 0, 0, PACKET_TYPE
    yield EQUAL, 0, 1, socket.PACKET_OUTGOING
    yield RETURN, 0, 0, 0
    yield LOAD_WORD, 0, 0, _SENDER_AT
    for address in addresses:
        yield EQUAL, 0, 1, int(address)
        yield RETURN, 0, 0, _LARGEST_FRAME
    yield RETURN, 0, 0, 0
