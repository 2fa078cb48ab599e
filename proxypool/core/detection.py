"""How a dead master is noticed: VRRP's timers, by profile. Pure.

A backup takes over when so many advertisements in a row are missing: after `missing - 1` to `missing` intervals and the
skew time (RFC 5798 section 6.1). One that is lost on the way, or late because the processor was busy, must not be
enough. With a loss of p per advertisement, `missing` of them are lost together once in 1 / (p ** missing · rate): the
shorter interval with more of them is both quicker and less easily fooled. What it needs is that the process is on time,
so the short ones want real-time scheduling.

What an interval costs is processor time on every node, for each pair, always: some 30 µs to send and 25 to receive one.
So a node with many pairs stretches it: `interval_ms`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

VRRP_UNIT_MS = 10
"""VRRPv3 counts in hundredths of a second."""
MAX_ADVERTS_PER_S = 2500
"""Of all pairs of a node together: some tenth of a core."""
MOST_PAIRS = 255
"""VRRP ids of one underlay card."""


class Profile(StrEnum):
    """Names of profiles, quickest first."""

    FAST = "fast"
    BALANCED = "balanced"
    CONSERVATIVE = "conservative"


@dataclass(frozen=True, slots=True)
class Detection:
    """The timers of a node's VRRP instances."""

    advert_ms: int
    """Advertisement interval, in whole VRRP units."""
    missing: int
    """Advertisements in a row that end a master: keepalived's `down_timer_adverts`. RFC 5798 says three."""
    is_real_time: bool
    """Whether keepalived's VRRP process gets real-time scheduling."""

    def interval_ms(self, pairs: int) -> int:
        """The interval on a node that is a member of so many pairs, in ms: stretched from 26 pairs at 10 ms on."""
        units = math.ceil(pairs * 1000 / MAX_ADVERTS_PER_S / VRRP_UNIT_MS)
        return max(self.advert_ms, units * VRRP_UNIT_MS)

    def silence_ms(self, pairs: int = 1) -> int:
        """The longest silence before a takeover, in ms, without the skew time of at most an interval."""
        return self.missing * self.interval_ms(pairs)

    @property
    def longest_s(self) -> float:
        """The longest time from a master's last advertisement to the takeover, in seconds, on a full node."""
        return (self.missing + 1) * self.interval_ms(MOST_PAIRS) / 1000


PROFILES = {
    Profile.FAST: Detection(10, 4, is_real_time=True),
    Profile.BALANCED: Detection(10, 5, is_real_time=True),
    Profile.CONSERVATIVE: Detection(50, 8, is_real_time=False),
}
"""See ADR 14 for the measurements behind them."""


def detection_of(profile: Profile, advert_ms: int | None = None, missing: int | None = None) -> Detection:
    """A profile, or what was set instead of parts of it."""
    found = PROFILES[profile]
    return Detection(advert_ms or found.advert_ms, missing or found.missing, found.is_real_time)
