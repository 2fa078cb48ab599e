# ruff: noqa: INP001 - tools are no package
"""What the Debian package is made for, and the wheels it is made of. Used by `tools/build_deb.py`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxypool import __version__

ROOT = Path(__file__).parents[1]
PREFIX = "opt/proxypool"
PYTHON = "/usr/bin/python3"
"""The distribution's, which the package depends on; not the one that runs this."""
WHEEL_INPUTS = ("pyproject.toml", "README.md", "proxypool", "docs/reference/man", "docs/runbooks/checks")


class Failed(Exception):
    """The package cannot be made; the text says why and what to do."""


@dataclass(frozen=True)
class Target:
    """What the package is made for: this machine's architecture and interpreter."""

    architecture: str
    python: str
    """As `3.11`."""
    libc: str
    epoch: int
    """Time of every file, in seconds since 1970."""

    @property
    def libraries(self) -> str:
        """Where Python packages are, below the root."""
        return f"{PREFIX}/lib/python{self.python}/site-packages"


def say(text: str) -> None:
    """Progress, for whoever waits."""
    sys.stderr.write(f"deb: {text}\n")


def run(*words: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """What a program prints.

    Raises:
        Failed: it is not there, or ends with an error.
    """
    try:
        done = subprocess.run(
            words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise Failed(f"{words[0]} is not installed") from error
    if done.returncode:
        raise Failed(f"{' '.join(map(str, words[:4]))} … failed:\n{done.stderr.strip()[-2000:] or done.stdout[-2000:]}")
    return done.stdout


def examine() -> Target:
    """What this machine is.

    Raises:
        Failed: it has no interpreter that fits, or not what python-iptables is compiled with.
    """
    question = """import os, sys, sysconfig
print("%d.%d" % sys.version_info[:2], os.path.join(sysconfig.get_path("include"), "Python.h"))"""
    python, header = run(PYTHON, "-c", question).split()
    if tuple(map(int, python.split("."))) < (3, 11):
        raise Failed(f"{PYTHON} is Python {python}; 3.11 or newer is needed")
    if not Path(header).exists() or not shutil.which("gcc"):
        raise Failed("python-iptables is compiled: apt-get install python3-dev gcc libc6-dev")
    libc = (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    return Target(run("dpkg", "--print-architecture").strip(), python, libc, _epoch())


def _epoch() -> int:
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    try:
        return int(run("git", "log", "-1", "--format=%ct"))
    except Failed:
        return int((ROOT / "pyproject.toml").stat().st_mtime)


def debian_version(version: str) -> str:
    """As Debian orders versions: 1.0rc1 and 1.0.dev1 are older than 1.0."""
    return re.sub(r"\.?(dev|a|b|rc)(?=\d)", r"~\1", version)


# -- wheels ------------------------------------------------------------------------------------------------------------


@contextmanager
def pip_of(python: str | Path, *requirements: Path) -> Iterator[Path]:
    """An interpreter in an environment of its own that has these locked requirements, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="proxypool-deb-") as folder:
        run(python, "-m", "venv", "--without-pip", folder)
        inside = Path(folder, "bin", "python")
        for lock in requirements:
            pip(inside, "install", "--require-hashes", "--no-build-isolation", "-r", lock)
        yield inside


def pip(python: Path, *words: str | Path, **environment: str) -> None:
    """Run the pip of the environment that runs this, for another interpreter."""
    options = ("--disable-pip-version-check", "--no-input")
    run(sys.executable, "-m", "pip", "--python", python, *options, *words, **environment)


def locked_wheels(target: Target) -> Path:
    """The directory with a wheel of everything in requirements/runtime.txt, made if it is not in the cache."""
    locks = [ROOT / "requirements" / name for name in ("build.txt", "runtime.txt")]
    key = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "proxypool", "wheels")
    folder = cache / f"{target.architecture}-python{target.python}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            say(f"wheels for Python {target.python}")
            new = Path(tempfile.mkdtemp(dir=cache))
            with pip_of(PYTHON, locks[0]) as python:
                # pip's own cache may have what another interpreter compiled, with a path to that one's libraries; and
                # debugging information would name the directory in which it was compiled.
                options = (
                    "--no-cache-dir",
                    "--require-hashes",
                    "--no-build-isolation",
                    "--no-deps",
                    "-w",
                    new,
                    "-r",
                    locks[1],
                )
                pip(python, "wheel", *options, CFLAGS="-g0")
            new.rename(folder)
    return folder


def own_wheel(version: str, folder: Path) -> None:
    """Put a wheel of this tree, with that version, into a folder."""
    with tempfile.TemporaryDirectory(prefix="proxypool-deb-") as copy:
        for name in WHEEL_INPUTS:
            source, there = ROOT / name, Path(copy, name)
            there.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, there, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, there)
        init = Path(copy, "proxypool", "__init__.py")
        init.write_text(init.read_text().replace(f'"{__version__}"', f'"{version}"'))
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=Path(copy))
