"""The configuration that is shipped for Prometheus, made quick for tests."""

from __future__ import annotations

import shutil
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "prometheus"
DISCOVERY = "http://127.0.0.1:9480/api/v1/prometheus/targets"
EVERY = "1s"
"""Scrapes, evaluations and discovery, instead of 15 and 30 s: a test waits for them."""


def quick_configuration(directory: Path, discovery: str = DISCOVERY) -> Path:
    """The shipped one with its rules, below `directory`. Nothing is changed but how often, and whom it asks."""
    shutil.copytree(SHIPPED / "rules", directory / "rules")
    text = (SHIPPED / "prometheus.yml").read_text()
    for slow in ("scrape_interval: 15s", "evaluation_interval: 15s", "scrape_timeout: 10s", "refresh_interval: 30s"):
        assert slow in text
        text = text.replace(slow, f"{slow.split(':')[0]}: {EVERY}")
    assert DISCOVERY in text
    path = directory / "prometheus.yml"
    path.write_text(text.replace(DISCOVERY, discovery))
    return path
