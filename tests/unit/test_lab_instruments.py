"""The instruments' arithmetic: what counts as a gap, a loss, a stall."""

import math

import pytest

from proxypool.lab.inside.blackout import Blackout
from proxypool.lab.inside.instrument import address, quantile

BEGAN = 1.0
"""Seconds of uptime: the instrument's clock has to be past it, on a computer that has just been started too."""


@pytest.fixture
def blackout() -> Blackout:
    """One that has sent a request at 0, 1, … 99 ms and heard nothing yet. Nothing is sent in these tests."""
    measured = Blackout(("127.0.0.1", 9), 0.001)
    measured.link.close()
    for number in range(100):
        measured.sent_at.append(BEGAN + number / 1000)
        measured.answer_after.append(-1.0)
    return measured


def answer(blackout: Blackout, numbers: range, after_s: float = 0.0005) -> None:
    for number in numbers:
        blackout.answer_after[number] = after_s
        blackout.answers.append(blackout.sent_at[number] + after_s)


def test_all_answered_is_no_gap(blackout: Blackout) -> None:
    answer(blackout, range(100))
    result = blackout.result()
    assert (result["sent"], result["received"], result["lost"]) == (100, 100, 0)
    assert (result["blackout_ms"], result["longest"], result["gaps"]) == (0.0, None, [])
    assert result["answering_at_end"] is True
    assert result["round_trip_ms"] == {"p50": 0.5, "p99": 0.5}


def test_the_longest_gap_is_the_blackout_and_short_ones_are_not_reported(blackout: Blackout) -> None:
    for numbers in (range(10), range(15, 30), range(50, 60), range(95, 100)):
        answer(blackout, numbers)
    result = blackout.result()
    assert result["lost"] == 60
    assert result["blackout_ms"] == 36.0
    gaps = result["gaps"]
    assert isinstance(gaps, list)
    assert [gap["ms"] for gap in gaps] == [21.0, 36.0]
    assert math.isclose(gaps[1]["start"], BEGAN + 0.0595)
    assert gaps[1]["end_wall"] - gaps[1]["start_wall"] == pytest.approx(0.036, abs=1e-5)


def test_no_answer_at_all_is_a_gap_from_the_first_request(blackout: Blackout) -> None:
    result = blackout.result()
    assert result["received"] == 0
    assert result["answering_at_end"] is False
    assert isinstance(result["longest"], dict)
    assert result["longest"]["start"] == BEGAN


def test_a_gap_that_lasts_to_the_end_counts(blackout: Blackout) -> None:
    answer(blackout, range(50))
    result = blackout.result()
    assert result["answering_at_end"] is False
    assert isinstance(result["longest"], dict)
    assert math.isclose(result["longest"]["start"], BEGAN + 0.0495)


def test_quantile() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0], 0.99) == 3.0
    assert quantile([float(n) for n in range(100)], 0.99) == 99.0
    assert quantile([0.001, 0.002, 0.003], 0.5, 1e3) == 2.0


def test_address() -> None:
    assert address("172.16.101.4:7007") == ("172.16.101.4", 7007)
