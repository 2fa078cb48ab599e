"""Tests in here boot a guest: a throw-away kernel on this machine's file system."""

import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from proxypool.lab.guest.runner import UNSUPPORTED_PROCESSOR

ROOT = Path(__file__).parents[2]

RunInGuest = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run_in_guest() -> RunInGuest:
    """Return a function that runs this interpreter with the given arguments in a guest of its own."""
    if platform.machine() not in {"x86_64", "i686"}:
        pytest.skip(f"user-mode-linux exists for x86 only, this is {platform.machine()}")
    tried = subprocess.run(
        [sys.executable, "-m", "proxypool.lab.guest", "--timeout", "60", "--", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if UNSUPPORTED_PROCESSOR in tried.stderr:
        pytest.skip(UNSUPPORTED_PROCESSOR)

    def run(
        *arguments: str, memory: str = "1536M", timeout_s: float = 300, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = environment or {}
        guest = [sys.executable, "-m", "proxypool.lab.guest", "--mem", memory, "--timeout", str(timeout_s)]
        variables = [f"{name}={value}" for name, value in environment.items()]
        return subprocess.run(
            [*guest, "--cwd", str(ROOT), "--", "env", *variables, sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    return run
