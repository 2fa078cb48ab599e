"""Named network namespaces (`/run/netns`), entered by the calling thread only.

A namespace is ours if its name has our prefix. `Home` is the namespace the daemon was started in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from proxypool.adapters.netlink.encode import encode_link
from proxypool.adapters.netlink.errors import translated
from proxypool.adapters.netlink.raw import RawSocket
from proxypool.adapters.netns import enter, enter_new
from proxypool.adapters.netns_names import NAMESPACE_DIR, Mounts, Names, namespace_path
from proxypool.core.addressing import NAMESPACE_PREFIX
from proxypool.core.errors import PermanentError

NAMESPACE_MARK = "proxypool"
"""Alias of the loopback in a namespace of ours: the proof that we made it."""

IPV6_DEFAULTS = "/proc/sys/net/ipv6/conf/default"
LOOPBACK = 1
"""Index of the loopback in every namespace."""


class Home:
    """The daemon's own namespace, kept open so that a thread can always come back."""

    def __init__(self, names: Names | None = None) -> None:
        """Open the calling thread's namespace. `names`: who names others; None: we do."""
        self.names = names or Mounts()
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._inode = os.fstat(self.fd).st_ino

    @contextmanager
    def inside(self, namespace: str | None) -> Iterator[None]:
        """Run the block with the calling thread in a namespace; None: at home.

        Raises:
            TransientError: the namespace is not there.
            PermanentError: the name leads to the machine's own namespace.
        """
        if namespace is None:
            yield
            return
        with translated(f"enter namespace {namespace}"):
            fd = os.open(namespace_path(namespace), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_ino == self._inode:
                raise PermanentError(f"{namespace_path(namespace)} is this machine's own namespace: remove the file")
            with translated(f"enter namespace {namespace}"):
                enter(fd)
            try:
                yield
            finally:
                enter(self.fd)
        finally:
            os.close(fd)


def namespace_exists(name: str) -> bool:
    """Whether the name is there and really a namespace (a crash can leave a plain file)."""
    return namespace_inode(name) is not None


def namespace_inode(name: str) -> int | None:
    """Which namespace has the name now; None if none has. Another one may have taken it since the last look."""
    try:
        found = os.stat(namespace_path(name))
        return found.st_ino if found.st_dev != os.stat(NAMESPACE_DIR).st_dev else None
    except OSError:
        return None


def list_namespaces() -> list[str]:
    """Names of our namespaces."""
    try:
        return sorted(name for name in os.listdir(NAMESPACE_DIR) if name.startswith(NAMESPACE_PREFIX))
    except FileNotFoundError:
        return []


def create_namespace(home: Home, name: str) -> None:
    """Make a namespace and mark it as ours. One that exists without a mark is marked.

    Raises:
        TransientError, PermanentError: the kernel refused.
    """
    with translated(f"create namespace {name}"):
        if not namespace_exists(name):
            try:
                enter_new()
                _name_own(name, home.names)
            finally:
                enter(home.fd)
        with home.inside(name), RawSocket() as netlink:
            _keep_ipv6_quiet()
            netlink.require([encode_link(LOOPBACK, is_up=True, alias=NAMESPACE_MARK)])


def _name_own(name: str, names: Names) -> None:
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        names.give(name, fd)
    finally:
        os.close(fd)


def _keep_ipv6_quiet() -> None:
    """A card that is moved in takes this default; else it would announce itself before we configure it."""
    if os.path.isdir(IPV6_DEFAULTS):
        with open(f"{IPV6_DEFAULTS}/disable_ipv6", "w", encoding="ascii") as file:
            file.write("1")


def remove_namespace(name: str, names: Names | None = None) -> None:
    """Remove a namespace; an absent one is fine. Its card must have been given back before. `names`: as of `Home`.

    Raises:
        TransientError: it is busy.
    """
    if not os.path.exists(namespace_path(name)):
        return
    with translated(f"remove namespace {name}"):
        (names or Mounts()).take(name)
