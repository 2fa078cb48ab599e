"""When was a member of a pair last heard: VRRP advertisements, timed by the kernel as they arrive.

A socket filter (eBPF) on a raw socket notes for each sender and VRRP id that we follow when its last two advertisements
came and what the last one said, and lets none of them into the socket's queue: a hundred pairs with a hundred adverts a
second wake nobody. Reading a note is one system call. Others' adverts, even with one of our VRRP ids, change nothing.

The owner of bpf(2). It needs CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_RAW; before Linux 5.8 CAP_SYS_ADMIN.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import TypeAlias

from proxypool.core.errors import PermanentError
from proxypool.core.history import Heard

IPPROTO_VRRP = 112
VERSION_AND_TYPE = 0x31
"""First byte of a VRRPv3 advertisement (RFC 5798, 5.2)."""
MAX_FOLLOWED = 512
"""More than the 255 VRRP ids that a node can have on its underlay."""

Sender: TypeAlias = tuple[IPv4Address, int]
"""Address and VRRP id."""

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD = 0, 1, 2, 3, 5
_MAP_TYPE_HASH, _PROG_TYPE_SOCKET_FILTER = 1, 1
_NOEXIST = 1
_SO_ATTACH_BPF = 50
_KEY = struct.Struct("=II")
_NOTE = struct.Struct("=QQQ")
"""Last advert and the one before it (nanoseconds of CLOCK_MONOTONIC, 0: none); first eight bytes of the last one."""
_ELEMENT = struct.Struct("=IxxxxQQQ")
"""Map, key, value, flags."""
_ATTRIBUTES_BYTES = 128
"""Of `union bpf_attr`, as far as it is used here."""

# PyDLL keeps the interpreter's lock: a call takes a microsecond, and to get the lock back can take five milliseconds.
_libc = ctypes.PyDLL(None, use_errno=True)


class VrrpEar:
    """Listens in the network namespace it was made in."""

    def __init__(self) -> None:
        """Load the filter and listen; nobody is followed yet.

        Raises:
            PermanentError: this kernel has no BPF, or we may not use it.
        """
        self._followed: frozenset[Sender] = frozenset()
        try:
            self._notes = _bpf(_MAP_CREATE, struct.pack("=IIII", _MAP_TYPE_HASH, _KEY.size, _NOTE.size, MAX_FOLLOWED))
        except OSError as error:
            raise _unavailable(error) from error
        try:
            self._socket = _listen(_program(self._notes))
        except OSError as error:
            os.close(self._notes)
            raise _unavailable(error) from error

    def follow(self, wanted: Iterable[Sender]) -> None:
        """Take notes of these senders, and of no others. What is known of those that were followed already stays."""
        new = frozenset(wanted)
        for sender in self._followed - new:
            self._change(sender, is_followed=False)
        for sender in new - self._followed:
            self._change(sender, is_followed=True)
        self._followed = new

    def _change(self, sender: Sender, *, is_followed: bool) -> None:
        key, note = ctypes.create_string_buffer(_key(sender), _KEY.size), ctypes.create_string_buffer(_NOTE.size)
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            if is_followed:
                _bpf(_MAP_UPDATE, _ELEMENT.pack(self._notes, _at(key), _at(note), _NOEXIST))
            else:
                _bpf(_MAP_DELETE, _ELEMENT.pack(self._notes, _at(key), 0, 0))

    def heard(self, sender: Sender) -> Heard | None:
        """What is noted of a sender; None: it is not followed."""
        key, note = ctypes.create_string_buffer(_key(sender), _KEY.size), ctypes.create_string_buffer(_NOTE.size)
        try:
            _bpf(_MAP_LOOKUP, _ELEMENT.pack(self._notes, _at(key), _at(note), 0))
        except OSError:
            return None
        last_ns, before_ns, header = _NOTE.unpack(note.raw)
        return Heard(
            at=last_ns / 1e9 if last_ns else None,
            before=before_ns / 1e9 if before_ns else None,
            priority=header >> 40 & 0xFF,
            interval_s=(header & 0xFFF) / 100,
        )

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        os.close(self._notes)


def _unavailable(error: OSError) -> PermanentError:
    return PermanentError(f"cannot time VRRP advertisements with eBPF: {error.strerror}")


def _listen(program: bytes) -> socket.socket:
    """A raw socket with the filter. What came before it had the filter stays in its queue, and nobody reads it."""
    filter_fd = _load(program)
    try:
        listening = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, IPPROTO_VRRP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, struct.pack("=i", filter_fd))
        except OSError:
            listening.close()
            raise
    finally:
        os.close(filter_fd)
    return listening


def _key(sender: Sender) -> bytes:
    address, vrid = sender
    return _KEY.pack(int(address), vrid)


def _at(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    union = ctypes.create_string_buffer(attributes, _ATTRIBUTES_BYTES)
    result: int = _libc.syscall(ctypes.c_long(number), command, ctypes.byref(union), ctypes.c_uint(_ATTRIBUTES_BYTES))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _load(program: bytes) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"")
    count = len(program) // _INSTRUCTION.size
    return _bpf(_PROG_LOAD, struct.pack("=IIQQ", _PROG_TYPE_SOCKET_FILTER, count, _at(code), _at(licence)))


# ---- the filter ------------------------------------------------------------------------------------------------------

_INSTRUCTION = struct.Struct("=BBhi")
_R0, _R1, _R2, _CONTEXT, _R7, _R8, _R9, _FRAME = 0, 1, 2, 6, 7, 8, 9, 10
"""Registers. The old loads from a packet want its context in r6; they end the program with 0 where there is no byte."""
_LOAD_U8, _LOAD_U32, _LOAD_U8_AT, _LOAD_U16_AT, _LOAD_U32_AT = 0x30, 0x20, 0x50, 0x48, 0x40
_MOVE, _SET, _ADD, _AND, _SHIFT_LEFT, _SHIFT_RIGHT, _OR = 0xBF, 0xB7, 0x07, 0x57, 0x67, 0x77, 0x4F
_STORE_U32, _STORE_U64, _READ_U64 = 0x63, 0x7B, 0x79
_IF_EQUAL, _UNLESS_EQUAL, _CALL, _EXIT, _MAP_ADDRESS = 0x15, 0x55, 0x85, 0x95, 0x18
_LOOKUP_ELEMENT, _KTIME_GET_NS = 1, 5
_SOURCE_ADDRESS_AT = 12
_HEADER_BYTES = 8


def _op(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, source << 4 | to, offset, value)


def _program(notes: int) -> bytes:
    """The filter's code. A packet begins with its IP header; the VRRP header follows it, all of it or it is none."""
    tail = [
        _op(_MOVE, _R7, _R0),
        _op(_CALL, value=_KTIME_GET_NS),
        _op(_READ_U64, _R1, _R7, 0),
        _op(_STORE_U64, _R7, _R1, 8),
        _op(_STORE_U64, _R7, _R8, 16),
        _op(_STORE_U64, _R7, _R0, 0),
    ]
    look_up = [
        _op(_SHIFT_LEFT, _R8, value=32),
        _op(_OR, _R8, _R9),
        _op(_MAP_ADDRESS, _R1, 1, 0, notes) + _op(0),
        _op(_MOVE, _R2, _FRAME),
        _op(_ADD, _R2, value=-_KEY.size),
        _op(_CALL, value=_LOOKUP_ELEMENT),
        _op(_IF_EQUAL, _R0, offset=len(tail), value=0),
    ]
    rest = b"".join((*look_up, *tail))
    return b"".join(
        (
            _op(_MOVE, _CONTEXT, _R1),
            _op(_LOAD_U8, value=0),
            _op(_AND, _R0, value=0xF),
            _op(_SHIFT_LEFT, _R0, value=2),
            _op(_MOVE, _R7, _R0),
            _op(_LOAD_U32, value=_SOURCE_ADDRESS_AT),
            _op(_STORE_U32, _FRAME, _R0, -_KEY.size),
            _op(_LOAD_U8_AT, 0, _R7, value=1),
            _op(_STORE_U32, _FRAME, _R0, 4 - _KEY.size),
            _op(_LOAD_U8_AT, 0, _R7, value=_HEADER_BYTES - 1),
            _op(_LOAD_U16_AT, 0, _R7, value=4),
            _op(_MOVE, _R9, _R0),
            _op(_LOAD_U32_AT, 0, _R7, value=0),
            _op(_MOVE, _R8, _R0),
            _op(_SHIFT_RIGHT, _R0, value=24),
            _op(_UNLESS_EQUAL, _R0, offset=len(rest) // _INSTRUCTION.size, value=VERSION_AND_TYPE),
            rest,
            _op(_SET, _R0, value=0),
            _op(_EXIT),
        )
    )
