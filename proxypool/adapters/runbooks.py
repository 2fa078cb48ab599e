"""The runbooks of checks and findings: Markdown files of the checkout that this runs from, or of the installation."""

from __future__ import annotations

import sys
from pathlib import Path

KINDS = ("checks", "doctor", "upgrade")
"""Below docs/runbooks, and below share/proxypool/runbooks."""


def find_runbook(code: str) -> str | None:
    """The text about a code, None if none is installed."""
    checkout = Path(__file__).resolve().parents[2] / "docs" / "runbooks"
    for root in (checkout, Path(sys.prefix) / "share" / "proxypool" / "runbooks"):
        for kind in KINDS:
            try:
                return (root / kind / f"{code}.md").read_text(encoding="utf-8")
            except OSError:
                continue
    return None
