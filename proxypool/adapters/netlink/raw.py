"""rtnetlink without a library, for what comes by the ten thousand: many changes in one go, and dumps.

A library's classes cost half a millisecond for each object; the kernel takes microseconds. Formats: linux/netlink.h,
linux/rtnetlink.h. A socket belongs to the namespace it was opened in.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from proxypool.core.errors import TransientError

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP_INTR = 0x10
"""In an answer: what was being listed changed meanwhile."""
_ERROR, _DONE, _FIRST_OF_PROTOCOL = 2, 3, 16
_SOL_NETLINK, _CAP_ACK, _STRICT_CHECK = 270, 10, 12
OWN_PORT = 0xC0000000 | os.getpid()
"""Port of our sockets, and so the sender in the notifications of what they changed. The kernel gives out others."""
BATCH = 200
"""Messages sent at once: if the kernel refuses each of them, its answers still fit into the default buffer."""
_RECEIVE_BYTES = 1 << 16
"""The kernel fills up to 32 KiB at a time for a reader that offers as much."""
_TIMEOUT_S = 5.0
_DUMP_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Request:
    """A message without its header."""

    kind: int
    flags: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """A netlink attribute, padded."""
    return ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


class RawSocket:
    """One socket of the calling thread's namespace."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE, port: int = OWN_PORT) -> None:
        """Open it; port 0: the kernel chooses."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        with suppress(OSError):
            # A kernel before 4.20 has no such thing, and lists more than was asked for.
            self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
        try:
            self._socket.bind((port, 0))
        except OSError:
            # Taken; our own changes are looked at like anybody's then.
            self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        """Nothing more is opened."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def change(self, requests: Sequence[Request]) -> list[int]:
        """Send changes in order; each is done or not done on its own. Returns the error number of each, 0: done.

        Raises:
            TransientError: the kernel did not answer; what was done is not known.
        """
        codes: list[int] = []
        for start in range(0, len(requests), BATCH):
            codes += self._change(requests[start : start + BATCH])
        return codes

    def _change(self, requests: Sequence[Request]) -> list[int]:
        """Only the last asks for an answer; one that is refused is answered in any case."""
        first = self._sequence + 1
        self._sequence += len(requests)
        parts: list[bytes] = []
        for sequence, request in enumerate(requests, first):
            flags = request.flags | NLM_F_REQUEST | (NLM_F_ACK if sequence == self._sequence else 0)
            parts += (HEADER.pack(HEADER.size + len(request.body), request.kind, flags, sequence, 0), request.body)
        codes = [0] * len(requests)
        with _answered():
            self._socket.send(b"".join(parts))
            while True:
                for kind, _, sequence, message in split(self._socket.recv(_RECEIVE_BYTES)):
                    if kind == _ERROR and sequence >= first:
                        codes[sequence - first] = -struct.unpack_from("=i", message, HEADER.size)[0]
                        if sequence == self._sequence:
                            return codes

    def require(self, requests: Sequence[Request]) -> None:
        """Send changes in order, all of which must be done.

        Raises:
            OSError: of the first that was refused; those after it were tried all the same.
            TransientError: the kernel did not answer; what was done is not known.
        """
        for code in self.change(requests):
            if code:
                raise OSError(code, os.strerror(code))

    def get(self, kind: int, body: bytes) -> bytes:
        """The one object that a message asks for: its message, header included.

        Raises:
            OSError: the kernel refuses.
            TransientError: it did not answer.
        """
        self._sequence += 1
        header = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST, self._sequence, 0)
        with _answered():
            self._socket.send(header + body)
            while True:
                for answer, _, sequence, message in split(self._socket.recv(_RECEIVE_BYTES)):
                    if sequence != self._sequence:
                        continue
                    if answer == _ERROR:
                        code = -struct.unpack_from("=i", message, HEADER.size)[0]
                        raise OSError(code, os.strerror(code))
                    return message

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Everything of a kind, a message each, headers included.

        Raises:
            OSError: the kernel refuses.
            TransientError: it did not answer, or what is listed changes again and again.
        """
        for _ in range(_DUMP_ATTEMPTS):
            found = self._dump(kind, body)
            if found is not None:
                return found
        raise TransientError("what is being read changes faster than it can be read")

    def _dump(self, kind: int, body: bytes) -> list[bytes] | None:
        """None: it changed while it was read."""
        self._sequence += 1
        found: list[bytes] = []
        is_whole = True
        unpack = HEADER.unpack_from
        with _answered():
            header = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
            self._socket.send(header + body)
            while True:
                data = self._socket.recv(_RECEIVE_BYTES)
                offset, end = 0, len(data)
                while offset < end:
                    length, answer, flags, sequence, _ = unpack(data, offset)
                    message = data[offset : offset + length]
                    offset += (length + 3) & ~3
                    if sequence != self._sequence:
                        continue
                    is_whole = is_whole and not flags & NLM_F_DUMP_INTR
                    if answer >= _FIRST_OF_PROTOCOL:
                        found.append(message)
                    elif answer == _DONE:
                        _require_done(message)
                        return found if is_whole else None
                    elif answer == _ERROR:
                        code = -struct.unpack_from("=i", message, HEADER.size)[0]
                        raise OSError(code, os.strerror(code))


class _answered:  # noqa: N801 - a context manager, read as a verb
    """Silence and lost answers as TransientError."""

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Translate."""
        if isinstance(error, TimeoutError):
            raise TransientError("the kernel does not answer") from error


def _require_done(message: bytes) -> None:
    """The end of a dump carries an error number if the dump broke off."""
    if len(message) >= HEADER.size + 4:
        code = -struct.unpack_from("=i", message, HEADER.size)[0]
        if code > 0:
            raise OSError(code, os.strerror(code))


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence and the whole message, of each message in what was received."""
    offset, end = 0, len(data)
    unpack = HEADER.unpack_from
    while end - offset >= HEADER.size:
        length, kind, flags, sequence, _ = unpack(data, offset)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, data[offset : offset + length]
        offset += (length + 3) & ~3
