"""One daemon per machine: a node and a host would undo each other's work.

The lock is released by the kernel when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from proxypool.core.errors import PermanentError


def acquire(run_dir: Path, role: str) -> int:
    """Take the lock for the life of the process. Returns the descriptor, which must stay open.

    Raises:
        PermanentError: another daemon runs here, or the directory cannot be written.
    """
    path = run_dir / "daemon.lock"
    try:
        run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PermanentError(f"cannot write {path}: {error.strerror}: run as root") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise PermanentError(f"a proxypool daemon runs on this machine already ({holder or 'unknown'})") from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{role}, pid {os.getpid()}\n".encode(), 0)
    return fd
