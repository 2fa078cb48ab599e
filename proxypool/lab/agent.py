"""Talks to the local API of a host's agent, from outside of its machine and without a process in it.

    agent.attach(agent.socket_of(lab.machine("host1")), ("10.244.1.2", "s1"))

Each function opens a connection of its own; for many calls over one there is `proxypool.adapters.agent.Agent`. A socket
with a path is not bound to a network namespace, and /proc/<pid>/root leads to it. Errors are those of the client:
`AgentRefused`, and `TransientError` when no agent answers or it cannot do it now.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from proxypool.adapters.agent import SOCKET_NAME, Agent, AgentRefused
from proxypool.core.errors import TransientError
from proxypool.lab.errors import LabTimeout
from proxypool.lab.machine import Machine

RUN_DIR = "run/proxypool"
TIMEOUT_S = 10.0
"""For one answer: the first use of a subnet on a host is waited for, too."""
NOT_YET = "unknown-subnet"
"""The code of a refusal that passes by itself, when the pool has just been filled."""
ASK_AGAIN_S = 0.02
Attachment = tuple[str, str]
"""(instance's address, subnet's id)."""


def socket_of(machine: Machine) -> Path:
    """The agent's socket as this computer sees it. `LabError` when the machine is off."""
    return Path(f"/proc/{machine.pid}/root/{RUN_DIR}/{SOCKET_NAME}")


def attach(
    path: Path, *attachments: Attachment, replace: bool = False, timeout_s: float = TIMEOUT_S
) -> dict[Attachment, str]:
    """Attachment → `attached` or `unchanged`; all or none. With `replace` an address loses its other subnets.

    Returns when the first packet can pass.
    """
    with _talking_to(path, timeout_s) as api:
        return _states(api.attach(attachments, replace=replace))


def detach(
    path: Path, *attachments: Attachment | tuple[str, None], timeout_s: float = TIMEOUT_S
) -> dict[Attachment, str]:
    """Attachment → `detached` or `absent`. Subnet None: all of the address."""
    with _talking_to(path, timeout_s) as api:
        return _states(api.detach(attachments))


def attachments(path: Path, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
    """What is attached, with all that the agent says of it."""
    with _talking_to(path, timeout_s) as api:
        return api.attachments()


def wait_api(path: Path, timeout_s: float = TIMEOUT_S, who: str = "the agent") -> None:
    """Until an agent answers. `LabTimeout` if none does."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            attachments(path)
        except TransientError as error:
            _wait_a_little(deadline, f"{who} did not answer within {timeout_s:.0f} s: {error}")
        else:
            return


def attach_soon(
    path: Path, wanted: Iterable[Attachment], timeout_s: float = TIMEOUT_S, who: str = "the agent"
) -> float:
    """Attach as soon as the agent is up and has heard of the subnets; how long the agent took, in s.

    `LabTimeout` when the time is over. `AgentRefused` at once if it is for another reason than a subnet that the agent
    has not heard of: a pool that has just been filled takes a moment to reach it.
    """
    deadline = time.monotonic() + timeout_s
    wait_api(path, timeout_s, who)
    asked = tuple(wanted)
    while True:
        began = time.monotonic()
        try:
            attach(path, *asked, timeout_s=max(1.0, deadline - began))
        except (AgentRefused, TransientError) as error:
            if isinstance(error, AgentRefused) and error.code != NOT_YET:
                raise
            _wait_a_little(deadline, f"{who} could not attach within {timeout_s:.0f} s: {error}")
        else:
            return time.monotonic() - began


def _wait_a_little(deadline: float, problem: str) -> None:
    if time.monotonic() >= deadline:
        raise LabTimeout(problem)
    time.sleep(ASK_AGAIN_S)


@contextlib.contextmanager
def _talking_to(path: Path, timeout_s: float) -> Iterator[Agent]:
    with contextlib.closing(Agent(path, timeout_s)) as api:
        yield api


def _states(items: list[dict[str, str]]) -> dict[Attachment, str]:
    return {(item["address"], item["subnet"]): item["state"] for item in items}
