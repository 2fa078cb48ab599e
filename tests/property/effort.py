"""How hard property tests look: quick by default, `PROPERTY_EFFORT=50 pytest tests/property` for a thorough run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("PROPERTY_EFFORT", "1"))


def effort(examples: int) -> settings:
    """Settings for a test that is worth this many examples in every run. A loaded machine is no failure."""
    return settings(
        max_examples=examples * EFFORT,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
