"""Counters of one member, from look to look: what of them is known, and the rates between two looks. Pure.

A rate needs two looks in one life of the counters (the same daemon, role and namespace), not too far apart. It is
divided by the node's own clock, so that it does not depend on when the answer came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from proxypool.core.scaling.series import COUNTERS, Sample, Series


class Problem(StrEnum):
    """Why a number is not known."""

    UNREAD = "unread"
    """Nothing was heard of a member."""
    STALE = "stale"
    """It is older than three rounds."""
    NO_MASTER = "no-master"
    TWO_MASTERS = "two-masters"
    NEW = "new"
    """There is nothing to compare with yet: the first look, or the first after a change of role or of the daemon."""
    RESET = "reset"
    """A counter went back."""
    MISSING = "missing"
    """The node does not export it."""
    INVALID = "invalid"
    """NaN, infinite or negative."""
    NO_LIMIT = "no-limit"
    """The node has no such limit, but another pair's has."""


Known: TypeAlias = float | Problem
_UNSEEN = -math.inf
_NO_RATES: Mapping[str, Known] = {}
_COUNTERS = tuple(map(str, COUNTERS))
"""As plain strings: quicker in a dict than members of an enum."""


class Track(Struct, frozen=True):
    """A member as last heard of."""

    sample: Sample
    read_at: float
    """When its counters were read; monotonic seconds of whoever reads."""
    rates: Mapping[str, Known]
    """By counter, per second, of a master. Empty: there was nothing to compare with."""

    @property
    def is_master(self) -> bool:
        """As the node says."""
        return self.sample.get(Series.MASTER) == 1.0

    def rate(self, series: Series) -> Known:
        """Per second, between the last two looks."""
        rate = self.rates.get(series)
        if rate is not None:
            return rate
        return Problem.NEW if not self.rates else Problem.MISSING

    def value(self, series: Series) -> Known:
        """At the last look."""
        if Series.SINCE not in self.sample:
            return Problem.NEW
        return known(self.sample.get(series))


def follow(before: Track | None, sample: Sample, at: float, longest_s: float) -> Track:
    """A member after a sample that was taken at `at`. Of looks more than `longest_s` apart no rate is made: it would be
    that of a time that is long over.
    """
    age = known(sample.get(Series.AGE))
    since, clock = sample.get(Series.SINCE), known(sample.get(Series.CLOCK))
    if isinstance(age, Problem) or isinstance(clock, Problem):
        return Track(sample, _UNSEEN, {})
    if before is None or since != before.sample.get(Series.SINCE):
        return Track(sample, at - age, {})
    last = known(before.sample.get(Series.CLOCK))
    if isinstance(last, Problem) or clock - last > longest_s or at - age - before.read_at > longest_s:
        return Track(sample, at - age, {})
    if clock <= last:
        # The same look again, or one from before it, which says nothing new; only how old the ports are may be newer.
        newest = sample if clock == last else before.sample
        return Track(newest, before.read_at, before.rates)
    is_master = sample.get(Series.MASTER) == 1.0
    return Track(sample, at - age, _rates(before.sample, sample, clock - last) if is_master else _NO_RATES)


def _rates(before: Sample, after: Sample, span_s: float) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for series in _COUNTERS:
        first, last = before.get(series), after.get(series)
        if first is None or last is None:
            continue
        if 0 <= first <= last < math.inf:
            found[series] = (last - first) / span_s
        elif isinstance(known(first), Problem) or isinstance(known(last), Problem):
            found[series] = Problem.INVALID
        else:
            found[series] = Problem.RESET
    return found


def known(value: float | None) -> Known:
    """A value that can be true: finite and not negative."""
    if value is None:
        return Problem.MISSING
    return value if math.isfinite(value) and value >= 0 else Problem.INVALID
