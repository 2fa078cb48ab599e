"""`systemctl reload` asks a daemon, and fails with the daemon's own words where it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from proxypool.daemons.reload_request import DIRECTORY_VARIABLE, PID_VARIABLE, Answers, answer_of, ask, main

DAEMON = """
import signal, sys
from proxypool.daemons.reload_request import Answers
answers, *words = Answers.of_this_process("node"), *sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
print("ready", flush=True)
for word in words:
    signal.sigwait([signal.SIGHUP])
    if word.startswith("raw "):
        answers._path.write_text(word[4:])
    else:
        answers.give(word or None)
"""
"""Gives an answer for each SIGHUP, and ends with the last one."""


class Daemon:
    """Something that reads its configuration again, or says that it does."""

    def __init__(self, directory: Path, *answers: str) -> None:
        words = [sys.executable, "-c", DAEMON, *answers]
        environment = {**os.environ, DIRECTORY_VARIABLE: f"{directory}:/elsewhere"}
        self.process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def asked(daemon: Daemon, directory: Path) -> subprocess.CompletedProcess[str]:
    """As a unit's ExecReload= runs it."""
    environment = {
        PID_VARIABLE: str(daemon.process.pid),
        DIRECTORY_VARIABLE: str(directory),
        "PATH": os.environ["PATH"],
    }
    words = [sys.executable, "-I", "-m", "proxypool.daemons.reload_request", "node"]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_what_the_daemon_says_is_the_outcome(tmp_path: Path) -> None:
    """Also when it refuses twice with the same words, and takes it over in the end."""
    why = "the old one stays in force: node.underlay cannot be changed"
    with Daemon(tmp_path, "", why, why, "") as daemon:
        found = [asked(daemon, tmp_path) for _ in range(4)]
    assert [one.returncode for one in found] == [0, 1, 1, 0]
    assert [one.stderr for one in found] == ["", f"{why}\n", f"{why}\n", ""]


def test_what_the_daemon_before_says_is_no_answer(tmp_path: Path) -> None:
    """Though it comes while we wait."""
    path, text = tmp_path / "node.reload", '{"pid": 1, "refusal": null}'
    with Daemon(tmp_path, f"raw {text}") as daemon:
        assert "has not said within 1 s" in (ask(daemon.process.pid, path, within_s=1.0) or "")
        daemon.process.wait(10)
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", "nonsense", '{"pid": 7', "[]", "7", '{"pid": 7}', "[" * 100_000, None])
def test_what_is_no_answer_is_passed_over(text: str | None) -> None:
    assert answer_of(7, None if text is None else text.encode()) is None


def test_a_daemon_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with Daemon(tmp_path, "-") as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        daemon.process.wait(10)
    assert "No such process" in asked(daemon, tmp_path).stderr


def test_a_daemon_that_ends_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    with Daemon(tmp_path, "-", "-") as daemon, ThreadPoolExecutor() as pool:
        path = tmp_path / "node.reload"
        daemon.process.send_signal(signal.SIGSTOP)
        told = pool.submit(ask, daemon.process.pid, path, within_s=60.0)
        daemon.process.kill()
        daemon.process.wait(10)
        assert "No such process" in (told.result(30) or "")


@pytest.mark.parametrize("missing", [PID_VARIABLE, DIRECTORY_VARIABLE])
def test_without_systemd_there_is_nobody_to_ask(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no process is told anything."""
    environment = {PID_VARIABLE: str(os.getpid()), DIRECTORY_VARIABLE: str(tmp_path)}
    del environment[missing]
    assert main(["node"], environment) == 1
    assert missing in capsys.readouterr().err


def test_a_place_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And where there is none nobody is told, and nothing said."""
    Answers(tmp_path / "not there" / "node.reload").give(None)
    assert "nobody can be told" in caplog.text
    caplog.clear()
    Answers(None).give("why")
    assert caplog.text == ""
