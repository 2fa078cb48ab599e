"""Can this kernel make tunnels of a kind? Asked once, at start, in a throw-away namespace."""

from __future__ import annotations

import ctypes
import os
import threading

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from proxypool.core.errors import PermanentError
from proxypool.core.model import TunnelKind
from proxypool.core.tunnels import KERNEL_MODULE

CLONE_NEWNET = 0x40000000


def probe_tunnel(kind: TunnelKind) -> None:
    """Make and forget a tunnel of this kind. The thread that does it ends, and the namespace with it.

    Raises:
        PermanentError: the kernel cannot, or this process may not.
    """
    failure: list[Exception] = []

    def attempt() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            failure.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
            return
        try:
            with IPRoute() as ip:
                ip.link("add", ifname="probe", kind=kind.value, **_arguments(kind))
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


def _arguments(kind: TunnelKind) -> dict[str, object]:
    if kind is TunnelKind.GRE:
        return {"gre_local": "192.0.2.1"}
    return {"vxlan_id": 1, "vxlan_local": "192.0.2.1", "vxlan_port": 4789}
