"""Which notifications are our own doing.

Most name the sender (`raw.OWN_PORT`); those of VXLAN's forwarding entries, and of neighbours that are gone, do not. So
of these what was written lately is remembered, for the moment that a notification takes.

Written on the dataplane thread, asked on the watch thread.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TypeAlias

from proxypool.adapters.netlink.decode import attributes
from proxypool.adapters.netlink.encode import NDA_DST, NDA_LLADDR, NEIGHBOUR_BODY

KEEP_S = 2.0
Entry: TypeAlias = tuple[int, int, int, bytes | None, bytes | None]
"""Namespace, message type, interface index, MAC (None for a neighbour) and address."""
_written: dict[Entry, float] = {}
"""-> when it is forgotten. If somebody writes the very same in that time, nothing is different from what we want."""


def current_namespace() -> int:
    """Of the calling thread."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def expect(namespace: int, kind: int, body: bytes) -> None:
    """This message about a forwarding entry or a neighbour is about to be sent."""
    _written[_entry(namespace, kind, body)] = time.monotonic() + KEEP_S


def forget_old() -> None:
    """What was written long ago; called once for many that are expected."""
    now = time.monotonic()
    for entry in [entry for entry, until in _written.items() if until < now]:
        del _written[entry]


def is_ours(namespace: int, kind: int, body: bytes) -> bool:
    """Whether a notification about one says what we wrote a moment ago."""
    return _written.get(_entry(namespace, kind, body), 0.0) > time.monotonic()


def _entry(namespace: int, kind: int, body: bytes) -> Entry:
    family, index, _, _, _ = NEIGHBOUR_BODY.unpack_from(body)
    found = attributes(body, NEIGHBOUR_BODY.size)
    mac = found.get(NDA_LLADDR) if family == socket.AF_BRIDGE else None
    return (namespace, kind, index, mac, found.get(NDA_DST))
