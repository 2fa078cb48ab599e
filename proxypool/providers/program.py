"""Runs one program to its end: input, output and time are bounded, and nothing of it is left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

MAX_OUTPUT = 1 << 20
"""Bytes of standard output; more is refused."""
MAX_ERRORS = 64 << 10
"""Bytes of standard error; more is read and thrown away."""
_CHUNK = 1 << 16
_LOOK_S = 0.05
"""How often it is seen whether the program has ended, while something else holds its output open."""


class TimedOut(Exception):
    """It did not end in time, and was killed."""


class TooMuchOutput(Exception):
    """It wrote more than `MAX_OUTPUT`, and was killed."""


@dataclass(slots=True)
class Ended:
    """How it ended."""

    code: int = 0
    """Exit code; negative: the signal that ended it."""
    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)


def run(words: Sequence[str], data: bytes, environment: Mapping[str, str], timeout_s: float) -> Ended:
    """Run a program in a process group of its own, which is killed as a whole at the end, in whatever way it ends.

    Args:
        words: program and arguments; no shell reads them.
        data: for its standard input. A program that does not read it to the end is not wrong.
        environment: all of it.
        timeout_s: seconds from now.

    Raises:
        TimedOut: it was not done by then.
        TooMuchOutput: see `MAX_OUTPUT`.
        OSError: it could not be started.
    """
    deadline = time.monotonic() + timeout_s
    process = subprocess.Popen(
        list(words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        cwd="/",
        start_new_session=True,
    )
    try:
        ended = _talk(process, data, deadline)
    finally:
        # As long as it was not waited for, its number, and so its group's, cannot be anybody else's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in _pipes(process):
            pipe.close()
    ended.code = process.returncode
    return ended


def _talk(process: subprocess.Popen[bytes], data: bytes, deadline: float) -> Ended:
    """Until it has closed its outputs and ended."""
    stdin, stdout, stderr = _pipes(process)
    ended = Ended()
    rest = memoryview(data)
    with selectors.DefaultSelector() as selector:
        for pipe in (stdin, stdout, stderr):
            os.set_blocking(pipe.fileno(), False)
        selector.register(stdin.fileno(), selectors.EVENT_WRITE)
        selector.register(stdout.fileno(), selectors.EVENT_READ, ended.output)
        selector.register(stderr.fileno(), selectors.EVENT_READ, ended.errors)
        while True:
            if time.monotonic() >= deadline:
                raise TimedOut
            # Looked at before the pipes: what it wrote before its end is in them by then.
            has_ended = _has_ended(process)
            ready = selector.select(0 if has_ended else min(_LOOK_S, max(deadline - time.monotonic(), 0)))
            for key, _ in ready:
                if key.data is None:
                    rest = _write(selector, stdin, rest)
                else:
                    _read(selector, key.fd, key.data)
            if len(ended.output) > MAX_OUTPUT:
                raise TooMuchOutput
            del ended.errors[MAX_ERRORS:]
            if has_ended and not any(key.data is not None for key, _ in ready):
                return ended


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise AssertionError("all three were asked for")
    return process.stdin, process.stdout, process.stderr


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without collecting it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _write(selector: selectors.BaseSelector, pipe: IO[bytes], rest: memoryview) -> memoryview:
    try:
        rest = rest[os.write(pipe.fileno(), rest[:_CHUNK]) :]
    except BrokenPipeError:
        rest = rest[:0]
    if not rest:
        selector.unregister(pipe.fileno())
        pipe.close()
    return rest


def _read(selector: selectors.BaseSelector, fd: int, into: bytearray) -> None:
    chunk = os.read(fd, _CHUNK)
    into += chunk
    if not chunk:
        selector.unregister(fd)
