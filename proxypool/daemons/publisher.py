"""What the others see of a node's members: status documents, at once for what matters, numbers less often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxypool.adapters.zookeeper import Presence, member_status_suffix
from proxypool.core.documents import encode
from proxypool.core.model import MemberStatus
from proxypool.daemons.member import Member
from proxypool.daemons.member_status import status_of

HOSTS_INTERVAL_S = 0.05
"""Which hosts are programmed is published at once, but not more often: many may join at the same time."""
NUMBERS_INTERVAL_S = 5.0
"""Counters are published at most this often; a change of role at once."""
DRAINING_INTERVAL_S = 0.9
"""While the connections of a pair are counted: with every tick of a second, also when nothing changed, as somebody
waits for the number and must know that it is fresh."""


@dataclass
class Publisher:
    """Remembers what was published last, to publish only what changed."""

    node: str
    presence: Presence
    next_deadline: float | None = None
    """When something that was put off is to be published."""
    _published: dict[str, tuple[MemberStatus, float]] = field(default_factory=dict)

    def publish_changes(self, members: Mapping[str, Member], now: float) -> None:
        """Publish members whose role, HaVip, epoch, health or hosts changed."""
        self.next_deadline = None
        for subnet, member in members.items():
            if member.is_touched:
                member.is_touched = self._is_put_off(subnet, member, now)

    def _is_put_off(self, subnet: str, member: Member, now: float) -> bool:
        """Publish what changed; True: something has to wait for `next_deadline`."""
        status, last = status_of(member), self._published.get(subnet)
        if last is None or _essence(status) != _essence(last[0]):
            self._publish(subnet, member, status, now)
            return False
        if status.hosts_seen == last[0].hosts_seen:
            return False
        due = last[1] + HOSTS_INTERVAL_S
        if now >= due:
            self._publish(subnet, member, status, now)
            return False
        self.next_deadline = min(due, self.next_deadline or due)
        return True

    def publish_numbers(self, members: Mapping[str, Member], now: float) -> None:
        """Publish members whose numbers or gate changed, not too often."""
        for subnet, member in members.items():
            last = self._published.get(subnet)
            if last is None:
                continue
            has_gate_moved = member.gate != last[0].gate
            interval_s = DRAINING_INTERVAL_S if member.is_counted else NUMBERS_INTERVAL_S
            if not has_gate_moved and now < last[1] + interval_s:
                continue
            status = status_of(member)
            if has_gate_moved or member.is_counted or _numbers(status) != _numbers(last[0]):
                self._publish(subnet, member, status, now)

    def _publish(self, subnet: str, member: Member, status: MemberStatus, now: float) -> None:
        self._published[subnet] = (status, now)
        self.presence.want(member_status_suffix(member.pair.subnet, member.pair.id, self.node), encode(status))

    def forget(self, subnet: str, member: Member) -> None:
        """The member is no longer served here."""
        self._published.pop(subnet, None)
        self.presence.drop(member_status_suffix(member.pair.subnet, member.pair.id, self.node))


def _essence(status: MemberStatus) -> tuple[object, ...]:
    """What matters at 3 a.m."""
    is_counted = status.connections is not None
    health = (status.health, status.probe, status.damped_until is None)
    change = (status.change_reason, status.blackout_s)
    return (status.role, status.vrrp, status.gate, status.has_havip, status.epoch, health, is_counted, change)


def _numbers(status: MemberStatus) -> tuple[object, ...]:
    rates = (status.rx_bytes_per_s, status.tx_bytes_per_s)
    return (status.conntrack, status.rx_bytes, status.tx_bytes, status.repairs, *rates)
