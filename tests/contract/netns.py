"""Network namespaces of a test's own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter_new_namespace() -> None:
    """The calling thread goes into an empty namespace, which is gone when nothing is in it any more."""
    assert _libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def own_namespace() -> Iterator[None]:
    """The calling thread is in an empty namespace with loopback up, and comes back."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_new_namespace()
        run("ip", "link", "set", "lo", "up")
        yield
    finally:
        assert _libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


def run(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
