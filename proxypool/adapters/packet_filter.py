"""Classic BPF: which packets get into a socket's queue, and wake whoever waits for it.

https://docs.kernel.org/networking/filter.html; instruction codes are those of linux/bpf_common.h.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable
from typing import TypeAlias

Instruction: TypeAlias = tuple[int, int, int, int]
"""Code; how many instructions to skip if a comparison holds, and if not; value."""

LOAD_HALF, LOAD_WORD, EQUAL, RETURN = 0x28, 0x20, 0x15, 0x06
"""BPF_LD | BPF_ABS with BPF_H and BPF_W, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K."""
PACKET_TYPE = 0xFFFFF000 + 4
"""Where to load it from: SKF_AD_OFF + SKF_AD_PKTTYPE of linux/filter.h."""
_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("HBBI")


def attach(link: socket.socket, program: Iterable[Instruction]) -> None:
    """Let in what the program returns a length for, from now on, instead of what an earlier one did.

    Raises:
        OSError: the kernel refuses it; an earlier one stays.
    """
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, then where they are.
    where = struct.pack("HP", len(code) // _INSTRUCTION.size, ctypes.addressof(buffer))
    link.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)
