# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/detection.md from the profiles of detection: `python tools/gen_detection_docs.py`.

tests/unit/test_reference_docs.py fails when the page is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.core.detection import MAX_ADVERTS_PER_S, PROFILES  # noqa: E402 - the checkout must be found first

TARGET = ROOT / "docs" / "reference" / "detection.md"
PAIRS = (1, 25, 50, 100, 200, 255)


def render() -> str:
    """The whole page."""
    rows = "".join(
        f"| `{profile}` | {found.advert_ms} ms | {found.missing} | {found.silence_ms()} ms | "
        f"{'yes' if found.is_real_time else 'no'} |\n"
        for profile, found in PROFILES.items()
    )
    head = " | ".join(f"{pairs} pairs" if pairs > 1 else "1 pair" for pairs in PAIRS)
    stretched = "".join(
        f"| `{profile}` | {' | '.join(_stretched(found.interval_ms(n), found.silence_ms(n)) for n in PAIRS)} |\n"
        for profile, found in PROFILES.items()
    )
    return f"""# Detection profiles

Written by `tools/gen_detection_docs.py` from `proxypool/core/detection.py`; do not edit.

`node.detection` says how a silent master is noticed. The backup takes over when so many advertisements in a row are
missing; VRRP's skew time, less than one interval, comes on top. Why these: [ADR 14](../adr/0014-detection.md); what
they cost in false alarms was [measured](../measurements.md#failover).

| profile | advertisement every | missing | longest silence | real-time scheduling |
| --- | --- | --- | --- | --- |
{rows}
`node.advert_interval_ms` and `node.missing_adverts` override a profile's numbers. Both nodes of a pair should have the
same.

## Many pairs on a node

A node sends at most {MAX_ADVERTS_PER_S:,} advertisements a second for all its pairs together, so it stretches the
interval. Interval, and longest silence:

| profile | {head} |
| --- |{" --- |" * len(PAIRS)}
{stretched}"""


def _stretched(interval_ms: int, silence_ms: int) -> str:
    return f"{interval_ms}, {silence_ms} ms"


if __name__ == "__main__":
    TARGET.write_text(render())
