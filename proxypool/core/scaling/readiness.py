"""Whether a pair that has been made can take connections. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from proxypool.core.health import Probe
from proxypool.core.model import MemberStatus, PairSpec
from proxypool.core.states import Role

PROBED = frozenset({Probe.OK, Probe.NONE})
"""What a member's probe through its ENI says when it was answered, or when nobody is to be asked."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is missing."""

    missing: tuple[str, ...] = ("nothing is known of it yet",)
    """Empty: it is ready."""
    unfit: tuple[str, ...] = ()
    """Nodes whose member keeps it from being ready."""

    @property
    def is_ready(self) -> bool:
        """Whether hosts may choose it."""
        return not self.missing


def readiness(
    pair: PairSpec, statuses: Mapping[str, MemberStatus], hosts_zxid: int, *, is_silence_usual: bool = False
) -> Readiness:
    """Both members fit and probed, one of them master, the other able to take over, and all hosts of the subnet
    programmed. `hosts_zxid`: of the last change of the subnet's list of hosts, read before the statuses.
    `is_silence_usual`: whether nobody has ever answered a pair that serves the subnet, either.
    """
    probed = PROBED | {Probe.UNANSWERED} if is_silence_usual else PROBED
    missing, unfit = [], []
    for member in pair.members:
        why = _why_not(statuses.get(member.node), hosts_zxid, probed)
        if why is not None:
            missing.append(f"{member.node} {why}")
            unfit.append(member.node)
    roles = sorted(statuses[member.node].role for member in pair.members if member.node in statuses)
    if not unfit and roles != [Role.BACKUP, Role.MASTER]:
        missing.append(f"one member must be master and the other backup, not {' and '.join(roles)}")
    return Readiness(tuple(missing), tuple(unfit))


def is_silent(statuses: Mapping[str, MemberStatus]) -> bool:
    """Whether a pair serves although its probes were never answered: who is asked may filter them."""
    masters = [status for status in statuses.values() if status.role == Role.MASTER and not status.health]
    return any(status.probe == Probe.UNANSWERED for status in masters)


def _why_not(status: MemberStatus | None, hosts_zxid: int, probed: Collection[str]) -> str | None:
    if status is None:
        return "does not report"
    if status.health:
        return f"cannot serve: {'; '.join(status.health)}"
    if status.probe not in probed:
        return f"has no answer to its probe ({status.probe})"
    if status.hosts_seen < hosts_zxid:
        return "has not programmed all hosts"
    is_master = status.role == Role.MASTER
    if is_master and not (status.gate and status.has_havip):
        return "is master without an open gate and the HaVip"
    return None
