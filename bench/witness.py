"""Who claims a HaVip, and when, seen from outside: addresses that kernels of nodes get, and ARP on a function host.

with Witness(lab, "host1", ("node-a", "node-b")) as witness:
    began = lab.fault("power-off", "node-a")
    …
witness.address_at(havip, began), witness.announced_at(havip, began)
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Self

from proxypool.lab.lab import Lab
from proxypool.lab.namespaces import in_network_of

ETH_P_ARP = 0x0806
RTMGRP_IPV4_IFADDR = 0x10
RTM_NEWADDR = 20
IFA_LOCAL = 2
SO_TIMESTAMPNS = 35
REAL_TIME_PRIORITY = 5
_NLMSG = struct.Struct("=IHHII")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IFADDRMSG_LENGTH = 8


@dataclass
class Witness:
    """A thread with real-time priority that listens until the block is left. Times are of CLOCK_MONOTONIC, in s."""

    lab: Lab
    host: str
    nodes: tuple[str, ...]
    _addresses: list[tuple[float, IPv4Address]] = field(default_factory=list)
    _announcements: list[tuple[float, IPv4Address]] = field(default_factory=list)

    def address_at(self, havip: str, since: float) -> float | None:
        """When a node's kernel got the address."""
        return _first(self._addresses, havip, since)

    def announced_at(self, havip: str, since: float) -> float | None:
        """When a gratuitous ARP for it reached the host's card."""
        return _first(self._announcements, havip, since)

    def __enter__(self) -> Self:
        self._stop_r, self._stop_w = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stop_r, selectors.EVENT_READ, None)
        for node in self.nodes:
            link = in_network_of(self.lab.machine(node).pid, _netlink)
            self._selector.register(link, selectors.EVENT_READ, self._read_addresses)
        link = in_network_of(self.lab.machine(self.host).pid, _arp)
        self._selector.register(link, selectors.EVENT_READ, self._read_arp)
        self._thread = threading.Thread(target=self._run, name="witness")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_w, b".")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._stop_r)
        os.close(self._stop_w)

    def _run(self) -> None:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REAL_TIME_PRIORITY))
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data(key.fileobj)

    def _read_addresses(self, link: socket.socket) -> None:
        now = time.monotonic()
        with suppress(BlockingIOError):
            data = link.recv(65536)
            for address in _new_addresses(data):
                self._addresses.append((now, address))

    def _read_arp(self, link: socket.socket) -> None:
        with suppress(BlockingIOError):
            data, ancillary, _, _ = link.recvmsg(128, 64)
            at = time.monotonic()
            for level, kind, stamp in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                    seconds, nanoseconds = struct.unpack("qq", stamp)
                    at -= time.time() - (seconds + nanoseconds / 1e9)
            if len(data) >= _ARP.size:
                *_, sender, _, target = _ARP.unpack_from(data)
                if sender == target:
                    self._announcements.append((at, IPv4Address(sender)))


def _first(found: list[tuple[float, IPv4Address]], address: str, since: float) -> float | None:
    return next((at for at, seen in list(found) if at >= since and str(seen) == address), None)


def _netlink() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    link.bind((0, RTMGRP_IPV4_IFADDR))
    return link


def _arp() -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ARP))
    link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return link


def _new_addresses(data: bytes) -> list[IPv4Address]:
    found = []
    while len(data) >= _NLMSG.size:
        length, kind, *_ = _NLMSG.unpack_from(data)
        body = data[_NLMSG.size + _IFADDRMSG_LENGTH : length]
        while kind == RTM_NEWADDR and len(body) >= 4:
            size, attribute = struct.unpack_from("=HH", body)
            if attribute == IFA_LOCAL:
                found.append(IPv4Address(body[4:8]))
            body = body[max(4, (size + 3) & ~3) :]
        data = data[max(_NLMSG.size, (length + 3) & ~3) :]
    return found
