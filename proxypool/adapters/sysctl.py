"""Values below /proc/sys/net of the namespace the thread is in, and handles that outlive the visit.

An open sysctl file stays with the namespace it was opened in, whoever reads it: one `pread` costs about a microsecond.
"""

from __future__ import annotations

import os

from proxypool.core.errors import TransientError
from proxypool.core.scene import Sysctl

ROOT = "/proc/sys/net"
_MAX_BYTES = 4096


def read_sysctl(path: str) -> str | None:
    """The value, None if the kernel has no such entry (a module not loaded, a device not there, IPv6 off)."""
    try:
        # Plain calls: a new namespace has a dozen of them, and a file object takes longer than the kernel.
        fd = os.open(f"{ROOT}/{path}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, _MAX_BYTES).decode("ascii").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def observe_sysctls(wanted: list[Sysctl]) -> list[Sysctl]:
    """The wanted entries as they are; one the kernel lacks is reported as wanted only where that is harmless.

    Without IPv6 in the kernel there is nothing to disable.
    """
    found = []
    for item in wanted:
        value = read_sysctl(item.path)
        if value is None and item.path.startswith("ipv6/") and not os.path.isdir(f"{ROOT}/ipv6"):
            value = item.value
        if value is not None:
            found.append(Sysctl(item.path, value))
    return found


def write_sysctl(item: Sysctl) -> None:
    """Set a value, unless it is set: in a container /proc/sys can be read and not written.

    Raises:
        TransientError: there is no such entry now, or the kernel refused.
    """
    if read_sysctl(item.path) == item.value:
        return
    try:
        fd = os.open(f"{ROOT}/{item.path}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, item.value.encode("ascii"))
        finally:
            os.close(fd)
    except OSError as error:
        raise TransientError(f"set sysctl {item.path}: {error.strerror}") from error


class SysctlHandle:
    """An entry of the namespace it was opened in, readable and writable from any thread."""

    def __init__(self, path: str, *, writable: bool = False) -> None:
        """Open it in the calling thread's namespace.

        Raises:
            TransientError: there is no such entry.
        """
        try:
            self._fd = os.open(f"{ROOT}/{path}", (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            raise TransientError(f"open sysctl {path}: {error.strerror}") from error

    def read(self) -> int:
        """The value."""
        return int(os.pread(self._fd, _MAX_BYTES, 0))

    def write(self, value: int) -> None:
        """Set the value."""
        os.pwrite(self._fd, str(value).encode(), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
