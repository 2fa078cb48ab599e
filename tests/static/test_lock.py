"""The locks fit pyproject.toml and name nothing but packages, versions and hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("build", "dev", "runtime")
ALL = (*LOCKS, "audit")


def _locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ALL)
def test_a_lock_names_no_index_url_or_path(name: str) -> None:
    """Each line is a comment, a pinned package or a hash."""
    line_forms = re.compile(
        r"#.*|[a-z0-9-]+==[a-z0-9.!]+( ; [a-zA-Z_=!<>' .0-9]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?"
    )
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    assert [line for line in lines if not line_forms.fullmatch(line)] == []


def test_the_locks_fit_the_declared_ranges() -> None:
    """Somebody who changes a range in pyproject.toml has to run tools/lock."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = pyproject["dependency-groups"]
    declared = {
        "runtime": pyproject["project"]["dependencies"],
        "build": groups["build"],
        "audit": groups["audit"],
        "dev": [
            *pyproject["project"]["dependencies"],
            *groups["build"],
            *groups["test"],
            *groups["check"],
            *groups["dashboards"],
        ],
    }
    for name, requirements in declared.items():
        locked = _locked(name)
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), (name, str(requirement))


def test_what_is_tested_is_what_is_installed() -> None:
    """The three locks agree on every version they share."""
    dev = _locked("dev")
    for name in LOCKS:
        assert {package: dev.get(package) for package in _locked(name)} == _locked(name)
