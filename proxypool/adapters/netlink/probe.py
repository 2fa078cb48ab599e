"""What can this kernel do? Asked once, at start, in a throw-away namespace.

A host agent in a hardened unit may make none: it makes the tunnel where it is, never brings it up, and removes it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from proxypool.adapters.netlink.source_guard import put_guard
from proxypool.adapters.netns import enter_new
from proxypool.core.addressing import TUNNEL_DEVICE_PREFIX
from proxypool.core.errors import PermanentError
from proxypool.core.model import TunnelKind
from proxypool.core.scene import SourceGuard
from proxypool.core.tunnels import KERNEL_MODULE

DEVICE = f"{TUNNEL_DEVICE_PREFIX}probe"
NUMBER = (1 << 24) - 1
"""Of the VXLAN network: the last that anybody is given."""


def probe_tunnel(kind: TunnelKind) -> None:
    """Make and forget a tunnel of this kind. The thread that does it ends, and the namespace with it.

    Raises:
        PermanentError: the kernel cannot, or this process may not.
    """
    failure = _attempt(lambda is_alone: _try(kind, is_alone=is_alone))
    if failure is not None:
        other = TunnelKind.VXLAN if kind is TunnelKind.GRE else TunnelKind.GRE
        raise PermanentError(
            f"this kernel cannot make {kind.value} tunnels ({failure}): load the module with "
            f"`modprobe {KERNEL_MODULE[kind]}`, or use the other kind with `proxypool pool init --tunnel {other.value}`"
        )


def can_guard_sources() -> bool:
    """Whether a device can have a filter on its way out (`source_guard`), and this process may make it."""

    def act(is_alone: bool) -> None:  # noqa: FBT001 - as `_attempt` calls it
        if not is_alone:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        put_guard(SourceGuard("lo", frozenset()))

    return _attempt(act) is None


def _attempt(act: Callable[[bool], None]) -> Exception | None:
    """What went wrong, if anything, in a thread of its own. It is told whether it is in a namespace of its own."""
    failure: list[Exception] = []

    def attempt() -> None:
        try:
            act(_is_alone())
        except (OSError, NetlinkError) as error:
            failure.append(error)

    thread = threading.Thread(target=attempt, name="probe")
    thread.start()
    thread.join()
    return failure[0] if failure else None


def _is_alone() -> bool:
    """Whether the thread is in a namespace of its own now; False: this process may make none."""
    try:
        enter_new()
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        return False
    return True


def _try(kind: TunnelKind, *, is_alone: bool) -> None:
    with IPRoute() as ip:
        try:
            ip.link("add", ifname=DEVICE, kind=kind.value, **_arguments(kind))
        except NetlinkError as error:
            # Somebody has one of the same number, or what a crash left has the name: the kernel can.
            if error.code != errno.EEXIST:
                raise
        if not is_alone:
            for index in ip.link_lookup(ifname=DEVICE):
                ip.link("del", index=index)


def _arguments(kind: TunnelKind) -> dict[str, object]:
    if kind is TunnelKind.GRE:
        return {"gre_local": "192.0.2.1"}
    return {"vxlan_id": NUMBER, "vxlan_local": "192.0.2.1", "vxlan_port": 4789}
