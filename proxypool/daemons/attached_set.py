"""The kernel's set of attached instances beside what was written to it: what differs is written, or put right.

Belongs to `attachments`, whose lock keeps it from being used by two threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

SMALL_SET = 4096
"""Members that are compared at every look: some 5 ms."""
COMPARE_S = 30.0


class MarkedNetworks(Protocol):
    """The kernel's set. Entries are networks with marks."""

    def put(self, entries: Mapping[IPv4Network, int]) -> None:
        """Add entries, or change their marks."""

    def remove(self, networks: Iterable[IPv4Network]) -> None:
        """Remove entries; absent is fine."""

    def read(self) -> dict[IPv4Network, int]:
        """All entries."""

    def count(self) -> int | None:
        """How many entries there are; None: no such set."""


class AttachedSet:
    """See the module's text. Every method may raise TransientError: the kernel refused."""

    def __init__(self, kernel: MarkedNetworks) -> None:
        """Nothing is read or written."""
        self._kernel = kernel
        self._written: dict[IPv4Network, int] = {}
        """What the set should hold, as far as it was told."""
        self._is_behind = False
        """Whether the set could not be brought up to date."""
        self._compare_due = 0.0

    def bring(self, wanted: Mapping[IPv4Network, int]) -> None:
        """Have the set hold just this. Where that fails it is not intact until `repair` has done it."""
        self._is_behind = True
        self._write(wanted, self._written)
        self._is_behind = False

    def update(self, wanted: Mapping[IPv4Network, int], addresses: Iterable[IPv4Address]) -> None:
        """Have the set hold just this of some addresses."""
        self._write(wanted, {IPv4Network(address) for address in addresses} & self._written.keys())

    def _write(self, wanted: Mapping[IPv4Network, int], known: Iterable[IPv4Network]) -> None:
        """Write what differs from what was written last."""
        gone = [network for network in known if network not in wanted]
        new = {network: mark for network, mark in wanted.items() if self._written.get(network) != mark}
        self._kernel.put(new)
        self._kernel.remove(gone)
        self._written |= new
        for network in gone:
            del self._written[network]

    def is_intact(self, now: float) -> bool:
        """Whether the set is as it should be. A set of thousands is compared now and then only, and counted always."""
        if self._is_behind or self._kernel.count() != len(self._written):
            return False
        if len(self._written) > SMALL_SET and now < self._compare_due:
            return True
        self._compare_due = now + COMPARE_S
        return self._kernel.read() == self._written

    def repair(self, wanted: dict[IPv4Network, int]) -> int:
        """Compare the set with what it should hold, and put it right; how many entries were wrong."""
        found = self._kernel.read()
        wrong = {network: mark for network, mark in wanted.items() if found.get(network) != mark}
        strange = [network for network in found if network not in wanted]
        self._kernel.put(wrong)
        self._kernel.remove(strange)
        self._written, self._is_behind = wanted, False
        return len(wrong) + len(strange)
