"""Wait for the underlay interface, which may come up after the daemon; find the ZooKeeper servers on it."""

from __future__ import annotations

import logging
import queue
import socket
import time
from ipaddress import IPv4Address

from proxypool.adapters import netlink
from proxypool.core.errors import ProxypoolError
from proxypool.daemons.mainloop import Stop
from proxypool.daemons.messages import Message
from proxypool.daemons.service import Service

log = logging.getLogger(__name__)
RETRY_S = 1.0


def wait_for_underlay(device: str, inbox: queue.SimpleQueue[Message], service: Service) -> netlink.Underlay | None:
    """Address and MTU of the interface; None if the daemon was told to stop meanwhile."""
    told = ""
    while True:
        service.goes_round(time.monotonic())
        try:
            return netlink.underlay(device)
        except ProxypoolError as error:
            if str(error) != told:
                log.error("%s; trying again", error)
                told = str(error)
                service.say(f"starting: {told}")
        try:
            if isinstance(inbox.get(timeout=RETRY_S), Stop):
                return None
        except queue.Empty:
            continue


def coordinators_of(hosts: tuple[str, ...]) -> tuple[tuple[IPv4Address, int], ...]:
    """Addresses and ports of the ZooKeeper servers, for rules about them; names are looked up once."""
    found = set()
    for server in hosts:
        host, _, port = server.rpartition(":")
        try:
            for answer in socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM):
                found.add((IPv4Address(answer[4][0]), int(port)))
        except OSError:
            log.warning("cannot look up ZooKeeper server %s", server)
    return tuple(sorted(found))
