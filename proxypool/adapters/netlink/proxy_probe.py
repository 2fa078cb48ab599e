"""Which addresses does a namespace answer ARP for by proxy?

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
        """Open the socket in the calling thread's namespace, and look."""
        # Not under the port by which the dataplane's own changes are recognised.
        self._netlink = RawSocket(port=0)
        self.addresses: frozenset[IPv4Address] = frozenset()
        """As of the last look, on whatever device and whoever put them there."""
        self.look()

    def look(self) -> None:
        """Look again; what cannot be read stays as it was."""
        try:
            messages = self._netlink.dump(RTM_GETNEIGH, PROXY_REQUEST)
        except (OSError, TransientError):
            return
        body = HEADER.size + NEIGHBOUR_BODY.size
        found = (attributes(message, body).get(NDA_DST, b"") for message in messages)
        self.addresses = frozenset(IPv4Address(raw) for raw in found if len(raw) == _IPV4_BYTES)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()
