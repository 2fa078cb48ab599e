"""Quantiles and paired ratios. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest rank: a value that was measured. Of 20 values the 99th percentile is the greatest.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered), max(1, math.ceil(share * len(ordered)))) - 1]


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values")
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def paired_ratio(ours: Sequence[float], other: Sequence[float]) -> float | None:
    """Median of the ratios of values measured one right after the other: what slows both down does not count."""
    ratios = [mine / theirs for mine, theirs in zip(ours, other, strict=True) if theirs]
    return median(ratios) if ratios else None


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles, as a share of the median: how far a single run can be trusted."""
    middle = median(values)
    return (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / middle if middle else 0.0
