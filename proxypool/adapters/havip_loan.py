"""The HaVip on loan: for the moment in which a member is to take it from a living master, as an operator wants it.

keepalived drops the HaVip there and adds it here within a millisecond, in no order, and what arrives in between is
lost. So the new master takes packets for it, sends with it and says on the underlay that it is here, just before
keepalived makes it so; the old one serves until then what still reaches it. See ADR 20.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

from proxypool.adapters import netlink
from proxypool.adapters.announcer import announce
from proxypool.core.errors import TransientError


class HavipLoan:
    """For the underlay card of this machine."""

    def __init__(self, device: str) -> None:
        """Nothing is opened before it is needed."""
        self._device = device
        self._link: socket.socket | None = None

    def take(self, havip: IPv4Address) -> None:
        """Serve it from now on, and say so.

        Raises:
            TransientError: the kernel refused; nothing is lent then.
        """
        netlink.lend(havip)
        try:
            self._announce(havip)
        except OSError as error:
            self.close()
            netlink.give_back(havip)
            raise TransientError(f"announce {havip} on {self._device}: {error.strerror}") from error

    def _announce(self, havip: IPv4Address) -> None:
        """The socket stays open: to close one takes the kernel 8 ms and more, as it waits for all processors, and until
        servers are told of the egress address what comes through here is answered to the other member.
        """
        if self._link is None:
            self._link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            self._link.bind((self._device, 0))
        announce(self._link, havip)

    def end(self, havip: IPv4Address) -> None:
        """keepalived has it, or does not get it.

        Raises:
            TransientError: the kernel refused.
        """
        netlink.give_back(havip)

    def close(self) -> None:
        """Close what is open; what is lent stays."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def end_all(self) -> None:
        """What a predecessor left when it died in the middle of it.

        Raises:
            TransientError: the kernel refused.
        """
        for havip in netlink.lent():
            netlink.give_back(havip)
