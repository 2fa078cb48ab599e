"""When a provider is asked again."""

from __future__ import annotations

import pytest

from proxypool.core.scaling.retry import BACKOFF, SPREAD, ErrorKind, delay_s, is_due, passes


def test_only_what_goes_away_by_itself_passes() -> None:
    assert {kind for kind in ErrorKind if passes(kind)} == {ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE}


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_delays_double_up_to_a_cap(kind: ErrorKind) -> None:
    backoff = BACKOFF[kind]
    for attempts in range(1, 60):
        plain = min(backoff.first_s * 2 ** (attempts - 1), backoff.longest_s)
        assert plain <= delay_s(kind, attempts, key="s1") <= plain * (1 + SPREAD)


def test_a_number_that_grew_for_weeks_does_not_overflow() -> None:
    assert delay_s(ErrorKind.UNAVAILABLE, 10**9) <= BACKOFF[ErrorKind.UNAVAILABLE].longest_s * (1 + SPREAD)


def test_what_the_platform_asks_for_is_waited_for() -> None:
    """Also beyond the cap; less than the backoff changes nothing."""
    assert delay_s(ErrorKind.THROTTLED, 1, retry_after_s=300.0) >= 300.0
    assert delay_s(ErrorKind.THROTTLED, 5, retry_after_s=1.0) == delay_s(ErrorKind.THROTTLED, 5)


def test_what_failed_together_is_not_tried_together_and_alike_on_every_controller() -> None:
    delays = [delay_s(ErrorKind.UNAVAILABLE, 3, key=f"s{number}") for number in range(100)]
    assert delays == [delay_s(ErrorKind.UNAVAILABLE, 3, key=f"s{number}") for number in range(100)]
    assert len({round(delay, 1) for delay in delays}) > 10


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_it_is_due_when_the_delay_is_over(kind: ErrorKind) -> None:
    delay = delay_s(kind, 2, key="s1")
    assert not is_due(kind, 2, 1000.0, 1000.0, key="s1")
    assert not is_due(kind, 2, 1000.0, 1000.0 + delay * 0.99, key="s1")
    assert is_due(kind, 2, 1000.0, 1000.0 + delay * 1.01, key="s1")


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_a_change_is_a_reason_to_ask_what_would_not_have_passed(kind: ErrorKind) -> None:
    """A new key, a new node, a returned card; a platform that is busy is left alone."""
    assert is_due(kind, 1, 1000.0, 1000.0, has_changed=True) is not passes(kind)


def test_a_clock_that_went_back_does_not_stop_it() -> None:
    assert is_due(ErrorKind.REFUSED, 1, 1000.0, 900.0)
