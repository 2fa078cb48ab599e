"""What a member needs to serve, and what is missing: named reasons from what was seen. Pure.

Every reason is a fact of this machine's own kernel or of its own ENI. None comes from ZooKeeper: whatever happens there
makes no member unfit. The names are stable; they stand in status, logs and metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from proxypool.core.role import Caution

CONNTRACK_FULL, CONNTRACK_ROOM = 0.95, 0.85
"""Part of the connection table in use: a member above the first is unfit, and fit again below the second."""
GATE_WRONG_S = 3.0
"""How long the gate may be other than the role demands, in spite of the repairs of every second."""
PROBE_INTERVAL_S = 0.5
SILENT_AFTER = 3
"""Probes without an answer, one after the other, after which the target is unreachable."""


class Reason(StrEnum):
    """Why a member cannot serve."""

    ENI_DOWN = "eni-down"
    TUNNEL_DOWN = "tunnel-down"
    GATEWAY_UNREACHABLE = "gateway-unreachable"
    NOT_PROGRAMMED = "not-programmed"
    CONNTRACK_FULL = "conntrack-full"
    GATE_WRONG = "gate-wrong"
    KEEPALIVED_DOWN = "keepalived-down"
    VRRP_NOT_CONFIGURED = "vrrp-not-configured"


class Probe(StrEnum):
    """What the target says that a member asks through its ENI."""

    NONE = "none"
    """There is no target, or it was not asked yet."""
    OK = "ok"
    DOUBTFUL = "doubtful"
    """The last one or two probes are not answered."""
    SILENT = "silent"
    UNANSWERED = "unanswered"
    """It has never answered since this member began to ask: it may filter, so it says nothing of our health."""


@dataclass(frozen=True, slots=True)
class ProbeTrack:
    """The probes of one member, in turn: at most one is open, and the next one closes it."""

    has_answered: bool = False
    missed: int = 0
    sent_at: float | None = None
    """Of the open probe."""
    rtt_s: float | None = None
    """Of the last answer."""

    def sent(self, now: float) -> ProbeTrack:
        """The next probe left, or could not."""
        return replace(self, missed=self.missed + (self.sent_at is not None), sent_at=now)

    def answered(self, now: float) -> ProbeTrack:
        """The target answered. An answer that nobody waits for is one to a probe already answered."""
        if self.sent_at is None:
            return self
        return ProbeTrack(has_answered=True, rtt_s=now - self.sent_at)

    @property
    def outcome(self) -> Probe:
        """What this says of the target."""
        if not self.has_answered:
            return Probe.UNANSWERED if self.missed else Probe.NONE
        if self.missed >= SILENT_AFTER:
            return Probe.SILENT
        return Probe.DOUBTFUL if self.missed else Probe.OK


@dataclass(frozen=True, slots=True)
class VrrpSight:
    """What keepalived is able to do for one member."""

    is_up: bool = True
    """Whether it runs, and was not stopped."""
    is_starting: bool = False
    """Whether it may still be within its startup delay."""
    is_configured: bool = True
    """Whether it has our file for the member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen of one member's data path."""

    is_programmed: bool
    is_eni_up: bool = True
    is_tunnel_up: bool = True
    probe: Probe = Probe.NONE
    conntrack: float = 0.0
    """Part of the connection table in use, 0 to 1."""
    gate_wrong_s: float = 0.0
    vrrp: VrrpSight = VrrpSight()


def reasons(seen: Sight, before: frozenset[str] = frozenset()) -> frozenset[str]:
    """Why the member cannot serve; `before` is the last answer, as a full table must empty by some before it is one no
    more.
    """
    full = CONNTRACK_ROOM if Reason.CONNTRACK_FULL in before else CONNTRACK_FULL
    found = {
        Reason.ENI_DOWN: not seen.is_eni_up,
        Reason.TUNNEL_DOWN: not seen.is_tunnel_up,
        Reason.GATEWAY_UNREACHABLE: seen.probe is Probe.SILENT,
        Reason.NOT_PROGRAMMED: not seen.is_programmed,
        Reason.CONNTRACK_FULL: seen.conntrack >= full,
        Reason.GATE_WRONG: seen.gate_wrong_s >= GATE_WRONG_S,
        Reason.KEEPALIVED_DOWN: not seen.vrrp.is_up,
        Reason.VRRP_NOT_CONFIGURED: seen.vrrp.is_up and not seen.vrrp.is_configured,
    }
    return frozenset(reason.value for reason, is_so in found.items() if is_so)


def caution(seen: Sight, *, is_damped: bool, has_just_returned: bool = False) -> Caution:
    """Why a member that is fit should not take over from one that is unfit, or fit.

    Doubts come earlier than certainty, so that what makes both members unfit moves nothing: at two probes a second a
    backup has its doubts within a second of a gateway's death, and a master is sure after one and a half at the least.
    And they go later: a gateway that returns is found by one member before the other.
    """
    if seen.probe is Probe.DOUBTFUL or seen.conntrack >= CONNTRACK_ROOM or has_just_returned:
        return Caution.DOUBTFUL
    if is_damped:
        return Caution.DAMPED
    return Caution.STARTING if seen.vrrp.is_starting else Caution.NONE
