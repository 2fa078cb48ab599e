"""The static checks of ``make check``, so that one run of pytest is everything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    ["ruff format --check .", "ruff check .", "mypy", "lint-imports"],
)
def test_the_tree_passes(command: str) -> None:
    """The tool finds nothing to complain about."""
    program, *arguments = command.split()
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{command}:\n{done.stdout}", pytrace=False)
