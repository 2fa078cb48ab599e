"""A run of the tests that is killed leaves nothing behind: at once, or until the next one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract import zk
from tests.contract.zk import wait_until
from tests.orphans import end_orphans, left_namespaces

ROOT = Path(__file__).parents[2]
SERVER = """
from tests.contract.zk import ZooKeeperServer
say(ZooKeeperServer(Path(sys.argv[1])).launch())
"""
PROMETHEUS = """
import subprocess
from tests.contract import test_scrape
real = subprocess.Popen
def told(*words, **options):
    process = real(*words, **options)
    say(process.pid)
    return process
subprocess.Popen = told
with test_scrape.prometheus(Path(sys.argv[1])):
    time.sleep(60)
"""
DETACHED = """
import subprocess
from tests.orphans import mark
mark(os.environ)
say(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
"""
"""As the product starts conntrackd."""


@contextmanager
def run_of_tests(program: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Something like pytest, and the pid of what it started. Whatever is still there at the end is killed."""
    head = "import os, sys, time\nfrom pathlib import Path\nsay = lambda pid: print(pid, flush=True)\n"
    words = [sys.executable, "-c", f"{head}{program}\ntime.sleep(60)", str(folder)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if is_there(child):
                os.kill(child, signal.SIGKILL)


def is_there(pid: int) -> bool:
    """Whether it runs; one that nobody has reaped does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            SERVER, id="zookeeper", marks=pytest.mark.skipif(not zk.is_available(), reason="needs ZooKeeper and Java")
        ),
        pytest.param(
            PROMETHEUS,
            id="prometheus",
            marks=pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus"),
        ),
    ],
)
def test_a_server_ends_with_whoever_started_it(program: str, tmp_path: Path) -> None:
    with run_of_tests(program, tmp_path) as (process, child):
        # Until then nobody has told the kernel whose death it is to follow.
        early = (b"setpriv", sys.executable.encode())
        wait_until(lambda: not Path(f"/proc/{child}/cmdline").read_bytes().startswith(early), "the server to run")
        assert is_there(child)
        process.kill()
        wait_until(lambda: not is_there(child), "the server to end")


def test_what_outlives_a_killed_run_is_ended_by_the_next(tmp_path: Path) -> None:
    """And what a run that goes on has started is not."""
    with run_of_tests(DETACHED, tmp_path) as (other, theirs), run_of_tests(DETACHED, tmp_path) as (process, child):
        process.kill()
        process.wait()
        assert is_there(child)
        ended = end_orphans()
        assert child in ended
        assert theirs not in ended
        wait_until(lambda: not is_there(child), "it to end")
        assert is_there(theirs)
        assert other.poll() is None


@pytest.mark.root
def test_namespaces_of_a_killed_run_are_known() -> None:
    """By the number of a process that is gone; not those of a run that goes on, nor others'."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f"left{gone.pid}a", f"left{os.getpid()}a", "left-for-others"]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        assert left_namespaces("left") == names[:1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)
