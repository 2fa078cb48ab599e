"""keepalived's processes, as /proc shows them to who may see them.

A daemon in a hardened unit may not: it sees no process that may do more than itself. It asks `adapters.outside`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

PID_FILES = ("/run/keepalived.pid", "/run/keepalived/keepalived.pid")
_STATE, _START_TIME = 0, 19
"""Fields of /proc/PID/stat after the name; the latter in ticks since boot, that of the machine and no container's."""


class KeepalivedProcess(Protocol):
    """What can be seen of the keepalived that runs here; None everywhere: there is none."""

    def pid(self) -> int | None:
        """Of its parent process."""

    def age_s(self) -> float | None:
        """How long ago the youngest of its processes began, in seconds.

        The one that does VRRP begins when there is something for it to do, which may be long after keepalived itself.
        """

    def vrrp_process(self, fifo: str) -> int | None:
        """The process that does VRRP: the one that has the notify fifo open.

        After a reboot keepalived may start before the directory of the fifo and the track files is there; then it
        drops both until its next reload, and there is none.
        """

    def is_stopped(self) -> bool:
        """Whether one of them was stopped (SIGSTOP, a debugger): it does nothing and keeps all it has."""


class ProcView:
    """In /proc."""

    def pid(self) -> int | None:
        """See `KeepalivedProcess`."""
        for path in PID_FILES:
            try:
                pid = int(Path(path).read_text())
                if "keepalived" in Path(f"/proc/{pid}/comm").read_text():
                    return pid
            except (OSError, ValueError):
                continue
        return None

    def age_s(self) -> float | None:
        """See `KeepalivedProcess`."""
        pid = self.pid()
        if pid is None:
            return None
        try:
            ticks = max(int(_stat(process)[_START_TIME]) for process in (pid, *_children(pid)))
        except OSError:
            return None
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")

    def vrrp_process(self, fifo: str) -> int | None:
        """See `KeepalivedProcess`."""
        pid = self.pid()
        if pid is None:
            return None
        return next((process for process in (*_children(pid), pid) if _has_open(process, fifo)), None)

    def is_stopped(self) -> bool:
        """See `KeepalivedProcess`."""
        pid = self.pid()
        return pid is not None and any(_is_stopped(process) for process in (pid, *_children(pid)))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_stopped(pid: int) -> bool:
    try:
        return _stat(pid)[_STATE] in {b"T", b"t"}
    except OSError:
        return False


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the name, which may have any character in it."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b") ")[2].split()


def _has_open(pid: int, path: str) -> bool:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") == path:
                return True
        except OSError:
            continue
    return False
