"""The manual pages are read by the program that shows them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "reference" / "man").glob("*.1"))


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man: apt-get install man-db")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_man_reads_it_without_a_warning(page: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "SYNOPSIS" in done.stdout


def test_there_are_some() -> None:
    assert PAGES
