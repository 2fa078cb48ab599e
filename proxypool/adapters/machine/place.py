"""The underlay card, the clock, files and servers' ports, as they are now."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
from pathlib import Path

from proxypool.core.doctor.facts import ClockFacts, FileFacts, UnderlayFacts
from proxypool.core.endpoints import parse_endpoint

CONNECT_WITHIN_S = 2.0
_SIOCGIFADDR = 0x8915
_NO_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
_IFF_UP = 1
_IFREQ = struct.Struct("16s24s")
_TIMEX = struct.Struct("@Illlli")
"""The beginning of `struct timex`: modes, offset, freq, maxerror, esterror, status."""
_TIMEX_BYTES = 256
_STA_UNSYNC = 0x40
_TIME_ERROR = 5


def underlay(name: str) -> UnderlayFacts:
    """A network card of this namespace."""
    directory = Path("/sys/class/net")
    known = tuple(sorted(path.name for path in directory.iterdir() if path.name != "lo"))
    if name not in known:
        return UnderlayFacts(name=name, is_there=False, known=known)
    flags = int((directory / name / "flags").read_text(), 16)
    mtu = int((directory / name / "mtu").read_text())
    return UnderlayFacts(
        name=name, is_there=True, is_up=bool(flags & _IFF_UP), mtu=mtu, address=_address(name), known=known
    )


def _address(name: str) -> str:
    """Its first IPv4 address; empty: it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        try:
            answer = fcntl.ioctl(link, _SIOCGIFADDR, _IFREQ.pack(name.encode(), b""))
        except OSError as error:
            if error.errno in _NO_ADDRESS:
                return ""
            raise
    return socket.inet_ntoa(answer[20:24])


def clock() -> ClockFacts:
    """What the kernel knows of the wall clock: adjtimex(2), which anybody may read.

    Raises:
        OSError: it does not tell.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = libc.adjtimex(buffer)
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _, _, _, max_error_us, _, status = _TIMEX.unpack_from(buffer)
    return ClockFacts(is_synchronised=state != _TIME_ERROR and not status & _STA_UNSYNC, error_s=max_error_us / 1e6)


def file(path: str, purpose: str) -> FileFacts:
    """Mode and owner of a file or directory.

    Raises:
        OSError: a directory on the way cannot be read.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return FileFacts(path=path, purpose=purpose)
    return FileFacts(path=path, purpose=purpose, mode=stat.S_IMODE(found.st_mode), owner=found.st_uid)


def why_unreachable(server: str) -> str:
    """Why no TCP connection to `host:port` can be opened; empty: one can."""
    try:
        socket.create_connection(parse_endpoint(server, what="server"), CONNECT_WITHIN_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""
