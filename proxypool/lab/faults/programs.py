"""One program of a machine: killed, stopped, slowed down, bothered; and its clock.

There is no service manager in the lab: what was killed stays dead until `start-services` or `power-on`.
"""

# ruff: noqa: ARG001 - all acts are called alike

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from proxypool.lab import background, processes, services
from proxypool.lab.building import Builder
from proxypool.lab.errors import LabError
from proxypool.lab.fault_kinds import Options
from proxypool.lab.inside import other_clock
from proxypool.lab.machine import Machine

Act = Callable[[Builder, Machine, Options], float]
SLOW = f"{background.PREFIX}slow"
SLOW_STOPPED_S, SLOW_PERIOD_S = 0.45, 0.5
"""A ZooKeeper whose every fsync takes half a second: while one lasts it answers nobody."""
STORM_SIGNALS, STORM_PAUSE_S = 40, 0.025
CLOCK_FILE = "/run/faketime"
CLOCK_START_TIMEOUT_S = 20.0


def kill(service: str) -> Act:
    """SIGKILL to all its processes at once; one that is left would clean up after the others, or start them again. So
    they are stopped first: keepalived has its child told of its death.
    """

    def act(builder: Builder, machine: Machine, options: Options) -> float:
        _require(machine, service)
        began = time.monotonic()
        for process in _of(machine, service):
            processes.send(process, signal.SIGSTOP)
        processes.kill(_of(machine, service))
        # What it had started just now: an orphan would pass for it.
        processes.kill(_of(machine, service))
        return began

    return act


def stop(service: str) -> Act:
    """SIGSTOP: it neither works nor dies, and nobody who waits for its end hears of it."""

    def act(builder: Builder, machine: Machine, options: Options) -> float:
        _require(machine, service)
        began = time.monotonic()
        for process in _of(machine, service):
            processes.send(process, signal.SIGSTOP)
        return began

    return act


def continue_all(builder: Builder, machine: Machine, options: Options) -> float:
    """End whatever keeps programs from running."""
    machine.require_on()
    background.end(machine, SLOW)
    began = time.monotonic()
    for process in machine.processes():
        if process.service != processes.INIT:
            processes.send(process, signal.SIGCONT)
    return began


def start(builder: Builder, machine: Machine, options: Options) -> float:
    """Start what does not run, as a service manager would."""
    machine.require_on()
    began = time.monotonic()
    builder.start_services([machine.name])
    return began


def hindered(builder: Builder) -> set[str]:
    """Machines with a stopped process, or one that slows others down."""
    found = processes.find(builder.state.name)
    return {p.machine for p in found if p.stopped or p.service.startswith(background.PREFIX)}


def slow_zookeeper(builder: Builder, machine: Machine, options: Options) -> float:
    """Stopped nine tenths of the time: what a disk does whose fsync takes that long (ZooKeeper waits for it)."""
    main = _require(machine, "zookeeper")
    began = time.monotonic()
    pid = processes.pid_inside(main)
    background.start(machine, SLOW, "stutter", str(pid), str(SLOW_STOPPED_S), str(SLOW_PERIOD_S))
    return began


def storm(builder: Builder, machine: Machine, options: Options) -> float:
    """Many SIGHUPs to keepalived within a second."""
    main = _require(machine, "keepalived")
    began = time.monotonic()
    for _ in range(STORM_SIGNALS):
        processes.send(main, signal.SIGHUP)
        time.sleep(STORM_PAUSE_S)
    return began


def jump_clock(builder: Builder, machine: Machine, options: Options) -> float:
    """The wall clock of the daemon jumps. There is one such clock for all of this computer, so it is libfaketime that
    tells the daemon another time; a daemon that runs without is started again with it first.
    """
    machine.service("daemon")
    if not any(p.service == "daemon" and processes.has_in_environment(p, "FAKETIME_") for p in machine.processes()):
        _restart_with_faketime(builder, machine)
    began = time.monotonic()
    _write_clock(machine, options.seconds)
    return began


def set_clock(builder: Builder, machine: Machine, options: Options) -> float:
    """The clock is right again, by another jump."""
    began = time.monotonic()
    _write_clock(machine, 0.0)
    return began


def _restart_with_faketime(builder: Builder, machine: Machine) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise LabError("a clock that jumps needs libfaketime: apt-get install faketime")
    _write_clock(machine, 0.0)
    for process in _of(machine, "daemon"):
        processes.send(process, signal.SIGTERM)
    processes.wait_until(lambda: not _of(machine, "daemon"), CLOCK_START_TIMEOUT_S, "the daemon to end")
    daemon = machine.service("daemon")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": CLOCK_FILE,
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    # The daemon alone: what starts it would end at once, and take away what the library shares with those after it.
    python, dash_m, _, *words = daemon.command
    run = (python, dash_m, other_clock.__name__, *words)
    command = ("env", *(f"{name}={value}" for name, value in environment.items()), *run)
    changed = replace(daemon, command=command)
    services.start(machine.lab, machine.name, machine.pid, changed, machine.log_path("daemon"))
    machine.wait_service("daemon")


def _write_clock(machine: Machine, seconds: float) -> None:
    """Always as many bytes, in their place: whoever reads sees all of the old ones or of the new ones, and a disk that
    is full has room for them.
    """
    line = f"{seconds:+09.0f}\n".encode()
    try:
        file = os.open(f"/proc/{machine.pid}/root{CLOCK_FILE}", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, line, 0)
        finally:
            os.close(file)
    except OSError as error:
        raise LabError(f"cannot set the clock of {machine.name}: {CLOCK_FILE}: {error.strerror}") from error


def _of(machine: Machine, service: str) -> list[processes.Process]:
    return [process for process in machine.processes() if process.service == service]


def _require(machine: Machine, service: str) -> processes.Process:
    """Its first process; `LabError` if there is none."""
    machine.require_on()
    if service not in processes.OWN_SERVICES:
        machine.service(service)
        process = machine.service_process(service)
    else:
        process = next(iter(_of(machine, service)), None)
    if process is None:
        raise LabError(f"{service} does not run on {machine.name}")
    return process
