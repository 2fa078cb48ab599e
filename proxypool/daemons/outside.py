"""The part of a node that stands outside the node daemon's unit: `python -m proxypool.daemons.outside`.

It does what `adapters.outside` asks and nothing else: gives names to network namespaces and takes them away, only names
with our prefix, only namespaces that are none of the machine's own; and says which process keepalived is. It speaks to
root only, has no network, reads no configuration, and imports no library but Python's own, so that little can go wrong
in it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from proxypool.adapters.keepalived_process import KeepalivedProcess, ProcView
from proxypool.adapters.netns import CLONE_NEWNET
from proxypool.adapters.netns_names import NAMESPACE_DIR, Mounts, Names
from proxypool.adapters.outside import MAX_BYTES, SOCKET_VARIABLE
from proxypool.adapters.systemd import notifier_of
from proxypool.core.addressing import NAMESPACE_PREFIX
from proxypool.daemons.peers import peer_of

log = logging.getLogger(__name__)

QUESTION_S = 1.0
"""How long root may take to ask after connecting; nobody else is waited for. The daemon asks at once, and waits for its
answer for five times as long (`adapters.outside.ANSWER_S`): one who says nothing keeps it from nothing.
"""
SIGN_S = 2.0
BACKLOG = 16
MAX_NAMES = 10_000
"""Each is a mount, of which the kernel allows 100,000 (fs.mount-max), and a node has some hundred subnets."""
NS_GET_NSTYPE = 0xB703
_NAME = re.compile(rf"{re.escape(NAMESPACE_PREFIX)}[a-z0-9]([a-z0-9.-]{{0,38}}[a-z0-9])?")
"""As `addressing.namespace_of` makes them of the names that the model allows."""


class Refused(OSError):
    """What was asked is none of our business."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


class Outside:
    """Answers questions, one after the other."""

    def __init__(self, names: Names, keepalived: KeepalivedProcess) -> None:
        """Nothing is opened."""
        self._names, self._keepalived = names, keepalived
        self._own = os.stat("/proc/self/ns/net").st_ino

    def answer(self, question: Mapping[str, Any], fds: list[int]) -> Any:
        """Do it, and say what came of it.

        Raises:
            OSError: it was refused, or failed.
        """
        match question:
            case {"do": "name", "name": str(name)}:
                fd = self._namespace(fds)
                _require_room()
                self._names.give(_checked(name), fd)
            case {"do": "unname", "name": str(name)}:
                self._names.take(_checked(name))
            case {"do": "pid"}:
                return self._keepalived.pid()
            case {"do": "age"}:
                return self._keepalived.age_s()
            case {"do": "vrrp", "fifo": str(fifo)}:
                return self._keepalived.vrrp_process(fifo)
            case {"do": "stopped"}:
                return self._keepalived.is_stopped()
            case _:
                raise Refused("no such question")
        return None

    def _namespace(self, fds: list[int]) -> int:
        """The descriptor, if it is one of a network namespace that is not the machine's own."""
        try:
            (fd,) = fds
            if not os.readlink(f"/proc/self/fd/{fd}").startswith("net:["):
                # A device might understand the number that follows as something else.
                raise Refused("a name needs one namespace")
            kind = fcntl.ioctl(fd, NS_GET_NSTYPE)
        except (ValueError, OSError) as error:
            raise Refused("a name needs one namespace") from error
        if kind != CLONE_NEWNET or os.fstat(fd).st_ino == self._own:
            raise Refused("only a network namespace that is not the machine's own is named")
        return fd


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise Refused(f"only names like {NAMESPACE_PREFIX}… are given and taken")
    return name


def _require_room() -> None:
    with suppress(FileNotFoundError):
        if sum(name.startswith(NAMESPACE_PREFIX) for name in os.listdir(NAMESPACE_DIR)) >= MAX_NAMES:
            raise Refused(f"there are {MAX_NAMES} names already")


def serve_one(connection: socket.socket, answer: Callable[[Mapping[str, Any], list[int]], Any]) -> None:
    """One question of somebody who has connected. Whatever comes, an answer goes back, or nobody is there any more."""
    connection.settimeout(QUESTION_S)
    fds: list[int] = []
    try:
        if peer_of(connection).user != os.geteuid():
            raise Refused("root only")
        data, fds, _, _ = socket.recv_fds(connection, MAX_BYTES, 4)
        question = json.loads(data)
        said = {"value": answer(question if isinstance(question, dict) else {}, fds)}
    except OSError as error:
        said = {"error": error.errno or errno.EIO, "why": error.strerror or str(error)}
        log.warning("%s", error.strerror or error)
    except (ValueError, RecursionError):
        # No JSON, or lists in lists without end; or a name that no file can have.
        said = {"error": errno.EPROTO}
    finally:
        for fd in fds:
            os.close(fd)
    with suppress(OSError):
        connection.send(json.dumps(said).encode())


def listen(path: Path) -> socket.socket:
    """A socket at this place, for root only; what was there is replaced.

    Raises:
        OSError: it cannot be made.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def main() -> int:
    """Until SIGTERM. Names stay."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    manager = notifier_of()
    place = os.environ.get(SOCKET_VARIABLE)
    if not place:
        log.error("%s does not name a socket", SOCKET_VARIABLE)
        return 2
    outside = Outside(Mounts(), ProcView())
    with listen(Path(place)) as listener:
        listener.settimeout(SIGN_S)
        manager.tell(READY=1, STATUS="names namespaces, and sees keepalived")
        signed_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    serve_one(connection, outside.answer)
            if time.monotonic() >= signed_at + SIGN_S:
                signed_at = time.monotonic()
                manager.tell(WATCHDOG=1)


if __name__ == "__main__":
    sys.exit(main())
