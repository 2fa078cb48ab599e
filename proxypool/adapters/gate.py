"""The gate of one subnet: `ip_forward` of its namespace, written safely beside keepalived's notify lines.

The kernel's handler of `ip_forward` is not safe with two writers. When the RTNL lock is busy it puts the old value back
and starts the write anew; a second writer that comes in between finds its value there already and does nothing, and
the devices forward, or do not, as before, whatever `ip_forward` says (devinet_sysctl_forward in net/ipv4/devinet.c; a
third of all doubled writes under load went wrong in that way). So both writers take one file lock, and what the gate
*is* is read from the devices, which is what the kernel asks for each packet.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from proxypool.adapters.sysctl import SysctlHandle

LOCK_ATTEMPTS = 50
LOCK_PAUSE_S = 0.001
"""A notify line holds the lock for a few milliseconds."""


def remove_locks(directory: str, kept: Collection[str]) -> None:
    """Remove the locks of all subnets but these; of a subnet that has no namespace nobody needs one."""
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if name not in kept:
                Path(directory, name).unlink(missing_ok=True)


class Gate:
    """A gate, readable and writable from any thread."""

    def __init__(self, devices: tuple[str, ...], lock: str) -> None:
        """Open it in the calling thread's namespace, which is the subnet's.

        Raises:
            TransientError: a device is not there.
        """
        self._all = SysctlHandle("ipv4/ip_forward", writable=True)
        self._devices = [SysctlHandle(f"ipv4/conf/{device}/forwarding") for device in devices]
        Path(lock).parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> bool | None:
        """Open or closed; None: torn, the switch and the devices disagree.

        Raises:
            OSError: a device was removed; the gate must be opened anew.
        """
        values = {self._all.read(), *(device.read() for device in self._devices)}
        return bool(values.pop()) if len(values) == 1 else None

    def write(self, *, is_open: bool, attempts: int = LOCK_ATTEMPTS) -> None:
        """Open or close it; nothing is written where nothing is to be changed. There is a millisecond between two
        attempts to get the lock.

        Raises:
            BlockingIOError: a notify line holds the lock.
            OSError: a device was removed, or the kernel refused.
        """
        self._acquire(attempts)
        try:
            if self.read() is is_open:
                return
            self._all.write(int(is_open))
            if self.read() is not is_open:
                # The switch was there already, the devices were not: only a change of the switch moves them.
                self._all.write(int(not is_open))
                self._all.write(int(is_open))
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _acquire(self, attempts: int) -> None:
        for _ in range(attempts - 1):
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(LOCK_PAUSE_S)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Close the handles; the gate stays as it is."""
        os.close(self._lock)
        self._all.close()
        for device in self._devices:
            device.close()
