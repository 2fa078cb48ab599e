"""How many connections a namespace has given a source of their own: the packet counters of its rules for source NAT.

The kernel asks the nat table for the first packet of a connection only, so a rule's packets are connections. Read as
the kernel holds the table (see `fingerprint`), which is ten times as quick as by way of python-iptables. The columns
`new` and `insert` of /proc/net/stat/nf_conntrack would be the place for it, and are always zero since Linux 4.9.
"""

from __future__ import annotations

import struct

from proxypool.adapters.iptables.fingerprint import NEXT_OFFSET_AT, TARGET_OFFSET_AT, TableProbe

_TABLE = "nat"
_TARGETS = (b"MASQUERADE", b"SNAT")
_OFFSETS = struct.Struct("=HH")
_PACKETS_AT = 96
"""Of struct xt_counters in struct ipt_entry."""
_PACKETS = struct.Struct("=Q")
_TARGET_NAME = struct.Struct("=2x29s")
"""Of struct xt_entry_target, after its size."""
assert NEXT_OFFSET_AT == TARGET_OFFSET_AT + 2  # noqa: S101 - what _OFFSETS relies on


class NewFlows:
    """Of the namespace it was made in; usable from any thread, one at a time."""

    def __init__(self) -> None:
        """Open the socket in the calling thread's namespace."""
        self._probe = TableProbe((_TABLE,))

    def read(self) -> int | None:
        """Connections since the rules were made; None: there is no such rule, or the table was replaced at this moment.

        It goes back to zero when a rule is made anew.
        """
        try:
            entries = self._probe.contents(_TABLE).entries
        except OSError:
            return None
        found: list[int] = []
        at = 0
        while at + _PACKETS_AT + _PACKETS.size <= len(entries):
            target, step = _OFFSETS.unpack_from(entries, at + TARGET_OFFSET_AT)
            (name,) = _TARGET_NAME.unpack_from(entries, at + target)
            if name.partition(b"\0")[0] in _TARGETS:
                found.append(_PACKETS.unpack_from(entries, at + _PACKETS_AT)[0])
            if step == 0:
                break
            at += step
        return sum(found) if found else None

    def close(self) -> None:
        """Close the socket."""
        self._probe.close()
