"""How soon a silent master is replaced, and what that costs a node of many pairs."""

from __future__ import annotations

import pytest

from proxypool.core.detection import MAX_ADVERTS_PER_S, PROFILES, Detection, Profile, detection_of
from proxypool.core.role import PRIORITY_NORMAL


def test_quicker_profiles_come_first() -> None:
    silences = [PROFILES[profile].silence_ms() for profile in Profile]
    assert silences == sorted(silences)
    assert silences == [40, 50, 400]


def test_a_dead_master_is_replaced_within_60_ms_by_default() -> None:
    """All missing intervals and the skew time of the member that is not elected."""
    found = PROFILES[Profile.BALANCED]
    skew_ms = (256 - (PRIORITY_NORMAL + 1)) / 256 * found.advert_ms
    assert found.silence_ms() + skew_ms < 60


def test_five_percent_of_loss_end_no_living_master_in_half_an_hour_by_default() -> None:
    """The expected number of times in which so many advertisements in a row are lost."""
    found = PROFILES[Profile.BALANCED]
    assert 1800 * (1000 / found.advert_ms) * 0.05**found.missing < 0.1


@pytest.mark.parametrize(
    ("pairs", "interval_ms"), [(0, 10), (1, 10), (25, 10), (26, 20), (50, 20), (51, 30), (100, 40), (200, 80)]
)
def test_a_node_of_many_pairs_stretches_the_interval(pairs: int, interval_ms: int) -> None:
    found = PROFILES[Profile.BALANCED]
    assert found.interval_ms(pairs) == interval_ms
    assert pairs * 1000 / interval_ms <= MAX_ADVERTS_PER_S


def test_an_interval_that_is_long_enough_is_not_stretched() -> None:
    assert PROFILES[Profile.CONSERVATIVE].interval_ms(100) == 50
    assert PROFILES[Profile.CONSERVATIVE].interval_ms(200) == 80


def test_a_hundred_pairs_of_a_dead_node_are_noticed_within_a_quarter_of_a_second() -> None:
    assert PROFILES[Profile.BALANCED].silence_ms(100) == 200


def test_parts_of_a_profile_can_be_set() -> None:
    assert detection_of(Profile.BALANCED) == PROFILES[Profile.BALANCED]
    assert detection_of(Profile.BALANCED, 30) == Detection(30, 5, is_real_time=True)
    assert detection_of(Profile.CONSERVATIVE, None, 3) == Detection(50, 3, is_real_time=False)
