"""What a member observes of itself, as the document that the others read."""

from __future__ import annotations

from proxypool.core.history import Phase
from proxypool.core.model import MemberStatus
from proxypool.core.role import Caution, Role
from proxypool.daemons.member import Member


def status_of(member: Member) -> MemberStatus:
    """As it is at this moment. Callable on any thread: reads values that the main loop replaces whole."""
    counters, damping = member.usage.counters, member.condition.damping
    tunnel, rates = counters.tunnel if counters else None, member.usage.rates
    until, rtt_s = damping.until(), member.probe_rtt_s()
    change = member.last_change if member.state.role is Role.MASTER else None
    reasons = tuple(sorted(member.state.health)) if member.state.health is not None else ("starting",)
    return MemberStatus(
        node=member.node,
        role=(Role.BACKUP if member.state.is_standing_by else member.state.role).value,
        vrrp=member.state.vrrp.value,
        gate=member.gate,
        has_havip=member.has_havip,
        epoch=member.state.epoch,
        health=reasons + (member.problems or ()),
        conntrack=counters.conntrack if counters else None,
        conntrack_limit=counters.conntrack_limit if counters else None,
        rx_bytes=tunnel.rx_bytes if tunnel else 0,
        tx_bytes=tunnel.tx_bytes if tunnel else 0,
        rx_packets=tunnel.rx_packets if tunnel else 0,
        tx_packets=tunnel.tx_packets if tunnel else 0,
        rx_bytes_per_s=round(rates[0], 1),
        tx_bytes_per_s=round(rates[1], 1),
        packets_per_s=round(rates[2], 1),
        since=member.role_since_wall,
        at=member.wall(),
        repairs=member.repairs,
        connections=member.connections,
        hosts_seen=member.acknowledgement.seen,
        sync=member.sync.state.value if member.sync is not None else None,
        answers_egress=member.answers_egress,
        change_reason=change.reason if change else "",
        blackout_s=change.phases.get(Phase.BLACKOUT.value) if change else None,
        probe=member.condition.probe.value,
        probe_ms=None if rtt_s is None else round(rtt_s * 1e3, 3),
        damped_until=_wall_of(member, until) if member.state.caution is Caution.DAMPED else None,
    )


def _wall_of(member: Member, moment: float | None) -> float | None:
    return None if moment is None else round(member.wall() + moment - member.monotonic(), 1)
