"""The guest runner: the command's output, status and files come out right, and nothing stays behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120), pytest.mark.usefixtures("run_in_guest")]

_RUNS = Path("/tmp")  # noqa: S108 # where the runner keeps its directories, not ours
# Each check prints a line if it fails.
_LOOK_AROUND = """
[ "$PWD" = "$EXPECTED_CWD" ]                                      || echo "starts in $PWD"
[ "$PROXYPOOL_ODD" = "a'b  c" ]                                   || echo "variable: $PROXYPOOL_ODD"
[ -z "$NOT_PASSED_ON" ]                                           || echo "a variable that was not named came in"
ip -V | grep -q iproute2                                          || echo "ip is not the machine's own"
[ ! -t 1 ] && [ ! -t 2 ]                                          || echo "output is a terminal"
[ "$(cat)" = "" ]                                                 || echo "input is not empty"
ip link add t0 type gre local 192.0.2.1 key 7                     || echo "no GRE"
[ "$(iptables-legacy -S | wc -l)" -ge 3 ]                         || echo "no iptables-legacy"
echo lost > "$EXPECTED_CWD/lost"                                  || echo "cannot write to the overlay"
echo kept > "$KEPT/kept"                                          || echo "cannot write to --rw"
sleep 1000 &
seq 1 100000 >&2
exit 7
"""


def _guest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxypool.lab.guest", *arguments]


def _leftovers() -> list[str]:
    """Processes of guests, by their command lines, and directories of runs."""
    found = [str(path) for path in _RUNS.glob("proxypool-guest-*")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "linux.uml" in line:
            found.append(line)
    return found


def _wait_until_clean(before: list[str]) -> list[str]:
    deadline = time.monotonic() + 5
    while (left := [item for item in _leftovers() if item not in before]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def test_a_command_meets_this_machine_and_only_named_directories_keep_what_it_writes(tmp_path: Path) -> None:
    """Environment, directory, programs, GRE; both outputs in full and apart; the exit status; no trace afterwards."""
    before = _leftovers()
    here, kept = tmp_path / "here", tmp_path / "kept"
    here.mkdir()
    kept.mkdir()
    environment = {**os.environ, "EXPECTED_CWD": str(here), "KEPT": str(kept)}
    environment |= {"PROXYPOOL_ODD": "a'b  c", "NOT_PASSED_ON": "x"}
    options = ("--cwd", str(here), "--rw", str(kept), "--env", "EXPECTED_CWD", "--env", "KEPT")
    done = subprocess.run(
        _guest(*options, "--", "sh", "-c", _LOOK_AROUND),
        env=environment,
        cwd=Path(__file__).parents[2],
        input="for nobody",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.stderr == "".join(f"{number}\n" for number in range(1, 100001))
    assert done.returncode == 7
    assert not (here / "lost").exists()
    assert (kept / "kept").read_text() == "kept\n"
    assert _wait_until_clean(before) == []


def test_a_timeout_ends_everything() -> None:
    """Status 124, a sentence, and no process left."""
    before = _leftovers()
    done = subprocess.run(_guest("--timeout", "4", "--", "sleep", "1000"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (124, "guest: the command was still running after 4 s\n")
    assert _wait_until_clean(before) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_to_the_runner_ends_everything(number: signal.Signals, status: int) -> None:
    """Even SIGKILL, which the runner cannot handle, leaves no process; only then a small directory stays."""
    before = _leftovers()
    # The shell may have been told to ignore SIGINT, and with it all its children.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        runner = subprocess.Popen(_guest("--", "sh", "-c", "echo up; sleep 1000"), stdout=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert runner.stdout is not None
    with runner.stdout:
        assert runner.stdout.readline() == b"up\n"
        runner.send_signal(number)
        assert runner.wait(timeout=10) == status
    if number is signal.SIGKILL:
        for item in _leftovers():
            if item not in before and item.startswith(str(_RUNS)):
                shutil.rmtree(item)
    assert _wait_until_clean(before) == []


def test_what_cannot_be_done_is_one_sentence() -> None:
    """A directory that is not there, a size that is none."""
    for arguments, sentence in [
        (("--cwd", "/nowhere"), "'/nowhere' is not a directory"),
        (("--mem", "lots"), "'lots' is not a size such as 1536M or 2G"),
    ]:
        done = subprocess.run(_guest(*arguments, "--", "true"), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith(sentence)
