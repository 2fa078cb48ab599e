"""Netfilter's netlink spoken with plain structs: batches of requests, dumps as the kernel gives them.

For ipsets and conntrack, where a general netlink library costs fifty times as much as the kernel's own work. Message
and attribute layout: linux/netlink.h; the four bytes that every netfilter message begins with: `struct nfgenmsg` of
linux/netfilter/nfnetlink.h. Numbers in headers are in the machine's order, numbers in netfilter's attributes in the
network's.

A socket speaks about the namespace it was opened in, from whichever thread uses it; one thread at a time.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence

NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x001, 0x004, 0x300
NLM_F_EXCL = 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_F_NET_BYTEORDER = 0x8000, 0x4000
HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
BODY_AT = HEADER.size + 4
"""Where a message's attributes begin: behind its header and `struct nfgenmsg`."""
_IPV4 = struct.pack("=BBH", socket.AF_INET, 0, 0)
_ATTRIBUTE = struct.Struct("=HH")
_LENGTH = struct.Struct("=I")
_CODE = struct.Struct("=i")
_DONE_BYTES = HEADER.size + _CODE.size
_TYPE_MASK = 0x3FFF
_TIMEOUT_S = 2.0
_RECEIVE_BYTES = 1 << 17
"""More than the largest message there is: an error answer repeats a request of up to 64 kB."""


class Refused(OSError):
    """The kernel's no to a request: errno, or a number of the subsystem's own above 4096."""

    def __init__(self, code: int, index: int = 0, answer: bytes = b"") -> None:
        """`index` of the request in its batch; `answer`: what the kernel repeated of it, header included."""
        super().__init__(code, os.strerror(code))
        self.code = code
        self.index = index
        self.answer = answer


class NetfilterSocket:
    """A netfilter socket of the namespace it was made in.

    Raises:
        OSError: it cannot be opened; and from each method: the kernel did not answer (`TimeoutError`), or not all of
            the answer had room (ENOBUFS).
    """

    def __init__(self) -> None:
        """Open it in the calling thread's namespace."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def exchange(self, kind: int, bodies: Sequence[bytes], flags: int = 0) -> list[Refused]:
        """Send one request or more of one kind together and return those that were refused, in order.

        Only the last one asks for an acknowledgement; errors come for each. Refusals need room in the socket's buffer
        (about 1 kB each): a batch should not be larger than a hundred requests that may be refused.
        """
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(bodies)
        packets = [
            self._packet(kind, NLM_F_REQUEST | flags | (NLM_F_ACK if sequence == last else 0), sequence, body)
            for sequence, body in enumerate(bodies, first)
        ]
        self._socket.send(b"".join(packets))
        refused: list[Refused] = []
        while True:
            data = self._socket.recv(_RECEIVE_BYTES)
            for at, end in messages(data):
                _, answer, _, sequence, _ = HEADER.unpack_from(data, at)
                if answer != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                (code,) = _CODE.unpack_from(data, at + HEADER.size)
                if code:
                    refused.append(Refused(-code, sequence - first, data[at + HEADER.size + _CODE.size : end]))
                if sequence == last:
                    return refused

    def ask(self, kind: int, body: bytes) -> bytes:
        """Send a question that has one answer, and return the message.

        Raises:
            Refused: the kernel says no.
        """
        self._send(kind, 0, body)
        while True:
            data = self._socket.recv(_RECEIVE_BYTES)
            if self._is_answer(data):
                return data

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All of a dump, as it was received: whole messages, without the NLMSG_DONE at its end.

        It is read to the end before anything is done with it, so that the socket is free again.

        Raises:
            Refused: the kernel says no.
        """
        return list(self.parts(kind, body))

    def parts(self, kind: int, body: bytes) -> Iterator[bytes]:
        """A dump as `dump` gives it, one datagram (32 kB) at a time: nothing is kept of a table that may be huge.

        Whoever does not take all of it must not use the socket again.

        Raises:
            Refused: the kernel says no.
        """
        self._send(kind, NLM_F_DUMP, body)
        while True:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not self._is_answer(data):
                continue
            if self._is_last(data):
                yield data[:-_DONE_BYTES]
                return
            yield data

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(self._packet(kind, NLM_F_REQUEST | flags, self._sequence, body))

    def _packet(self, kind: int, flags: int, sequence: int, body: bytes) -> bytes:
        return HEADER.pack(BODY_AT + len(body), kind, flags, sequence, 0) + _IPV4 + body

    def _is_answer(self, data: bytes) -> bool:
        """Whether it belongs to the last request, and not to one given up before."""
        _, kind, _, sequence, _ = HEADER.unpack_from(data)
        if sequence != self._sequence:
            return False
        if kind == NLMSG_ERROR:
            raise Refused(-_CODE.unpack_from(data, HEADER.size)[0])
        return True

    def _is_last(self, data: bytes) -> bool:
        """Whether the dump ends here: its last message is NLMSG_DONE, which holds nothing but a zero."""
        if len(data) < _DONE_BYTES:
            return False
        size, kind, _, sequence, _ = HEADER.unpack_from(data, len(data) - _DONE_BYTES)
        return bool((size, kind, sequence) == (_DONE_BYTES, NLMSG_DONE, self._sequence))


def messages(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each message of a datagram begins and ends."""
    at = 0
    while at + HEADER.size <= len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        yield at, at + size
        at += max(size, HEADER.size) + 3 & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *values: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(values))


def attributes(data: bytes, at: int, end: int) -> dict[int, tuple[int, int]]:
    """Where the value of each attribute between `at` and `end` begins and ends; of several of a kind, the last."""
    found: dict[int, tuple[int, int]] = {}
    while at + _ATTRIBUTE.size <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        found[kind & _TYPE_MASK] = (at + _ATTRIBUTE.size, at + size)
        at += max(size, _ATTRIBUTE.size) + 3 & ~3
    return found
