"""Can this kernel make tunnels of a kind? Asked once, at start, in a throw-away namespace.

A host agent in a hardened unit may make none: it makes the tunnel where it is, never brings it up, and removes it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from proxypool.core.addressing import TUNNEL_DEVICE_PREFIX
from proxypool.core.errors import PermanentError
from proxypool.core.model import TunnelKind
from proxypool.core.tunnels import KERNEL_MODULE

CLONE_NEWNET = 0x40000000
DEVICE = f"{TUNNEL_DEVICE_PREFIX}probe"
NUMBER = (1 << 24) - 1
"""Of the VXLAN network: the last that anybody is given."""


def probe_tunnel(kind: TunnelKind) -> None:
    """Make and forget a tunnel of this kind. The thread that does it ends, and the namespace with it.

    Raises:
        PermanentError: the kernel cannot, or this process may not.
    """
    failure: list[Exception] = []

    def attempt() -> None:
        is_alone = ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
        if not is_alone and ctypes.get_errno() != errno.EPERM:
            failure.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
            return
        try:
            with IPRoute() as ip:
                _try(ip, kind, is_alone=is_alone)
        except (OSError, NetlinkError) as error:
            failure.append(error)

    thread = threading.Thread(target=attempt, name="probe")
    thread.start()
    thread.join()
    if failure:
        other = TunnelKind.VXLAN if kind is TunnelKind.GRE else TunnelKind.GRE
        raise PermanentError(
            f"this kernel cannot make {kind.value} tunnels ({failure[0]}): load the module with "
            f"`modprobe {KERNEL_MODULE[kind]}`, or use the other kind with `proxypool pool init --tunnel {other.value}`"
        )


def _try(ip: IPRoute, kind: TunnelKind, *, is_alone: bool) -> None:
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
