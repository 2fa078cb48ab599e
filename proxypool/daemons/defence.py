"""Says whose a HaVip is, when another member has said something else (RFC 5227, 2.4). Runs on the main loop.

Only the elected master does: of two masters that do not hear each other just one has the last word, and a pair that is
being moved is not held back. And not at once: a member that is about to lose the HaVip hears the claim before it hears
the advertisement of who claims it. And not for a keepalived that is dead or stopped: what it holds is to be taken away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from proxypool.daemons.member import Member

log = logging.getLogger(__name__)

SAY_AFTER_S = (0.03, 0.1, 0.9)
"""Pauses: three advertisements of the default profile, and then for frames that were lost."""


@dataclass
class Defence:
    """`members` is the node's dictionary, by subnet; it is only read here. `announce` raises OSError."""

    members: Mapping[str, Member]
    is_advertising: Callable[[], bool]
    """Whether keepalived tells others that it is master."""
    announce: Callable[[IPv4Address], None]
    count: Callable[[], None]
    """Called once for each defence."""
    _due: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Subnet → when something is to be said (monotonic seconds), and how often it was."""

    def contested(self, addresses: frozenset[IPv4Address], now: float) -> None:
        """Somebody else says that these are theirs. While a defence goes on another one does not begin: two that defend
        the same address would keep each other busy.
        """
        for subnet, member in self.members.items():
            if member.pair.havip in addresses and member.state.is_rightful:
                self._due.setdefault(subnet, (now + SAY_AFTER_S[0], 0))

    @property
    def next_deadline(self) -> float | None:
        """When `look` is to be called at the latest, monotonic seconds."""
        return min((at for at, _ in self._due.values()), default=None)

    def look(self, now: float) -> None:
        """Say what is due, where it is still so."""
        for subnet, (at, count) in list(self._due.items()):
            if now < at:
                continue
            del self._due[subnet]
            member = self.members.get(subnet)
            if member is None or not member.state.is_rightful or not self.is_advertising():
                continue
            self._defend(member, now, is_first=count == 0)
            if count + 1 < len(SAY_AFTER_S):
                self._due[subnet] = (now + SAY_AFTER_S[count + 1], count + 1)

    def _defend(self, member: Member, now: float, *, is_first: bool) -> None:
        if is_first:
            log.warning("%s: another machine claims the HaVip %s: saying whose it is", member.label, member.pair.havip)
        try:
            self.announce(member.pair.havip)
        except OSError as error:
            log.warning("%s: the HaVip cannot be announced: %s", member.label, error.strerror)
        if is_first:
            member.defended(now)
            self.count()
