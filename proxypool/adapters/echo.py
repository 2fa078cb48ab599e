"""ICMP echo to many addresses at once: who answers?

A host asks the HaVips of its pairs. Why echo, and why to the HaVip: the kernel of whoever holds the address answers, as
quickly as it forwards, without a daemon, a port or a secret on the other side; and the packet goes the way of the
tunnels' outer packets, which have the same two ends.

What an answer proves: somebody holds the HaVip, its kernel runs, and the underlay carries packets there and back. What
it does not: that the tunnel is decapsulated, the gate open, the customer's network behind it reachable; nor that there
is one holder only. What no answer proves: nothing, by itself. A lost packet, a filter or a takeover of the moment look
the same, so it takes several rounds to speak of a dead pair.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from proxypool.adapters.kernel_errors import kernel_error
from proxypool.core.errors import PermanentError, TransientError

RECENT_ROUNDS = 2
"""Answers to the last rounds count; a later one speaks of a time that is over."""
_BUFFER_BYTES = 1 << 24
"""A packet takes about 800 bytes in a socket's buffer. Requests to an address that nobody holds wait three seconds for
its link-layer address; with the usual 200 kB a few of these would leave no room for requests to the others, and the
answers to one round would not fit."""
_SOL_RAW, _ICMP_FILTER = 255, 1
"""include/uapi/linux/icmp.h; a bit that is set keeps a type out."""
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_ECHO_REPLY, _ECHO_REQUEST = 0, 8
_ECHO = struct.Struct("!BBHHH8s")
"""Type, code, checksum, identifier, sequence number; then a cookie of ours, as another ping may have our identifier."""
_RECEIVE_BYTES = 256
_LOST = {
    errno.EACCES,
    errno.EAGAIN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EINVAL,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOBUFS,
    errno.EPERM,
}
"""What keeps one request from leaving: no route, a filter, a broadcast address, a full queue. It stays unanswered."""


class EchoSocket:
    """Echo requests from the namespace it was made in. Usable from any thread, one at a time; never blocks.

    Raises:
        TransientError, PermanentError: from every method: the socket itself does not work.
    """

    def __init__(self) -> None:
        """Open it in the calling thread's namespace."""
        self._identifier = int.from_bytes(os.urandom(2))
        self._cookie = os.urandom(8)
        self._sequence = 0
        self._rounds: dict[int, dict[str, IPv4Address]] = {}
        """Who was asked, by the sequence number of the round."""
        try:
            self._socket = socket.socket(
                socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP
            )
        except OSError as error:
            raise _failed("open an echo socket", error) from error
        try:
            self._socket.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << _ECHO_REPLY) & 0xFFFFFFFF))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except OSError as error:
            self._socket.close()
            raise _failed("set up an echo socket", error) from error

    def fileno(self) -> int:
        """To wait for answers."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, addresses: Iterable[IPv4Address]) -> None:
        """Begin a round: one request to each. One that cannot leave is as good as lost and hinders no other."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        asked = self._rounds[self._sequence] = {str(address): address for address in addresses}
        self._rounds.pop((self._sequence - RECENT_ROUNDS) & 0xFFFF, None)
        request = self._request()
        for address in asked:
            try:
                self._socket.sendto(request, (address, 0))
            except OSError as error:
                if error.errno not in _LOST:
                    raise _failed(f"send an echo request to {address}", error) from error

    def receive(self) -> frozenset[IPv4Address]:
        """Who answered since the last call. Nothing is left in the socket."""
        answered: set[IPv4Address] = set()
        while True:
            try:
                data, (sender, _) = self._socket.recvfrom(_RECEIVE_BYTES)
            except BlockingIOError:
                return frozenset(answered)
            except OSError as error:
                raise _failed("receive echo replies", error) from error
            header_bytes = (data[0] & 0x0F) * 4
            if len(data) >= header_bytes + _ECHO.size:
                kind, _, _, identifier, sequence, cookie = _ECHO.unpack_from(data, header_bytes)
                if (kind, identifier, cookie) == (_ECHO_REPLY, self._identifier, self._cookie):
                    address = self._rounds.get(sequence, {}).get(sender)
                    if address is not None:
                        answered.add(address)

    def _request(self) -> bytes:
        """The round's request, the same for each address."""
        blank = _ECHO.pack(_ECHO_REQUEST, 0, 0, self._identifier, self._sequence, self._cookie)
        return _ECHO.pack(_ECHO_REQUEST, 0, _checksum(blank), self._identifier, self._sequence, self._cookie)


def _checksum(data: bytes) -> int:
    """RFC 1071, for an even number of bytes."""
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _failed(what: str, error: OSError) -> TransientError | PermanentError:
    return kernel_error(error.errno or 0, f"{what}: {error.strerror or error}")
