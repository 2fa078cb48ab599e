"""What the tutorial and the how-to pages tell people to type does what they say, in a lab, in their order."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool.lab.lab import Lab, remove
from tests.docs_pages import ANYTHING, HOW_TO, TUTORIAL, Command, commands, pattern_of
from tests.lab.conftest import show_logs
from tests.lab.observe import IN_GUEST

PATIENCE_S = 45
ROOT = Path(__file__).parents[2]
LAB = ".venv/bin/proxypool lab "

pytestmark = pytest.mark.skipif(IN_GUEST, reason="the pages are about a lab on this machine")


@pytest.fixture
def name() -> Iterator[str]:
    """Of a lab that the pages make; whatever they leave is gone afterwards."""
    lab = f"docs-{os.getpid()}"
    remove(lab)
    yield lab
    remove(lab)


def type_in(command: Command, lab: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a page where it is to be typed; in a machine as `lab exec` does, without its start."""
    if command.machine:
        machine = Lab.attach(lab).machine(command.machine)
        return machine.run(["sh", "-c", command.text], check=False, timeout=PATIENCE_S)
    assert command.text.startswith(LAB), f"only `{LAB}…` is run in the checkout"
    verb, *rest = shlex.split(command.text.removeprefix(LAB))
    words = [sys.executable, "-m", "proxypool", "lab", verb, "--name", lab, *rest]
    return subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False, stdin=subprocess.DEVNULL
    )


def check(command: Command, done: subprocess.CompletedProcess[str]) -> None:
    """It ends well, and prints what the page shows, but for numbers."""
    told = f"{command}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, told
    printed = {pattern_of(line) for line in (done.stdout + done.stderr).splitlines()}
    for line in command.shown:
        assert line.strip() == ANYTHING or pattern_of(line) in printed, f"{line!r} is not in\n{told}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pages", [pytest.param(TUTORIAL, id="tutorial"), pytest.param(HOW_TO, id="how-to")])
def test_what_the_pages_say_works(pages: tuple[Path, ...], name: str) -> None:
    run = [command for command in commands(pages) if not command.why_not]
    assert len(run) > 10
    try:
        for command in run:
            check(command, type_in(command, name))
    except AssertionError:
        if Lab.exists(name):
            show_logs(Lab.attach(name))
        raise
