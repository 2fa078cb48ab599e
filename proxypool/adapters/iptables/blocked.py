"""How many packets were blocked, by reason: the packet counters of the chains that `core.blocking` names.

Read as the kernel holds the table (see `fingerprint`), without python-iptables.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping

from proxypool.adapters.iptables.fingerprint import TableProbe
from proxypool.adapters.iptables.stamps import chain_at, offsets
from proxypool.core.blocking import Blocked, why_blocked

_PACKETS_AT = 96
"""Of struct xt_counters in struct ipt_entry."""
_PACKETS = struct.Struct("=Q")


class BlockedCounts:
    """Of tables of the namespace it was made in; usable from any thread, one at a time."""

    def __init__(self, tables: tuple[str, ...]) -> None:
        """Open the socket in the calling thread's namespace."""
        self._tables = tables
        self._probe = TableProbe(tables)
        self._before: Mapping[Blocked, int] = {}
        """What tables that were replaced since had counted."""
        self._last: Mapping[Blocked, int] = {}

    def read(self) -> Mapping[Blocked, int]:
        """Packets blocked as far as this has seen; reasons for which there is no chain are left out.

        A table that is made anew counts from zero: what it counted before and was read is kept here. Of one that cannot
        be read at this moment the last count is told.
        """
        now = Counter[Blocked]()
        for table in self._tables:
            try:
                now.update(_counts(self._probe.contents(table).entries))
            except OSError:
                return self._sum(self._last)
        if any(now[why] < count for why, count in self._last.items()):
            self._before = self._sum(self._last)
        self._last = dict(now)
        return self._sum(now)

    def _sum(self, counted: Mapping[Blocked, int]) -> Mapping[Blocked, int]:
        return {why: self._before.get(why, 0) + counted.get(why, 0) for why in {*self._before, *counted}}

    def close(self) -> None:
        """Close the socket."""
        self._probe.close()


def _counts(entries: bytes) -> dict[Blocked, int]:
    found: dict[Blocked, int] = {}
    why: Blocked | None = None
    for offset in offsets(entries):
        chain = chain_at(entries, offset)
        if chain is not None:
            why = why_blocked(chain.decode())
            if why is not None:
                found.setdefault(why, 0)
        elif why is not None:
            found[why] += _PACKETS.unpack_from(entries, offset + _PACKETS_AT)[0]
    return found
