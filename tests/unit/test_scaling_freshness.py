"""How old a number may be."""

from __future__ import annotations

from proxypool.core.scaling.freshness import STALE_CEILING_S, Freshness, stale_after


def after(*moments: float, round_s: float = 2.0) -> float:
    """The bound after the nodes were read at these moments."""
    freshness = Freshness(round_s)
    return [freshness.read(now) for now in moments][-1]


def test_as_long_as_the_nodes_are_read_as_configured_it_is_three_rounds() -> None:
    """But six seconds at the least: a node reads its counters every second or two."""
    assert after(10.0) == after(10.0, 12.0, 14.0) == stale_after(2.0) == 6.0
    assert after(10.0, 15.0, 20.0, round_s=5.0) == 15.0
    assert after(10.0, 10.3, 10.6, round_s=0.3) == 6.0


def test_where_reading_takes_longer_it_is_three_of_those() -> None:
    """Else nothing would ever be known where it takes longer than two seconds each."""
    assert after(10.0, 14.0, 18.0) == 12.0
    assert after(10.0, 14.0, 16.0, 18.0) == 12.0, "one of the last three took so long"
    assert after(10.0, 14.0, 16.0, 18.0, 20.0) == 6.0


def test_it_has_an_end() -> None:
    """What is half a minute old says nothing of now; unless it is read so rarely by the operator's own wish."""
    assert after(10.0, 500.0) == STALE_CEILING_S
    assert after(10.0, 500.0, round_s=15.0) == 45.0
