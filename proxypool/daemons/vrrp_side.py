"""The VRRP side of a node: what keepalived says, holds and is told, for all members.

keepalived speaks in three ways: its notify fifo (the event), the HaVip on the underlay interface (the truth, when the
fifo was not heard), and its being alive. Runs on the main loop; files are written on the dataplane thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from proxypool.adapters import netlink
from proxypool.core.errors import ProxypoolError
from proxypool.core.health import VrrpSight
from proxypool.core.keepalived import (
    GLOBAL_FILE,
    KeepalivedFacts,
    file_name,
    parse_notification,
    render,
    unknown_files,
)
from proxypool.core.model import Snapshot
from proxypool.core.role import Vrrp, VrrpChanged
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.keepalived_control import KeepalivedControl
from proxypool.daemons.member import Member
from proxypool.daemons.messages import KeepalivedSeen, KeepalivedSynced
from proxypool.telemetry.failovers import FailoverClock

log = logging.getLogger(__name__)

MISMATCH_S = 1.0
"""How long VRRP state and HaVip may disagree before the HaVip is believed: a line of the fifo was lost."""
_NOT_HEARD = frozenset({Vrrp.STOP, Vrrp.UNKNOWN})


@dataclass
class VrrpSide:
    """What is known of keepalived. `members` is the node's dictionary, by subnet; it is only read here."""

    facts: KeepalivedFacts
    members: Mapping[str, Member]
    dataplane: Dataplane
    control: KeepalivedControl
    clock: FailoverClock
    on_news: Callable[[Member, float], None]
    """Called when what keepalived is able to do for a member may have changed."""
    snapshot: Snapshot = field(default_factory=Snapshot)
    addresses: frozenset[IPv4Address] = frozenset()
    keepalived: KeepalivedSeen = field(default_factory=KeepalivedSeen)
    installed: frozenset[str] = frozenset()
    is_known: bool = False
    """Whether our files were looked at once; until then nothing is said of any member's health."""
    _needs_sync: bool = False

    def is_installed(self, member: Member) -> bool:
        """Whether keepalived has our file for this member."""
        return file_name(member.pair.subnet, member.pair.id) in self.installed

    def sync(self, snapshot: Snapshot | None = None) -> None:
        """Have our files written: instances whose namespace is ready, because traffic may arrive with the HaVip, and
        those that are installed already.
        """
        self.snapshot = snapshot or self.snapshot
        if self.snapshot.spec is None:
            return
        if not self.is_known:
            self.dataplane.later("keepalived", self.control.look)
            return
        # Rendered when it is its turn, once for many calls: a hundred namespaces become ready one after the other.
        facts, current = self.facts, self.snapshot
        waiting = {
            file_name(member.pair.subnet, member.pair.id)
            for member in self.members.values()
            if member.is_programmed is not True and not self.is_installed(member)
        }

        kept = unknown_files(facts.node, current, self.installed)

        def run() -> None:
            files = render(facts, current)
            self.control.sync({name: text for name, text in files.items() if name not in waiting}, kept)

        self.dataplane.later("keepalived", run)

    def synced(self, message: KeepalivedSynced, now: float) -> None:
        """Which files are in place now."""
        first = not self.is_known
        self.installed, self.is_known = message.installed, True
        self._needs_sync = message.needs_reload or message.problem is not None
        for member in self.members.values():
            if member.state.vrrp in _NOT_HEARD:
                self.adopt(member, now)
            self.on_news(member, now)
        if first:
            self.sync()

    def sight(self, member: Member) -> VrrpSight:
        """What keepalived is able to do for this member."""
        return VrrpSight(self.keepalived.is_up, self.keepalived.is_starting, self.is_installed(member))

    def seen(self, keepalived: KeepalivedSeen, now: float) -> None:
        """keepalived started or ended, or is as good as dead; or its startup delay is over."""
        self.keepalived = keepalived
        for member in self.members.values():
            if not keepalived.is_up:
                if not member.has_havip:
                    member.handle(VrrpChanged(Vrrp.STOP), now)
            elif member.state.vrrp in _NOT_HEARD:
                self.adopt(member, now)
            self.on_news(member, now)
        if keepalived.is_up and self.is_known:
            self.sync()

    def is_orphaned(self, member: Member) -> bool:
        """Whether it holds a HaVip that a dead or stopped keepalived left. It stays, and serves as well as it can,
        until the other member says that it is master.
        """
        return not self.keepalived.is_up and member.has_havip

    def fence(self, member: Member, now: float) -> None:
        """The other member has taken over: two machines must not answer for one HaVip."""
        log.warning("%s: keepalived is dead: removing the HaVip %s it left", member.label, member.pair.havip)
        member.handle(VrrpChanged(Vrrp.STOP), now)
        try:
            netlink.remove_local_address(self.facts.underlay_device, member.pair.havip)
        except ProxypoolError as error:
            log.error("%s", error)

    def adopt(self, member: Member, now: float) -> None:
        """keepalived spoke before we listened: it holds the HaVip if and only if it is master."""
        vrrp = Vrrp.MASTER if member.has_havip else Vrrp.BACKUP
        if vrrp is not member.state.vrrp and self.keepalived.is_up and self.is_installed(member):
            member.handle(VrrpChanged(vrrp), now)

    def fifo_spoke(self, lines: tuple[str, ...], at: float, now: float) -> None:
        """keepalived's own words about its instances, read at `at`."""
        for line in lines:
            parsed = parse_notification(line)
            if parsed is None:
                continue
            subnet, pair, state = parsed
            member = self.members.get(subnet)
            if member is None or member.pair.id != pair:
                continue
            if state is Vrrp.MASTER and member.state.vrrp is not Vrrp.MASTER:
                self.clock.claimed(member.pair, at)
            member.mismatch_since = None
            member.handle(VrrpChanged(state), now)

    def address_moved(self, address: IPv4Address, at: float, now: float, *, is_here: bool) -> None:
        """keepalived adds a HaVip as the first thing when it becomes master, and takes it off when it no longer is.

        Believed at once, because packets follow the announcement within microseconds; the fifo's line comes after it.
        """
        self.addresses = self.addresses | {address} if is_here else self.addresses - {address}
        for member in self.members.values():
            if member.pair.havip != address:
                continue
            member.is_touched = member.is_touched or member.has_havip != is_here
            member.has_havip = is_here
            if not self.keepalived.is_up and not is_here:
                member.handle(VrrpChanged(Vrrp.STOP), now)
            if not self.keepalived.is_up or not self.is_installed(member):
                return
            if is_here:
                self.clock.claimed(member.pair, at)
                member.handle(VrrpChanged(Vrrp.MASTER), now)
            elif member.state.vrrp is Vrrp.MASTER:
                member.handle(VrrpChanged(Vrrp.BACKUP), now)

    def addresses_seen(self, addresses: frozenset[IPv4Address], now: float) -> None:
        """Which HaVips are on the underlay interface."""
        self.addresses = addresses
        for member in self.members.values():
            has_havip = member.pair.havip in addresses
            member.is_touched = member.is_touched or has_havip != member.has_havip
            member.has_havip = has_havip
            if not self.keepalived.is_up and not has_havip:
                member.handle(VrrpChanged(Vrrp.STOP), now)
            elif member.state.vrrp is Vrrp.UNKNOWN or not self.keepalived.is_connected:
                # Without the fifo the HaVip is keepalived's only word, and what notify lines did must not be undone.
                self.adopt(member, now)

    def second_passed(self, now: float) -> None:
        """What nobody tells: lost lines of the fifo, a keepalived that does not write to it, a reload that is due."""
        for member in self.members.values():
            self._distrust_fifo(member, now)
        if self.keepalived.is_up and not self.keepalived.is_connected and GLOBAL_FILE in self.installed:
            self.dataplane.submit(self.control.reconnect)
        if self._needs_sync:
            self.sync()

    def _distrust_fifo(self, member: Member, now: float) -> None:
        agrees = member.state.vrrp not in {Vrrp.MASTER, Vrrp.BACKUP} or (
            member.has_havip == (member.state.vrrp is Vrrp.MASTER)
        )
        if agrees or not self.keepalived.is_up:
            member.mismatch_since = None
        elif member.mismatch_since is None:
            member.mismatch_since = now
        elif now - member.mismatch_since > MISMATCH_S:
            member.mismatch_since = None
            log.warning("%s: keepalived said %s, but the HaVip says otherwise", member.label, member.state.vrrp)
            self.adopt(member, now)
