"""One question through one ENI: is the target there? ARP for one on the ENI's own network, else ICMP echo.

The source is the ENI's own address, so the answer goes the way of the customer's packets; and whether the ENI has a
carrier is asked at the device. Opened in the subnet's namespace, used from any thread, one at a time; nothing blocks.

What an ARP answer proves is that the network between carries frames and that somebody has the address; in a cloud whose
fabric answers for its router it proves the first only.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from ipaddress import IPv4Address

from proxypool.adapters.echo import EchoSocket
from proxypool.adapters.packet_filter import EQUAL, LOAD_HALF, LOAD_WORD, RETURN, attach
from proxypool.core.errors import ProxypoolError

_ETH_P_ARP = 0x0806
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6
_SIOCETHTOOL, _ETHTOOL_GLINK = 0x8946, 0x0000000A
_INTERFACE_REQUEST = struct.Struct("16sP16x")
_MAX_BYTES = 128


class EniProbe:
    """See the module's text."""

    def __init__(self, device: str, address: IPv4Address, target: IPv4Address | None, *, is_onlink: bool) -> None:
        """Open it in the calling thread's namespace. Without a target only the carrier is looked at.

        Raises:
            OSError, TransientError, PermanentError: the device is not there, or the kernel refuses a socket.
        """
        self._device, self._address, self._target = device, address, target
        self._echo: EchoSocket | None = None
        self._link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            if target is not None and is_onlink:
                self._listen(target)
            elif target is not None:
                self._echo = EchoSocket()
        except BaseException:
            self.close()
            raise

    def _listen(self, target: IPv4Address) -> None:
        """Only the target's answers reach us: a customer's network may be full of others' requests."""
        program = [
            (LOAD_HALF, 0, 0, 6),
            (EQUAL, 0, 3, _REPLY),
            (LOAD_WORD, 0, 0, 14),
            (EQUAL, 0, 1, int(target)),
            (RETURN, 0, 0, _MAX_BYTES),
            (RETURN, 0, 0, 0),
        ]
        attach(self._link, program)
        self._link.bind((self._device, _ETH_P_ARP))

    def fileno(self) -> int:
        """To wait for answers."""
        return self._echo.fileno() if self._echo is not None else self._link.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self._link.close()
        if self._echo is not None:
            self._echo.close()

    @property
    def has_target(self) -> bool:
        """Whether there is somebody to ask."""
        return self._target is not None

    def has_carrier(self) -> bool:
        """Whether the ENI is there and has a carrier at this moment."""
        value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_GLINK, 0), 8)
        request = _INTERFACE_REQUEST.pack(self._device.encode(), ctypes.addressof(value))
        try:
            fcntl.ioctl(self._link, _SIOCETHTOOL, request)
        except OSError as error:
            # A kind of device that does not say has its carrier; one that is gone has none.
            return error.errno not in (19, 6)
        _, has_carrier = struct.unpack("=II", value.raw)
        return bool(has_carrier)

    def send(self) -> None:
        """Ask. A question that cannot leave stays unanswered, which is all there is to say of it."""
        if self._target is None:
            return
        try:
            if self._echo is not None:
                self._echo.send((self._target,))
            else:
                self._link.sendto(self._request(self._target), (self._device, _ETH_P_ARP, 0, 1, _BROADCAST))
        except (OSError, ProxypoolError):
            return

    def _request(self, target: IPv4Address) -> bytes:
        own = self._link.getsockname()[4]
        return _ARP.pack(1, 0x0800, 6, 4, _REQUEST, own, self._address.packed, bytes(6), target.packed)

    def receive(self) -> bool:
        """Whether the target has answered since the last call. Nothing is left in the socket."""
        if self._echo is not None:
            try:
                return bool(self._echo.receive())
            except ProxypoolError:
                return False
        is_answered = False
        while True:
            try:
                data = self._link.recv(_MAX_BYTES)
            except OSError:
                return is_answered
            if len(data) >= _ARP.size:
                *_, to = _ARP.unpack_from(data)
                is_answered = is_answered or to == self._address.packed
