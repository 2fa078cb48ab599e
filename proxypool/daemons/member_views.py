"""What metrics and the status page see of a node's members. Called on other threads, so all works on a copy."""

from __future__ import annotations

from collections.abc import Mapping

from proxypool.core.blocking import Blocked
from proxypool.core.scaling.series import Sample, Where
from proxypool.daemons.member import Member
from proxypool.daemons.member_status import status_of
from proxypool.telemetry.member_metrics import MemberView


def views(members: Mapping[str, Member]) -> tuple[MemberView, ...]:
    """What each is, and what it observes of itself."""
    return tuple(
        MemberView(member.pair, status_of(member), member.state.is_elected, member.sync)
        for member in list(members.values())
    )


def blocked(members: Mapping[str, Member]) -> dict[str, Mapping[Blocked, int]]:
    """Packets blocked in each subnet's namespace, as last read."""
    usages = ((subnet, member.usage.counters) for subnet, member in tuple(members.items()))
    return {subnet: counters.blocked for subnet, counters in usages if counters is not None}


def samples(members: Mapping[str, Member]) -> dict[Where, Sample]:
    """What each member uses."""
    return {(member.pair.subnet, member.pair.id): member.sample() for member in list(members.values())}
