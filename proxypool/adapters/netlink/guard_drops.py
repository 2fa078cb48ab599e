"""How many packets the guard of a namespace's card has dropped (`source_guard`): what the kernel counts at a `clsact`.

The kernel counts for the place where filters hang, not for each of them: what others' filters in the namespace drop is
in the number too. Asking takes RTNL, which may be somebody else's for a while, so only a thread that can wait asks;
some 90 µs, every few seconds.
"""

from __future__ import annotations

import struct

from proxypool.adapters.netlink.decode import attributes
from proxypool.adapters.netlink.raw import HEADER, RawSocket
from proxypool.adapters.netlink.source_guard import CLSACT, TRAFFIC_BODY
from proxypool.core.errors import TransientError

LOOK_EVERY_S = 5.0
_RTM_GETQDISC = 38
_STATS2, _STATS_QUEUE = 7, 3
_QUEUE = struct.Struct("=IIIII")
"""struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits."""
_WRAP = 1 << 32


class GuardDrops:
    """Of the namespace it was made in. One thread looks, any may read `packets`."""

    def __init__(self) -> None:
        """Open the socket in the calling thread's namespace, and look."""
        # Not under the port by which the dataplane's own changes are recognised.
        self._netlink = RawSocket(port=0)
        self._last = 0
        self.packets: int | None = None
        """Dropped as far as this has seen; None: there was no clsact yet."""
        self._due_at = 0.0
        self.look(0.0)

    def look(self, now: float) -> None:
        """Look again if it is time (monotonic seconds); what cannot be read stays as it was."""
        if now < self._due_at:
            return
        self._due_at = now + LOOK_EVERY_S
        try:
            counted = self._read()
        except (OSError, TransientError):
            return
        if counted is not None:
            grown = (counted - self._last) % _WRAP
            # Another one that counts from zero, with a card that was replaced, looks as if it had grown by billions.
            self.packets = (self.packets or 0) + (grown if grown <= _WRAP // 2 else counted)
        # None: somebody took it away.
        self._last = counted or 0

    def _read(self) -> int | None:
        found: int | None = None
        for message in self._netlink.dump(_RTM_GETQDISC, TRAFFIC_BODY.pack(0, 0, 0, 0, 0)):
            _, _, _, parent, _ = TRAFFIC_BODY.unpack_from(message, HEADER.size)
            if parent != CLSACT:
                continue
            outer = attributes(message, HEADER.size + TRAFFIC_BODY.size)
            queue = attributes(outer.get(_STATS2, b""), 0).get(_STATS_QUEUE, b"")
            if len(queue) >= _QUEUE.size:
                found = (found or 0) + int(_QUEUE.unpack_from(queue)[2])
        return found

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()
