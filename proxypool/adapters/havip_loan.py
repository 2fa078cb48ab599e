"""The HaVip on loan: for the moment in which a member is to take it from a living master, as an operator wants it.

keepalived drops the HaVip there and adds it here within a millisecond, in no order, and what arrives in between is
lost. So the new master takes packets for it, sends with it and says on the underlay that it is here, just before
keepalived makes it so; the old one serves until then what still reaches it. See ADR 20.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

from proxypool.adapters import netlink
from proxypool.adapters.announcer import frames
from proxypool.core.errors import TransientError


class HavipLoan:
    """For the underlay card of this machine."""

    def __init__(self, device: str) -> None:
        """Nothing is opened."""
        self._device = device

    def take(self, havip: IPv4Address) -> None:
        """Serve it from now on, and say so.

        Raises:
            TransientError: the kernel refused; nothing is lent then.
        """
        netlink.lend(havip)
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as link:
                link.bind((self._device, 0))
                for frame in frames(link.getsockname()[4], havip):
                    link.send(frame)
        except OSError as error:
            netlink.give_back(havip)
            raise TransientError(f"announce {havip} on {self._device}: {error.strerror}") from error

    def end(self, havip: IPv4Address) -> None:
        """keepalived has it, or does not get it.

        Raises:
            TransientError: the kernel refused.
        """
        netlink.give_back(havip)

    def end_all(self) -> None:
        """What a predecessor left when it died in the middle of it.

        Raises:
            TransientError: the kernel refused.
        """
        for havip in netlink.lent():
            netlink.give_back(havip)
