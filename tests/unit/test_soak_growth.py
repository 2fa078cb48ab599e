"""A soak calls growth what grows, and nothing else."""

from __future__ import annotations

import random

import pytest

from tests.soak.growth import FEWEST, LIMITS, Point, judge, slope, table

HOUR = 3600.0


def series(values: list[float], every_s: float = 60.0) -> list[Point]:
    return [Point(at * every_s, value) for at, value in enumerate(values)]


@pytest.mark.parametrize("figure", list(LIMITS))
def test_what_stays_the_same_does_not_grow(figure: str) -> None:
    assert not judge(f"node-a machine {figure}", series([40.0] * 60)).is_bad


@pytest.mark.parametrize("figure", list(LIMITS))
def test_a_steady_leak_is_found(figure: str) -> None:
    """One that comes to twice the limit over the time that is judged."""
    limit = LIMITS[figure]
    base = 10.0
    most = 2.0 * max(limit.by, limit.share * base, 1.0)
    grown = [base + most * 1.6 * at / 59 for at in range(60)]
    assert judge(f"node-a machine {figure}", series(grown)).is_bad


def test_memory_that_a_process_needs_to_get_warm_is_no_leak() -> None:
    values = [30_000.0 + min(at, 8) * 2_000.0 for at in range(60)]
    assert not judge("node-a daemon rss_kib", series(values)).is_bad


def test_a_leak_that_begins_after_the_warm_up_is_found() -> None:
    values = [60_000.0 + max(0, at - 15) * 250.0 for at in range(60)]
    found = judge("node-a daemon rss_kib", series(values))
    assert found.is_bad
    assert found.per_hour == pytest.approx(15_000, rel=0.1)


def test_noise_and_a_few_odd_measurements_are_no_leak() -> None:
    dice = random.Random(7)
    values = [50_000.0 + dice.uniform(-1_500, 1_500) for _ in range(60)]
    for at in (20, 33, 41, 58):
        values[at] += 30_000.0
    assert not judge("node-a daemon rss_kib", series(values)).is_bad


def test_a_single_namespace_more_in_each_of_few_cycles_is_found() -> None:
    assert judge("node-a machine namespaces", series([2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])).is_bad


def test_a_process_that_lived_for_a_few_measurements_is_told_and_not_judged() -> None:
    found = judge("node-c daemon[7] rss_kib", series([1.0, 50_000.0, 90_000.0][: FEWEST - 1]))
    assert found.limit is None
    assert not found.is_bad


def test_a_figure_without_a_limit_is_told_and_not_judged() -> None:
    assert not judge("pool - history", series([float(at) for at in range(60)])).is_bad


def test_the_slope_is_per_second() -> None:
    assert slope([Point(0.0, 1.0), Point(10.0, 6.0)]) == pytest.approx(0.5)
    assert slope([Point(0.0, 1.0)]) == 0.0


def test_the_table_begins_with_what_is_nearest_to_its_limit() -> None:
    bad = judge("node-a machine rules", series([float(at) for at in range(20)]))
    good = judge("node-a machine links", series([4.0] * 20))
    head, first, *_ = table([good, bad]).splitlines()
    assert head.startswith("SERIES")
    assert first.startswith("node-a machine rules")
    assert first.endswith("GROWS")
