"""Processes of a run of the tests that was killed: the next run ends them.

Servers that tests start themselves end with them (`proxypool.lab.processes.DIES_WITH_US`). But conntrackd, for one, is
started by the product, to outlive whoever started it. So every process of a run carries in its environment whose it is;
those of a lab do not, and are found by the lab's own mark.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

MARK = "RUN_OF_PROXYPOOL_TESTS"
_MARKED = re.compile(rf"(?:^|\0){MARK}=(\d+)-(\d+)(?:\0|$)".encode())
_NAMED = re.compile(r"\d+")


def mark(environment: MutableMapping[str, str]) -> None:
    """Whatever this process starts from now on is of its run."""
    environment[MARK] = f"{os.getpid()}-{_start_of(os.getpid())}"


def end_orphans() -> list[int]:
    """Kill processes of runs whose own process is gone; their pids."""
    ended = []
    for pid, owner, start in _marked():
        if pid == os.getpid() or _start_of(owner) == start:
            continue
        with suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                # Once more, behind the descriptor: the number may be another process' by now.
                if (pid, owner, start) in _marked(pid):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    ended.append(pid)
            finally:
                os.close(fd)
    return ended


def left_namespaces(prefix: str) -> list[str]:
    """Names of network namespaces that begin with a prefix and the pid of a process that is gone."""
    places = Path("/run/netns")
    names = [path.name for path in places.iterdir()] if places.exists() else []
    found = ((name, _NAMED.match(name.removeprefix(prefix))) for name in names if name.startswith(prefix))
    return [name for name, pid in found if pid is not None and _start_of(int(pid[0])) is None]


def _marked(*pids: int) -> Iterator[tuple[int, int, int]]:
    """Pid, and pid and start of the owner, of every marked process, or of these if they are marked."""
    for pid in pids or [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        with suppress(OSError):
            found = _MARKED.search(Path(f"/proc/{pid}/environ").read_bytes())
            if found is not None:
                yield pid, int(found[1]), int(found[2])


def _start_of(pid: int) -> int | None:
    """When a process started, in clock ticks after boot: with the pid, that names it for ever. None: it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
