"""Which addresses does a namespace answer ARP for by proxy, and has that changed since the last look?

Asked every second, because the kernel sends no notification when such an entry goes. Some 20 µs.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from proxypool.adapters.netlink.decode import attributes
from proxypool.adapters.netlink.encode import NDA_DST, NEIGHBOUR_BODY
from proxypool.adapters.netlink.observe import PROXY_REQUEST, RTM_GETNEIGH
from proxypool.adapters.netlink.raw import HEADER, RawSocket
from proxypool.core.errors import TransientError

_IPV4_BYTES = 4


class ProxyProbe:
    """Watches one namespace."""

    def __init__(self) -> None:
        """Open the socket in the calling thread's namespace; remember nothing."""
        # Not under the port by which the dataplane's own changes are recognised.
        self._netlink = RawSocket(port=0)
        self._seen: tuple[bytes, ...] = ()
        self._now: tuple[bytes, ...] = ()

    @property
    def addresses(self) -> frozenset[IPv4Address]:
        """As of the last look, on whatever device and whoever put them there."""
        found = (attributes(body, NEIGHBOUR_BODY.size).get(NDA_DST, b"") for body in self._now)
        return frozenset(IPv4Address(raw) for raw in found if len(raw) == _IPV4_BYTES)

    def has_changed(self) -> bool:
        """Look; whether it differs from what was remembered."""
        try:
            self._now = tuple(message[HEADER.size :] for message in self._netlink.dump(RTM_GETNEIGH, PROXY_REQUEST))
        except (OSError, TransientError):
            # Closed meanwhile, or busy: the next look tells.
            return False
        return self._now != self._seen

    def remember(self) -> None:
        """Take what the last look saw for unchanged."""
        self._seen = self._now

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()
