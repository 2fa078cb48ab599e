"""How hard property tests look. By default quickly, and at the same examples each time: whether a change is good must not
be a matter of luck. `PROPERTY_EFFORT=50 pytest tests/property` searches, at random and thoroughly.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("PROPERTY_EFFORT", "1"))


def effort(examples: int) -> settings:
    """Settings for a test that is worth this many examples in every run. A loaded machine is no failure."""
    return settings(
        max_examples=examples * EFFORT,
        deadline=None,
        derandomize=EFFORT == 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
