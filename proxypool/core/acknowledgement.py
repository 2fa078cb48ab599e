"""Up to which change of a subnet's list of hosts a member has everything in the kernel: what `hosts_seen` says. Pure.

A host that joined with zxid z gets answers from a member that says z or more. So nothing may be said before the host's
own objects are in place: in the subnet's namespace, and in the machine's own, which lets tunnel packets of registered
hosts through only. Wishes carry marks that rise, results the mark of the wish they are about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

UNKNOWN_S = 5.0
"""A host that is in the list and has no document for so long is not waited for: somebody removed it by halves."""


@dataclass
class Acknowledgement:
    """Of one subnet on one node."""

    seen: int = 0
    """What may be said now."""
    _listed: tuple[int, int, int] | None = None
    """The last list: its zxid, and the marks of the wishes that have it, of the subnet's scope and the machine's."""
    _open: deque[tuple[int, int, int]] = field(default_factory=deque)
    _unknown_since: dict[str, float] = field(default_factory=dict)

    def listed(self, zxid: int, unknown: Iterable[str], subnet_mark: int, node_mark: int, now: float) -> None:
        """A list of hosts was read and wished for, with these marks. `unknown`: those whose document is not there."""
        self._unknown_since = {name: self._unknown_since.get(name, now) for name in unknown}
        self._listed = (zxid, subnet_mark, node_mark)
        self.second_passed(now)

    def second_passed(self, now: float) -> None:
        """Wait no longer for hosts that have been unknown for too long."""
        if any(now < since + UNKNOWN_S for since in self._unknown_since.values()):
            return
        if self._listed is not None and (not self._open or self._open[-1] != self._listed):
            self._open.append(self._listed)

    def programmed(self, subnet_mark: int, node_mark: int) -> bool:
        """Wishes up to these marks are in place. Whether there is something new to say."""
        before = self.seen
        while self._open and self._open[0][1] <= subnet_mark and self._open[0][2] <= node_mark:
            self.seen = self._open.popleft()[0]
        return self.seen != before
