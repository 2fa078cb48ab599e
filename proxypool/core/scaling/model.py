"""Words of scaling that all its parts share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from proxypool.core.quantities import Moment

MAX_PAIRS = 64
"""Of one subnet."""


class ScalingMode(StrEnum):
    """What the controller may do to a subnet by itself."""

    OFF = "off"
    """Nothing: not even the pairs that `min_pairs` asks for."""
    OBSERVE = "observe"
    """Keep `min_pairs` and replace members of dead nodes; of the load, say only what it would do."""
    ENFORCE = "enforce"
    """Also add and drain pairs as the load asks for."""


class ScalingSpec(Struct, frozen=True, kw_only=True):
    """What an operator wants of a subnet's size. A subnet without one is the operator's own."""

    min_pairs: Annotated[int, Meta(ge=1, le=MAX_PAIRS)] = 1
    max_pairs: Annotated[int, Meta(ge=1, le=MAX_PAIRS)] = 8
    mode: ScalingMode = ScalingMode.OBSERVE
    paused_since: Moment | None = None
    """Wall time: since then no action begins; one that has begun is finished. None: it is not paused."""


class Signal(StrEnum):
    """What a pair can run short of."""

    CONNTRACK = "conntrack"
    """Entries of the connection table, against its limit."""
    CONNECTIONS = "connections"
    """New connections per second."""
    BYTES = "bytes"
    """Bytes per second, the busier direction."""
    PACKETS = "packets"
    """Packets per second, both directions."""
    PORTS = "ports"
    """SNAT ports toward the busiest destination."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A subnet at one moment, as the policy sees it."""

    now: float
    """Monotonic seconds; any zero."""
    active: int
    """Pairs that take new connections."""
    coming: int = 0
    """Pairs that are being added: they count as there for the decision to add more."""
    draining: int = 0
    load: Mapping[Signal, float | None] = field(default_factory=dict)
    """Per signal the sum over all pairs of usage / limit: 1.0 is what one pair can carry. None: not known (missing,
    stale, NaN or reset), which never is a reason to shrink.
    """
    at_least: Mapping[Signal, float] = field(default_factory=dict)
    """Of a signal whose load is not known: what is known of it comes to this. A reason to grow, never to shrink."""
    drops: bool = False
    """A pair dropped packets or connections for want of room since the last look."""


class Cause(StrEnum):
    """Why a subnet is wanted to have so many pairs."""

    LOAD = "load"
    PANIC = "panic"
    """The load of the last seconds asks for much more than there is."""
    MIN_PAIRS = "min-pairs"
    MAX_PAIRS = "max-pairs"
    """The load asks for more than is allowed."""
    NO_DATA = "no-data"
    """Nothing is known: it stays as it is."""


class Hold(StrEnum):
    """Why an action that the load asks for does not begin yet."""

    TOLERANCE = "tolerance"
    CONFIRMING = "confirming"
    """It asks for more, but has not for long enough."""
    STABLE_WINDOW = "stable-window"
    """It asked for more within the window."""
    RATE_LIMIT = "rate-limit"
    MISSING_DATA = "missing-data"
    DRAINING = "draining"
    """Pairs drain: when they are gone, one sees how many are still too many."""
    FLAPPING = "flapping"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says at one moment."""

    wanted: int
    """Active pairs that there should be, after all limits."""
    asked: int
    """What the load alone asks for, the reserve of one pair included."""
    cause: Cause
    signal: Signal | None = None
    """The one that asks for most."""
    held: tuple[Hold, ...] = ()
    """Why `wanted` is not `asked`."""
    is_panic: bool = False
    per_signal: Mapping[Signal, int | None] = field(default_factory=dict)
    """What each signal asks for; None: not known."""
    again_at: float | None = None
    """On the clock of `Observation.now`: from when on the same load may get another answer. None: only if something
    changes.
    """
