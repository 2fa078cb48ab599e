"""Whether something grows: from measurements at rest to a verdict. Pure.

A series is one figure of one thing that lives through several cycles: the memory of one process, the znodes of the pool.
What a process needs to get warm is left out; of the rest the slope counts, not the height. The slope is the median of the
slopes between all pairs of measurements (Theil and Sen), which a third of odd measurements does not move.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

WARM_UP = 1 / 3
"""The first third of a run, but as much as `WARM_S` at the most, is not judged."""
WARM_S = 600.0
FEWEST = 4
"""Measurements after the warm-up; a series with fewer is told, not judged."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a figure may grow, from the end of the warm-up to the end of the run, by its slope."""

    by: float
    """In the figure's own unit."""
    share: float = 0.0
    """Of its median, if that is more."""
    why: str = ""


LIMITS: dict[str, Limit] = {
    "rss_kib": Limit(4096, 0.08, "a leak of 100 bytes a second is 350 KiB an hour; the allocator keeps some pages"),
    "fds": Limit(1, why="each is opened for something that was taken back"),
    "threads": Limit(1, why="each belongs to something that was taken back"),
    "processes": Limit(1, why="helpers end with what they helped"),
    "namespaces": Limit(0, why="a subnet that is gone has none"),
    "links": Limit(0, why="devices go with their namespace"),
    "rules": Limit(0, why="rules go with what they are about"),
    "sets": Limit(0, why="sets go with what they are about"),
    "files": Limit(0, why="of keepalived and in the run directory: one for each pair"),
    "conntrack": Limit(100, 0.25, "of those that stay for over two minutes: what a power-off broke, nobody ended"),
    "znodes": Limit(2, why="without the history, which has a bound of its own"),
    "watches": Limit(30, 0.1, "watches of sessions that are being replaced"),
}
"""Figure -> limit. A figure that is not here is told and not judged."""
HISTORY_MOST = 1100
"""Records that the pool keeps, and a tenth more before it removes some."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement: seconds since the run began, and the value."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one series."""

    name: str
    """`<thing> <figure>`."""
    count: int
    """Measurements that were judged."""
    first: float
    last: float
    per_hour: float
    growth: float
    """By the slope, over the time that was judged."""
    limit: float | None
    """None: not judged."""

    @property
    def is_bad(self) -> bool:
        """It grows by more than it may."""
        return self.limit is not None and self.growth > self.limit


def slope(points: Sequence[Point]) -> float:
    """Per second; 0 with fewer than two."""
    slopes = [(b.value - a.value) / (b.at - a.at) for a, b in combinations(points, 2) if b.at > a.at]
    return statistics.median(slopes) if slopes else 0.0


def after_warm_up(points: Sequence[Point], began: float, end: float) -> Sequence[Point]:
    """Those that are judged, of something that has lived since `began`."""
    warm = began + min(WARM_S, WARM_UP * (end - began))
    return [point for point in points if point.at >= warm]


def judge(name: str, points: Sequence[Point]) -> Verdict:
    """A series, of which the figure is the last word of its name."""
    judged = after_warm_up(points, points[0].at, points[-1].at)
    per_s = slope(judged)
    span_s = judged[-1].at - judged[0].at
    limit = LIMITS.get(name.rpartition(" ")[2])
    allowed = None
    if limit is not None and len(judged) >= FEWEST:
        allowed = max(limit.by, limit.share * statistics.median(point.value for point in judged))
    return Verdict(name, len(judged), judged[0].value, judged[-1].value, per_s * 3600.0, per_s * span_s, allowed)


def table(verdicts: Iterable[Verdict]) -> str:
    """What grows most, by its limit, first."""
    rows = [("SERIES", "N", "FIRST", "LAST", "PER HOUR", "GROWTH", "LIMIT", "")]
    order = sorted(verdicts, key=lambda one: -(one.growth / one.limit if one.limit else one.growth))
    for one in order:
        limit = "-" if one.limit is None else f"{one.limit:.0f}"
        figures = (f"{one.first:.0f}", f"{one.last:.0f}", f"{one.per_hour:+.1f}", f"{one.growth:+.1f}")
        rows.append((one.name, str(one.count), *figures, limit, "GROWS" if one.is_bad else ""))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
