"""The documentation builds as a site, and what is wrong with it is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the site is made of, to be spoilt."""
    root = tmp_path / "copy"
    keep = shutil.ignore_patterns(".*", "__pycache__", "site", "out", "traces")
    shutil.copytree(ROOT, root, ignore=keep)
    return root


def test_the_site_builds_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """No warning; no script, style, font or picture of another server on any page."""
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"tutorial/lab", "how-to/kubernetes", "adr", "runbooks/checks/PP001", "reference/config"} <= {
        str(page.parent.relative_to(tmp_path)) for page in pages
    }
    assert [page for page in pages if ELSEWHERE.search(page.read_text())] == []


def test_what_is_wrong_ends_the_build(copy: Path) -> None:
    """Links to no page, no part of a page, no file of the repository; a page that is not in the navigation."""
    with (copy / "docs/how-to/drain.md").open("a") as page:
        page.write("\n[x](no-such-page.md) [x](upgrade.md#no-such-part) [x](../../no/such/file.py)\n")
    (copy / "docs/lonely.md").write_text("# Lonely\n")
    done = build(copy, copy.parent / "site")
    assert done.returncode != 0
    warned = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("INFO"))
    for complaint in ("no-such-page.md", "no-such-part", "no/such/file.py", "lonely.md"):
        assert complaint in warned, done.stderr


def test_a_section_grows_by_itself(copy: Path) -> None:
    """A page in a folder that the navigation takes as a whole needs no line there."""
    (copy / "docs/runbooks/alerts").mkdir(exist_ok=True)
    (copy / "docs/runbooks/alerts/SomethingIsWrong.md").write_text("# Something is wrong\n")
    done = build(copy, copy.parent / "site")
    assert done.returncode == 0, done.stderr
    assert "Something is wrong" in (copy.parent / "site/runbooks/index.html").read_text()
