"""A filter on a card's way out: what does not come from one of a few addresses does not leave.

It belongs to the device (`clsact`, before the driver), so no iptables command reaches it, and it holds while tables
are flushed. A classic BPF program (linux/filter.h) that says itself what becomes of a packet (cls_bpf, direct action):
no system call but rtnetlink's is needed, and the kernel lists the program as it was given. Formats: linux/pkt_cls.h,
pkt_sched.h, rtnetlink.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from proxypool.adapters.netlink.decode import attributes
from proxypool.adapters.netlink.inventory import index_of
from proxypool.adapters.netlink.raw import HEADER, NLM_F_CREATE, NLM_F_EXCL, RawSocket, Request, attribute
from proxypool.core.scene import SourceGuard

_RTM_NEWQDISC, _RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 36, 44, 45, 46
TRAFFIC_BODY = struct.Struct("=BxxxiIII")
"""tcmsg: family, index, handle, parent, info."""
CLSACT, _CLSACT_HANDLE, _EGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF3
_PRIORITY = 177
_ALL_PROTOCOLS = 0x0300
"""ETH_P_ALL in network order."""
_INFO = _PRIORITY << 16 | _ALL_PROTOCOLS
_HANDLE = 1
_KIND, _OPTIONS = 1, 2
_BPF_OPS_LEN, _BPF_OPS, _BPF_FLAGS = 4, 5, 8
_DIRECT_ACTION = 1
_PASS, _DROP = 0, 2
"""TC_ACT_OK, TC_ACT_SHOT."""
_OP = struct.Struct("=HBBI")
_LOAD_16, _LOAD_32, _IF_EQUAL, _RETURN = 0x28, 0x20, 0x15, 0x06
_TYPE_AT, _IP_SOURCE_AT, _ARP_SENDER_AT = 12, 26, 28
_IP, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD


def program(sources: Iterable[IPv4Address]) -> bytes:
    """IPv4 packets and ARP from these addresses pass, and frames of protocols without addresses; nothing else."""
    wanted = sorted(int(address) for address in sources)
    count = len(wanted)
    # Where a jump leads is counted from the operation after it.
    ops = [
        (_LOAD_16, 0, 0, _TYPE_AT),
        (_IF_EQUAL, 3, 0, _IP),
        (_IF_EQUAL, 4, 0, _ARP),
        (_IF_EQUAL, 4 + count, 0, _IPV6),
        (_RETURN, 0, 0, _PASS),
        (_LOAD_32, 0, 0, _IP_SOURCE_AT),
        (_IF_EQUAL, 1, 1, 0),
        (_LOAD_32, 0, 0, _ARP_SENDER_AT),
        *((_IF_EQUAL, count - number, 0, source) for number, source in enumerate(wanted)),
        (_RETURN, 0, 0, _DROP),
        (_RETURN, 0, 0, _PASS),
    ]
    return b"".join(_OP.pack(code, if_so, if_not, value) for code, if_so, if_not, value in ops)


def put_guard(guard: SourceGuard) -> None:
    """Make it be there, in place of any other one of ours; packets pass one of the two meanwhile.

    Raises:
        OSError: the kernel refused; ENODEV: there is no such device.
    """
    index = _required_index(guard.device)
    code = program(guard.sources)
    options = (
        attribute(_BPF_OPS_LEN, struct.pack("=H", len(code) // _OP.size))
        + attribute(_BPF_OPS, code)
        + attribute(_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    )
    body = (
        TRAFFIC_BODY.pack(0, index, _HANDLE, _EGRESS, _INFO) + attribute(_KIND, b"bpf\0") + attribute(_OPTIONS, options)
    )
    with RawSocket() as netlink:
        home = TRAFFIC_BODY.pack(0, index, _CLSACT_HANDLE, CLSACT, 0) + attribute(_KIND, b"clsact\0")
        (refused,) = netlink.change([Request(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, home)])
        if refused not in (0, errno.EEXIST):
            raise OSError(refused, "cannot make a clsact")
        # Without NLM_F_EXCL it replaces the one with this handle.
        netlink.require([Request(_RTM_NEWTFILTER, NLM_F_CREATE, body)])


def remove_guard(device: str) -> None:
    """Make it not be there; others' filters on the device, and their clsact, stay.

    Raises:
        OSError: the kernel refused.
    """
    index = index_of(device)
    if index is None:
        return
    with RawSocket() as netlink:
        body = TRAFFIC_BODY.pack(0, index, _HANDLE, _EGRESS, _INFO) + attribute(_KIND, b"bpf\0")
        (refused,) = netlink.change([Request(_RTM_DELTFILTER, 0, body)])
    if refused not in (0, errno.ENOENT, errno.EINVAL):
        raise OSError(refused, "cannot remove a filter")


def observe_guard(netlink: RawSocket, device: str, index: int, wanted: SourceGuard | None) -> SourceGuard | None:
    """Ours on a device: the wanted one, if that is what is there, another one as of no sources; None: there is none.

    Raises:
        OSError: the kernel refused.
    """
    try:
        found = netlink.dump(_RTM_GETTFILTER, TRAFFIC_BODY.pack(0, index, 0, _EGRESS, 0))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
            # No clsact on the device, or none in this kernel.
            return None
        raise
    for message in found:
        _, _, handle, _, info = TRAFFIC_BODY.unpack_from(message, HEADER.size)
        if info != _INFO or handle != _HANDLE:
            continue
        outer = attributes(message, HEADER.size + TRAFFIC_BODY.size)
        if outer.get(_KIND) != b"bpf\0":
            continue
        inner = attributes(outer.get(_OPTIONS, b""), 0)
        is_direct = inner.get(_BPF_FLAGS) == struct.pack("=I", _DIRECT_ACTION)
        if wanted is not None and is_direct and inner.get(_BPF_OPS) == program(wanted.sources):
            return wanted
        return SourceGuard(device, frozenset())
    return None


def _required_index(device: str) -> int:
    index = index_of(device)
    if index is None:
        raise OSError(errno.ENODEV, f"no device {device}")
    return index
