"""`systemctl reload`: a daemon is asked to read its configuration again, and whoever asked is told what came of it.

A signal has no answer, so the daemon writes one: a file in the directory that the service manager has made for its
unit. The units' ExecReload= is `python -I -m proxypool.daemons.reload_request ROLE`, which ends with 1 where the daemon
refused, or said nothing. It imports no library but Python's own: it is there in a moment, and needs no more rights than
to send a signal.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

DIRECTORY_VARIABLE = "RUNTIME_DIRECTORY"
"""Set by systemd for every process of a unit with RuntimeDirectory=; several directories have colons between them."""
PID_VARIABLE = "MAINPID"
"""Set by systemd for ExecReload=."""
ANSWER_S = 50.0
"""A call to ZooKeeper may keep the daemon from looking. Less than the units' TimeoutStartSec=, which holds here too."""
LOOK_S = 0.02


class Answers:
    """What a daemon says to who asks it to read its configuration again. Without a service manager nobody is told."""

    def __init__(self, path: Path | None) -> None:
        """Nothing is written."""
        self._path = path

    @classmethod
    def of_this_process(cls, role: str, environment: Mapping[str, str] = os.environ) -> Answers:
        """Where the environment says."""
        return cls(answer_path(role, environment))

    def give(self, refusal: str | None) -> None:
        """The configuration was read, or not, and why. Not to be able to write that stops no daemon."""
        if self._path is None:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_text(json.dumps({"pid": os.getpid(), "at": time.monotonic_ns(), "refusal": refusal}))
            new.rename(self._path)
        except OSError as error:
            log.warning("%s: nobody can be told what came of reading the configuration again: %s", self._path, error)


def answer_path(role: str, environment: Mapping[str, str]) -> Path | None:
    """Where the answers of a role's daemon are; None: there is no place for them."""
    directory = environment.get(DIRECTORY_VARIABLE, "").partition(":")[0]
    return Path(directory, f"{role}.reload") if directory else None


def ask(pid: int, path: Path, within_s: float = ANSWER_S) -> str | None:
    """Have a daemon read its configuration again, and wait for what it says.

    Returns:
        Why it goes on with the old one; None: it has taken the new one over.
    """
    before = _read(path)
    number = int(signal.SIGHUP)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, number)
        except OSError as error:
            return f"the daemon, process {pid}, does not hear: {error.strerror}"
        number = 0  # from now on only whether it is there
        text = _read(path)
        if text != before and (said := answer_of(pid, text)) is not None:
            return said["refusal"]
        time.sleep(LOOK_S)
    return f"the daemon has not said within {within_s:.0f} s what came of it: see its log"


def _read(path: Path) -> bytes | None:
    with suppress(OSError):
        return path.read_bytes()
    return None


def answer_of(pid: int, text: bytes | None) -> Mapping[str, str | None] | None:
    """What a process says in it; None: nothing, or it is another's."""
    with suppress(ValueError, RecursionError, TypeError, KeyError):
        found = json.loads(text or b"null")
        return {"refusal": found["refusal"]} if found["pid"] == pid else None
    return None


def main(words: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Entry of ExecReload=; 0: taken over, 1: not."""
    role, pid = " ".join(words), environment.get(PID_VARIABLE, "")
    path = answer_path(role, environment)
    if not role or not pid.isdecimal() or path is None:
        sys.stderr.write(
            f"for ExecReload= of a unit, with {PID_VARIABLE} and {DIRECTORY_VARIABLE} as systemd sets them\n"
        )
        return 1
    refusal = ask(int(pid), path)
    if refusal is not None:
        sys.stderr.write(f"{refusal}\n")
    return 0 if refusal is None else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
