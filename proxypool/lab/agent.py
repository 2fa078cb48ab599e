"""Talks to the local API of a host's agent, from outside of its machine and without a process in it.

    with Api(socket_of(lab.machine("host1"))) as api:
        api.attach([("10.244.1.2", "s1")])

A socket with a path is not bound to a network namespace; /proc/<pid>/root leads to it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

from proxypool.lab.errors import LabError, LabTimeout
from proxypool.lab.machine import Machine
from proxypool.lab.processes import wait_until

SOCKET = "run/proxypool/host.sock"
TIMEOUT_S = 10.0
"""For one answer: the first use of a subnet on a host is waited for, too."""
NOT_YET = ("unknown-subnet", "not-ready", "try-again")
"""Codes of refusals that pass by themselves."""
ASK_AGAIN_S = 0.02
Attachment = tuple[str, str]
"""(instance's address, subnet's id)."""


class AgentError(LabError):
    """The agent refused."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(f"the agent answered {status} {code}: {text}")
        self.status, self.code = status, code


class AgentSilent(LabError):
    """No agent listens, or it went away before it answered."""


class Api:
    """One kept connection to an agent. Not for several threads."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._http = _UnixConnection(path, timeout_s)

    def attach(self, attachments: Iterable[Attachment], *, replace: bool = False) -> dict[Attachment, str]:
        """Attachment → `attached` or `unchanged`; all or none. With `replace` an address loses its other subnets.

        Returns when the first packet can pass. Raises `AgentError`, `AgentSilent`, `LabTimeout`.
        """
        wanted = [{"address": address, "subnet": subnet} for address, subnet in attachments]
        return _states(self._call("POST", "/v1/attach", {"attachments": wanted, "replace": replace}))

    def detach(self, attachments: Iterable[Attachment | tuple[str, None]]) -> dict[Attachment, str]:
        """Attachment → `detached` or `absent`. Subnet None: all of the address. Errors as of `attach`."""
        unwanted = [
            {"address": address, "subnet": subnet} if subnet else {"address": address}
            for address, subnet in attachments
        ]
        return _states(self._call("POST", "/v1/detach", {"attachments": unwanted}))

    def attachments(self) -> list[dict[str, Any]]:
        """What is attached, with all that the agent says of it. Errors as of `attach`."""
        return self._call("GET", "/v1/attachments")

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, path: str, document: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        body = None if document is None else json.dumps(document)
        try:
            self._http.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = self._http.getresponse()
            text = answer.read()
        except TimeoutError:
            self.close()
            raise LabTimeout(f"the agent did not answer {method} {path} within {self._http.timeout:.0f} s") from None
        except (OSError, HTTPException) as error:
            self.close()
            raise AgentSilent(f"the agent does not answer at {self._http.path}: {error}") from None
        if answer.status != 200:  # noqa: PLR2004
            raise _refusal(answer.status, text)
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return items


def socket_of(machine: Machine) -> Path:
    """The agent's socket as this computer sees it. `LabError` when the machine is off."""
    return Path(f"/proc/{machine.pid}/root/{SOCKET}")


def attach(
    path: Path, *attachments: Attachment, replace: bool = False, timeout_s: float = TIMEOUT_S
) -> dict[Attachment, str]:
    """`Api.attach` over a connection of its own."""
    with Api(path, timeout_s) as api:
        return api.attach(attachments, replace=replace)


def detach(
    path: Path, *attachments: Attachment | tuple[str, None], timeout_s: float = TIMEOUT_S
) -> dict[Attachment, str]:
    """`Api.detach` over a connection of its own."""
    with Api(path, timeout_s) as api:
        return api.detach(attachments)


def attachments(path: Path, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
    """`Api.attachments` over a connection of its own."""
    with Api(path, timeout_s) as api:
        return api.attachments()


def wait_api(path: Path, timeout_s: float = TIMEOUT_S, who: str = "the agent") -> None:
    """Until an agent answers. `LabTimeout` if none does."""

    def look() -> bool:
        try:
            attachments(path)
        except AgentSilent:
            return False
        return True

    wait_until(look, timeout_s, f"{who} to answer at {path}")


def attach_soon(
    path: Path, wanted: Iterable[Attachment], timeout_s: float = TIMEOUT_S, who: str = "the agent"
) -> float:
    """Attach as soon as the agent is up and has heard of the subnets; how long the agent took, in s.

    A pool that has just been filled takes a moment to reach it: until then it answers that there is no such subnet, or
    that it cannot say. Any other refusal is final. `AgentError` or `LabTimeout` when the time is over.
    """
    deadline = time.monotonic() + timeout_s
    wait_api(path, timeout_s, who)
    wanted = list(wanted)
    with Api(path, max(1.0, timeout_s)) as api:
        while True:
            began = time.monotonic()
            try:
                api.attach(wanted)
            except AgentError as error:
                if error.code not in NOT_YET or time.monotonic() >= deadline:
                    raise
                time.sleep(ASK_AGAIN_S)
            else:
                return time.monotonic() - began


class _UnixConnection(HTTPConnection):
    """HTTP over a stream socket with a path."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost")
        self.path, self.timeout = path, timeout_s

    def connect(self) -> None:
        """Called by the base class when there is no connection."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(self.timeout)
            link.connect(str(self.path))
        except BaseException:
            link.close()
            raise
        self.sock = link


def _states(items: list[dict[str, Any]]) -> dict[Attachment, str]:
    return {(item["address"], item["subnet"]): item["state"] for item in items}


def _refusal(status: int, text: bytes) -> AgentError:
    problem: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        problem = json.loads(text)
    detail = problem.get("detail") or problem.get("title") or text.decode(errors="replace")[:200]
    return AgentError(status, str(problem.get("code", "")), str(detail))
