"""What was seen of one member's data path, and since when it has been well. `core.health` says what it means."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxypool.adapters.counters import Counters
from proxypool.core import health
from proxypool.core.addressing import ENI_DEVICE
from proxypool.core.damping import Damping
from proxypool.core.health import Probe, Sight
from proxypool.core.role import HealthSeen
from proxypool.daemons.messages import EniProbed, LinksSeen


@dataclass
class Condition:
    """Of one member. What is not seen again, because its namespace is closed, stays as it was seen last."""

    links_down: frozenset[str] = frozenset()
    has_carrier: bool = True
    """Of the ENI, as the device itself says."""
    probe: Probe = Probe.NONE
    gate_wrong_since: float | None = None
    damping: Damping = field(default_factory=Damping)
    reasons: frozenset[str] = frozenset()
    returned_from: frozenset[str] = frozenset()
    """The reasons of the last time that it was unfit."""

    def saw(self, message: LinksSeen | EniProbed) -> bool:
        """What the watch or a probe says; True: it is worth telling others."""
        match message:
            case LinksSeen(_, down):
                self.links_down = down
                return False
            case EniProbed(_, probe, has_carrier):
                is_news = probe is not self.probe
                self.probe, self.has_carrier = probe, has_carrier
                return is_news

    def saw_gate(self, *, is_wrong: bool, now: float) -> None:
        """The gate was looked at, and put right if it could be."""
        self.gate_wrong_since = (now if self.gate_wrong_since is None else self.gate_wrong_since) if is_wrong else None

    def look(
        self,
        *,
        is_programmed: bool,
        counters: Counters | None,
        vrrp: health.VrrpSight,
        now: float,
    ) -> HealthSeen:
        """All of it together."""
        limit = counters.conntrack_limit if counters is not None else None
        seen = Sight(
            is_programmed=is_programmed,
            is_eni_up=self.has_carrier and ENI_DEVICE not in self.links_down,
            is_tunnel_up=not self.links_down - {ENI_DEVICE},
            probe=self.probe,
            conntrack=(counters.conntrack or 0) / limit if counters is not None and limit else 0.0,
            gate_wrong_s=0.0 if self.gate_wrong_since is None else now - self.gate_wrong_since,
            vrrp=vrrp,
        )
        self.reasons = health.reasons(seen, self.reasons)
        self.returned_from = self.reasons or self.returned_from
        self.damping = self.damping.seen(is_well=not self.reasons, now=now)
        is_damped = self.damping.left_s(now) > 0.0
        is_shared = health.Reason.GATEWAY_UNREACHABLE in self.returned_from
        has_just_returned = is_shared and self.damping.has_just_returned(now)
        caution = health.caution(seen, is_damped=is_damped, has_just_returned=has_just_returned)
        return HealthSeen(self.reasons, caution)
