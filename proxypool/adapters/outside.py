"""What a hardened node daemon asks of a process that stands outside its unit, and how: one question per connection.

The daemon's unit has mounts of its own, where a namespace that it named would be seen by nobody else, and shows it no
process that may do more than itself, such as keepalived. `daemons.outside` answers: it names namespaces that have our
prefix, says what `keepalived_process` says, and can do nothing else.

A question and an answer are one JSON object each, in one packet of a unix socket; the namespace is a descriptor.
"""

from __future__ import annotations

import errno
import json
import math
import os
import socket
from collections.abc import Mapping
from typing import Any

from proxypool.core.one_line import one_line

SOCKET_VARIABLE = "PROXYPOOL_OUTSIDE"
"""Names the socket; where it is not set the daemon does these things itself."""
MAX_BYTES = 4096
MAX_PID = 1 << 22
"""The kernel counts no further."""
ANSWER_S = 5.0
"""It is a matter of a millisecond; then the main loop or the dataplane goes on without."""


class OutsideNames:
    """Names of namespaces, given and taken there: see `netns_names.Names`."""

    def __init__(self, path: str) -> None:
        """`path`: of the socket. Nothing is asked."""
        self._path = path

    def give(self, name: str, fd: int) -> None:
        """See `Names`."""
        _ask(self._path, {"do": "name", "name": name}, fd)

    def take(self, name: str) -> None:
        """See `Names`."""
        _ask(self._path, {"do": "unname", "name": name})


class OutsideKeepalived:
    """keepalived's processes as seen from there: see `keepalived_process.KeepalivedProcess`.

    While nobody answers (it is being restarted) they are what they were: a keepalived that is not seen for a moment
    must not be taken for a dead one.
    """

    def __init__(self, path: str) -> None:
        """`path`: of the socket. Nothing is asked."""
        self._path = path
        self._last: dict[str, Any] = {}

    def pid(self) -> int | None:
        """See `KeepalivedProcess`; so for all that follow."""
        return _number(self._look({"do": "pid"}))

    def age_s(self) -> float | None:
        """See there."""
        age_s = self._look({"do": "age"})
        return age_s if isinstance(age_s, float) and math.isfinite(age_s) else None

    def vrrp_process(self, fifo: str) -> int | None:
        """See there."""
        return _number(self._look({"do": "vrrp", "fifo": fifo}))

    def is_stopped(self) -> bool:
        """See there."""
        return bool(self._look({"do": "stopped"}))

    def _look(self, question: Mapping[str, str]) -> Any:
        try:
            self._last[question["do"]] = _ask(self._path, question)
        except OSError:
            # systemd says why it is away: it is a unit of its own.
            return self._last.get(question["do"])
        return self._last[question["do"]]


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= MAX_PID else None


def _ask(path: str, question: Mapping[str, str], fd: int | None = None) -> Any:
    """The answer.

    Raises:
        OSError: nobody answers, or it could not be done; the error is the one that it met.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(path)
        socket.send_fds(connection, [json.dumps(question).encode()], [] if fd is None else [fd])
        data = connection.recv(MAX_BYTES)
    try:
        answer = json.loads(data)
        code, value = answer.get("error"), answer.get("value")
    except (ValueError, RecursionError, AttributeError) as error:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO)) from error
    if code is None:
        return value
    if type(code) is not int or code not in errno.errorcode:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    raise OSError(code, one_line(str(answer.get("why") or os.strerror(code))))
