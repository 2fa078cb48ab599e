"""Programs of the lab that act in a machine until they are ended, such as one that delays packets.

They carry the marks of the machine, so that power-off and `lab down` end them too, and a service name of their own.
"""

from __future__ import annotations

import subprocess

from proxypool.lab import processes
from proxypool.lab.errors import LabError
from proxypool.lab.machine import Machine
from proxypool.lab.namespaces import base_environment, enter
from proxypool.lab.services import INSIDE

PREFIX = "fault-"
START_TIMEOUT_S = 10.0


def start(machine: Machine, name: str, module: str, *arguments: str) -> None:
    """Start a module of `proxypool.lab.inside`, unless one of that name runs, and wait for its first line."""
    if running(machine, name):
        return
    with subprocess.Popen(
        [*enter(machine.pid), "setsid", "--fork", *INSIDE, f"proxypool.lab.inside.{module}", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=base_environment(machine.lab, machine.name, name),
        text=True,
    ) as process:
        line = process.stdout.readline() if process.stdout else ""
    if line.strip() != "ready":
        raise LabError(f"{module} does not start on {machine.name}: {line.strip()}")


def running(machine: Machine, name: str) -> list[processes.Process]:
    """Its processes."""
    return [process for process in machine.processes() if process.service == name]


def end(machine: Machine, name: str) -> bool:
    """Whether there was one."""
    found = running(machine, name)
    processes.kill(found)
    return bool(found)
