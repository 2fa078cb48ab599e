"""Packages of this tree, and machines to install them on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool import __version__
from tests.package.clean_root import CannotMake, Machine, clean_root, machine, packages_of

ROOT = Path(__file__).parents[2]
NEXT = "99.0"


def build(folder: Path, version: str = __version__, **environment: str) -> Path:
    """Make a package as `make deb` does, but quickly."""
    words = [sys.executable, "tools/build_deb.py", f"--output={folder}", "--compression=none", f"--version={version}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (package,) = folder.glob(f"*_{version}_*.deb")
    return package


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this tree."""
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def next_deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the same tree as the version after this one."""
    return build(tmp_path_factory.mktemp("next"), NEXT)


@pytest.fixture(scope="session")
def base(deb: Path) -> Path:
    """Debian with everything that the package asks for."""
    try:
        return clean_root(packages_of(deb))
    except CannotMake as error:
        pytest.skip(str(error))


@pytest.fixture
def clean(base: Path, tmp_path: Path) -> Iterator[Machine]:
    """A clean machine."""
    with machine(base, tmp_path / "disk") as made:
        yield made
