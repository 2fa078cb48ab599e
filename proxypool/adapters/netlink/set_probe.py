"""Has an ipset changed since the last look? Asked every second, because ipsets send no notifications.

A set of ours that somebody emptied drops every tunnel packet. The probe lists the set as the kernel holds it and
compares the bytes with those seen last: some 10 µs for a hundred members.
"""

from __future__ import annotations

from proxypool.adapters.netlink import ipset
from proxypool.adapters.nfnetlink import NetfilterSocket


class SetProbe:
    """Watches one set of the namespace it was made in."""

    def __init__(self, name: str) -> None:
        """Open the socket in the calling thread's namespace."""
        self._link = NetfilterSocket()
        self._name = name
        self._seen: list[bytes] = []

    def remember(self) -> None:
        """Take the set as it is now for unchanged."""
        self._seen = self._read()

    def has_changed(self) -> bool:
        """Whether it differs from what was remembered."""
        return self._read() != self._seen

    def close(self) -> None:
        """Close the socket."""
        self._link.close()

    def _read(self) -> list[bytes]:
        """Head and members as the kernel lists them; a set that is not there reads as the error it is."""
        try:
            return ipset.listed(self._link, self._name)
        except OSError as error:
            return [f"error {error.errno}".encode()]
