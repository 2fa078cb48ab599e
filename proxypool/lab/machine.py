"""One machine of a running lab: run commands in it, start its services, read its logs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from proxypool.lab import services
from proxypool.lab.errors import LabError
from proxypool.lab.namespaces import base_environment, enter
from proxypool.lab.processes import INIT, Process, alive, descendants, find, wait_until
from proxypool.lab.services import Service
from proxypool.lab.state import StateDirectory
from proxypool.lab.topology import MachineSpec


class Machine:
    """A handle; the machine itself may be off."""

    def __init__(self, state: StateDirectory, spec: MachineSpec) -> None:
        self.lab, self.spec, self.name = state.name, spec, spec.name
        self._state = state
        self._init: Process | None = None

    def processes(self) -> list[Process]:
        """Everything that runs in it, its init first."""
        return [process for process in find(self.lab) if process.machine == self.name]

    def init(self) -> Process | None:
        """Its pid 1; None when the machine is off."""
        if self._init is None or not alive(self._init):
            self._init = next((p for p in self.processes() if p.service == INIT), None)
        return self._init

    @property
    def is_on(self) -> bool:
        """Whether it is powered on."""
        return self.init() is not None

    @property
    def pid(self) -> int:
        """This computer's pid of the machine's pid 1. `LabError` when the machine is off."""
        return self.require_on().pid

    def require_on(self) -> Process:
        """Its init. `LabError` when the machine is off."""
        init = self.init()
        if init is None:
            raise LabError(
                f"{self.name} of lab {self.lab!r} is off; `proxypool lab fault power-on {self.name}` starts it"
            )
        return init

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        timeout: float | None = 60.0,
        input: str | None = None,  # noqa: A002 - as subprocess.run has it
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. `CalledProcessError` unless `check` is off; ended with its children on timeout."""
        stdin = subprocess.PIPE if input is not None else subprocess.DEVNULL
        with self.popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, environment=environment
        ) as process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException:
                end(process)
                raise
        if check and process.returncode:
            raise subprocess.CalledProcessError(process.returncode, list(command), out, err)
        return subprocess.CompletedProcess(list(command), process.returncode, out, err)

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command. The pid is that of `nsenter`, which waits for it: stop it with `end` or `interrupt`."""
        return subprocess.Popen(
            [*enter(self.pid), *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env={**base_environment(self.lab, self.name), **(environment or {})},
        )

    def service(self, name: str) -> Service:
        """`LabError` if this machine has no such service."""
        for service in services.services_of(self.spec):
            if service.name == name:
                return service
        names = ", ".join(self.service_names()) or "none"
        raise LabError(f"{self.name} has no service {name!r}; it has {names}")

    def service_names(self, *, products: bool = True) -> list[str]:
        """What runs here when all is well; without `products`, keepalived and our daemons are left out."""
        return [s.name for s in services.services_of(self.spec) if products or not s.is_product]

    def start(self, name: str, tree: Path | None = None) -> None:
        """Start a service unless it runs; with `tree`, one of our daemons from another copy of the package."""
        service = self.service(name)
        if tree is not None:
            service = services.of_tree(service, tree)
        if not self.service_running(name):
            services.start(self.lab, self.name, self.pid, service, self.log_path(name))

    def service_process(self, name: str) -> Process | None:
        """The service's main process."""
        pid = self.pid
        return next((p for p in self.processes() if p.service == name and p.parent == pid), None)

    def service_running(self, name: str) -> bool:
        """Whether the service's main process lives."""
        return self.is_on and self.service_process(name) is not None

    def wait_service(self, name: str, timeout_s: float = 10.0) -> Process:
        """The service's main process, as soon as it is there."""
        found: list[Process] = []

        def look() -> bool:
            found.extend(process for process in [self.service_process(name)] if process)
            return bool(found)

        wait_until(look, timeout_s, f"{name} on {self.name} to run")
        return found[0]

    def log_path(self, service: str) -> Path:
        """Where a service of this machine writes its output."""
        return self._state.log(self.name, service)

    def log(self, service: str) -> str:
        """What a service wrote since the lab was made; empty if it never ran."""
        path = self.log_path(service)
        return path.read_text(errors="replace") if path.exists() else ""


def interrupt(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> None:
    """Signal what `Machine.popen` started: the command in the machine, not the `nsenter` that waits for it."""
    for pid in descendants(process.pid)[:1]:
        os.kill(pid, number)


def end(process: subprocess.Popen[str]) -> None:
    """Kill what `Machine.popen` started, with all its children, and reap it."""
    for pid in (*descendants(process.pid), process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
