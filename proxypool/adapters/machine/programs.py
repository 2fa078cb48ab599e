"""What is installed, and what it says of itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from proxypool.core.doctor.facts import Program
from proxypool.core.errors import TransientError

PATH = f"{os.defpath}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""People without root often have no sbin in theirs."""
VERSION_WITHIN_S = 3.0
_VERSION_OPTIONS = {"arping": "-V", "conntrackd": "-v", "ip": "-V"}


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and what it wrote."""

    code: int
    out: str
    err: str


def find(program: str) -> str:
    """Its path; empty: it is not installed."""
    return shutil.which(program) or shutil.which(program, path=PATH) or ""


def run(words: Sequence[str], timeout_s: float, *, max_bytes: int = 1 << 24) -> Said:
    """Run a program without input.

    Raises:
        TransientError: it is not installed, or did not end in time, and was killed.
    """
    path = find(words[0])
    if not path:
        raise TransientError(f"{words[0]} is not installed")
    try:
        done = subprocess.run(
            [path, *words[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{words[0]} did not end within {timeout_s:g} s") from error
    except OSError as error:
        raise TransientError(f"{path}: {error.strerror}") from error
    return Said(done.returncode, done.stdout[:max_bytes].decode(errors="replace"), done.stderr.decode(errors="replace"))


def examine(program: str) -> Program:
    """Where it is, and its version."""
    path = find(program)
    if not path:
        return Program()
    try:
        said = run([path, _VERSION_OPTIONS.get(program, "--version")], VERSION_WITHIN_S)
    except TransientError:
        return Program(path=path)
    return Program(path=path, version=next(iter((said.out + said.err).strip().splitlines()), ""))
