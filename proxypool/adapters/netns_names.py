"""Names of network namespaces: each is a mount in /run/netns, as `ip netns` makes them. Two ways to make one.

Who has the machine's own mounts makes them itself (`Mounts`). A daemon in a hardened unit has mounts of its own, which
nobody else would see; it asks `adapters.outside`.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from errno import EINVAL
from typing import Protocol

NAMESPACE_DIR = "/run/netns"
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x100000
MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def namespace_path(name: str) -> str:
    """Where a namespace is mounted."""
    return f"{NAMESPACE_DIR}/{name}"


class Names(Protocol):
    """Who gives and takes names."""

    def give(self, name: str, fd: int) -> None:
        """Name the namespace of an open descriptor. A file of this name that is no namespace is replaced.

        Raises:
            OSError: it cannot be mounted.
        """

    def take(self, name: str) -> None:
        """Take the name away; an absent one is fine.

        Raises:
            OSError: it cannot be unmounted.
        """


class Mounts:
    """By the caller, in its own mount namespace."""

    def give(self, name: str, fd: int) -> None:
        """See `Names`."""
        _share_directory()
        path = namespace_path(name)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        try:
            _mount(f"/proc/self/fd/{fd}", path, MS_BIND)
        except OSError:
            os.unlink(path)
            raise

    def take(self, name: str) -> None:
        """See `Names`."""
        path = namespace_path(name)
        if not os.path.lexists(path):
            return
        # EINVAL: a crash left a plain file.
        if _libc.umount2(path.encode(), MNT_DETACH) != 0 and ctypes.get_errno() != EINVAL:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.unlink(path)


def _share_directory() -> None:
    """A name must be seen in every other mount namespace, and must be gone there when it is taken away."""
    with suppress(FileExistsError):
        os.mkdir(NAMESPACE_DIR)
        # Whatever our umask is: others look in there, and nothing in it is secret.
        os.chmod(NAMESPACE_DIR, 0o755)  # noqa: S103 - as `ip netns` makes it
    try:
        _mount("", NAMESPACE_DIR, MS_SHARED | MS_REC)
    except OSError as error:
        if error.errno != EINVAL:
            raise
        # It is no mount yet.
        _mount(NAMESPACE_DIR, NAMESPACE_DIR, MS_BIND | MS_REC)
        _mount("", NAMESPACE_DIR, MS_SHARED | MS_REC)


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), b"none", ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
