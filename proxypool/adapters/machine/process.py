"""Which daemon runs on this machine, and what it may do. Reads /proc."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from proxypool.core.doctor.facts import DaemonRole

_LOCK = re.compile(r"(\w+), pid (\d+)")
NUMBERS = {
    "CHOWN": 0,
    "NET_BIND_SERVICE": 10,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_MODULE": 16,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "SYS_RESOURCE": 24,
    "BPF": 39,
}
"""Of capabilities(7), those that matter to us."""


def capabilities(pid: int | str = "self") -> frozenset[str]:
    """The effective ones of a process.

    Raises:
        OSError: there is no such process.
    """
    text = Path(f"/proc/{pid}/status").read_text()
    mask = next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:"))
    return frozenset(name for name, number in NUMBERS.items() if mask >> number & 1)


def daemon_pid(role: DaemonRole, run_dir: Path) -> int | None:
    """Process id of the daemon of this role; None: none runs.

    Nodes and hosts have a lock with their process id; controllers are looked for among all processes.

    Raises:
        OSError: the lock cannot be read.
    """
    if role is not DaemonRole.CONTROLLER:
        try:
            found = _LOCK.match((run_dir / "daemon.lock").read_text())
        except FileNotFoundError:
            return None
        if found is not None and found[1] == role.value and _is_daemon(int(found[2]), role):
            return int(found[2])
        return None
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return next((pid for pid in pids if _is_daemon(pid, role)), None)


def _is_daemon(pid: int, role: DaemonRole) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    pairs = list(pairwise(words))
    return ("run", role.value) in pairs and any("proxypool" in word for word in words[:3])
