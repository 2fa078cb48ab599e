"""What a daemon tells the service manager: sd_notify(3), datagrams to the socket that it named in the environment.

Started by anybody else, all of it does nothing. The variables are taken out of the environment: a conntrackd that the
daemon starts would speak to the same socket.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from proxypool.core.errors import InvalidInput

MICROSECONDS = 1_000_000


class Notifier:
    """The way to the service manager. Never blocks."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """`address`: a path, or `@` and an abstract name (unix(7)); None: nobody listens.

        `watchdog_s`: it ends a daemon that has been silent for so long; None: it does not.

        Raises:
            InvalidInput: the address is neither.
        """
        if address is not None and not address.startswith(("/", "@")):
            raise InvalidInput(f"NOTIFY_SOCKET={address}: neither a path nor an abstract name")
        self._address = address
        self.watchdog_s = watchdog_s if address is not None else None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    @property
    def is_heard(self) -> bool:
        """Whether a service manager started this process, and waits to hear of it."""
        return self._address is not None

    def tell(self, **words: str | int) -> bool:
        """Say all of it in one datagram, such as `READY=1`. False: it did not arrive, which a later try may."""
        if self._address is None:
            return True
        text = "\n".join(f"{name}={word}" for name, word in words.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(text.encode(), address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Say nothing more."""
        self._socket.close()


def notifier_of(environment: MutableMapping[str, str] = os.environ) -> Notifier:
    """The service manager that started this process, which is told nothing of it twice.

    Raises:
        InvalidInput: the environment names a socket that cannot be one.
    """
    address = environment.pop("NOTIFY_SOCKET", None) or None
    interval, whose = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    is_ours = interval.isdecimal() and int(interval) > 0 and whose in {"", str(os.getpid())}
    return Notifier(address, int(interval) / MICROSECONDS if is_ours else None)
