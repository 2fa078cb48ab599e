"""Does anything at all arrive on the underlay? Runs on the watch thread; says so when it changes.

A master whose packets leave but to which none comes (a broken direction of a link, a filter) goes on telling that it is
master, and nobody takes over. So silence counts; and because an idle pool is silent too, those who would answer are
asked before it does.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from proxypool.daemons.messages import UnderlayHeard

ASK_AFTER_S, ASK_EVERY_S = 0.5, 0.5
SILENT_AFTER_S = 2.0
"""Three questions without an answer from anybody."""
DISCARD = 9
"""A port where nobody listens: the answer is an ICMP error, or the ARP exchange before it."""
ASKED_AT_MOST = 8


@dataclass
class Hearing:
    """`packets` reads how many have arrived; `neighbours` are asked, and replaced by whoever knows them."""

    packets: Callable[[], int]
    ask: Callable[[IPv4Address], None]
    post: Callable[[UnderlayHeard], None]
    neighbours: tuple[IPv4Address, ...] = ()
    _count: int = -1
    _heard_at: float = 0.0
    _ask_at: float = field(default=0.0)
    _is_silent: bool = False

    def look(self, now: float) -> None:
        """Called ten times a second."""
        count = self.packets()
        if count != self._count:
            self._count, self._heard_at, self._ask_at = count, now, now + ASK_AFTER_S
        elif now >= self._ask_at:
            self._ask_at = now + ASK_EVERY_S
            for neighbour in self.neighbours[:ASKED_AT_MOST]:
                self.ask(neighbour)
        # With nobody to ask, silence means nothing.
        is_silent = bool(self.neighbours) and now - self._heard_at >= SILENT_AFTER_S
        if is_silent != self._is_silent:
            self._is_silent = is_silent
            self.post(UnderlayHeard(is_silent))


class Asker:
    """Sends something that a kernel answers."""

    def __init__(self) -> None:
        """Open the socket in the calling thread's namespace."""
        self._link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def ask(self, address: IPv4Address) -> None:
        """No answer is read: that something arrived is enough."""
        with suppress(OSError):
            self._link.sendto(b"", (str(address), DISCARD))
