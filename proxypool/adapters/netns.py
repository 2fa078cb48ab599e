"""Which network namespace a thread is in: the two system calls that change it. No library but Python's own."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNET = 0x40000000
"""The kind of namespace, in setns, unshare and NS_GET_NSTYPE."""
_libc = ctypes.CDLL(None, use_errno=True)


def enter(fd: int) -> None:
    """Bring the calling thread into the network namespace of an open descriptor.

    Raises:
        OSError: it is none, or we may not.
    """
    _require(_libc.setns(fd, CLONE_NEWNET))


def enter_new() -> None:
    """Bring the calling thread into a network namespace that is made for it.

    Raises:
        OSError: we may not (EPERM), or there is no room.
    """
    _require(_libc.unshare(CLONE_NEWNET))


def _require(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
