"""What can be done to a machine, and undone. Each fault returns when it began to act: CLOCK_MONOTONIC, in s."""

# ruff: noqa: ARG001 - all acts are called alike

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from enum import StrEnum

from proxypool.lab import network, processes
from proxypool.lab.building import Builder
from proxypool.lab.errors import LabError
from proxypool.lab.machine import Machine
from proxypool.lab.topology import UNDERLAY, fabric_port


class Fault(StrEnum):
    """The kinds of faults."""

    POWER_OFF = "power-off"
    POWER_ON = "power-on"
    KILL_DAEMON = "kill-daemon"
    KILL_KEEPALIVED = "kill-keepalived"
    CUT_UNDERLAY = "cut-underlay"
    HEAL_UNDERLAY = "heal-underlay"
    CUT_ENI = "cut-eni"
    HEAL_ENI = "heal-eni"
    PAUSE = "pause"
    RESUME = "resume"


def inject(builder: Builder, machine: Machine, fault: Fault, subnet: str | None = None) -> float:
    """Do it. `LabError` when the machine has nothing the fault could act on. `subnet`: which ENI, default all."""
    if subnet and fault not in (Fault.CUT_ENI, Fault.HEAL_ENI):
        raise LabError(f"--subnet says which ENI to cut or heal; {fault} has none")
    return _ACTS[fault](builder, machine, subnet)


def ports_of(builder: Builder, machine: Machine) -> list[str]:
    """The fabric's ends of all cables of a machine, underlay first."""
    return [fabric_port(machine.name, card.name) for card in machine.spec.interfaces if card.bridge]


def _power_off(builder: Builder, machine: Machine, subnet: str | None) -> float:
    """No packet leaves after the first step: the kernel would say goodbye for the killed processes' connections."""
    ports = ports_of(builder, machine)
    began = time.monotonic()
    if (init := machine.init()) is None:
        return began
    builder.in_fabric(network.set_ports(ports, up=False))
    processes.kill([init])
    builder.remove_cables(machine.spec)
    processes.kill(p for p in machine.processes() if p.service != processes.INIT)
    return began


def _power_on(builder: Builder, machine: Machine, subnet: str | None) -> float:
    """Whatever is missing comes back: the machine, its cables, its services."""
    began = time.monotonic()
    if machine.is_on:
        builder.in_fabric(network.set_ports(ports_of(builder, machine), up=True))
        _signal_all(machine, signal.SIGCONT)
    else:
        builder.make_machines([machine.name])
    builder.start_services([machine.name])
    return began


def _kill_daemon(builder: Builder, machine: Machine, subnet: str | None) -> float:
    """With what it had started just now, as systemd ends a control group; an orphan would pass for the daemon."""
    process = _service(machine, "daemon")
    began = time.monotonic()
    processes.kill([process])
    processes.kill(p for p in machine.processes() if p.service == "daemon")
    return began


def _kill_keepalived(builder: Builder, machine: Machine, subnet: str | None) -> float:
    """All its processes at once; one that is left would clean up after the others, or start them again."""
    _service(machine, "keepalived")
    began = time.monotonic()
    processes.kill(p for p in machine.processes() if p.service == "keepalived")
    return began


def _pause(builder: Builder, machine: Machine, subnet: str | None) -> float:
    """All processes stop; the kernel of the machine goes on forwarding and answering, as it does in a real stall."""
    began = time.monotonic()
    _signal_all(machine, signal.SIGSTOP)
    return began


def _resume(builder: Builder, machine: Machine, subnet: str | None) -> float:
    began = time.monotonic()
    _signal_all(machine, signal.SIGCONT)
    return began


def _underlay(*, up: bool) -> Callable[[Builder, Machine, str | None], float]:
    def act(builder: Builder, machine: Machine, subnet: str | None) -> float:
        ports = [fabric_port(machine.name, card.name) for card in machine.spec.interfaces if card.bridge == UNDERLAY]
        if not ports:
            raise LabError(f"{machine.name} is not on the underlay")
        return _set_ports(builder, machine, ports, up=up)

    return act


def _eni(*, up: bool) -> Callable[[Builder, Machine, str | None], float]:
    def act(builder: Builder, machine: Machine, subnet: str | None) -> float:
        enis = {
            plan.id: fabric_port(machine.name, member.eni)
            for plan in builder.topology.subnet_plans
            for member in plan.all_members
            if member.node == machine.name
        }
        if not enis:
            raise LabError(f"{machine.name} has no ENI")
        if subnet and subnet not in enis:
            raise LabError(f"{machine.name} has no ENI in subnet {subnet!r}; it has one in {', '.join(enis)}")
        return _set_ports(builder, machine, [enis[subnet]] if subnet else list(enis.values()), up=up)

    return act


def _set_ports(builder: Builder, machine: Machine, ports: list[str], *, up: bool) -> float:
    machine.require_on()
    began = time.monotonic()
    builder.in_fabric(network.set_ports(ports, up=up))
    return began


def _service(machine: Machine, name: str) -> processes.Process:
    machine.service(name)
    process = machine.service_process(name)
    if process is None:
        raise LabError(f"{name} does not run on {machine.name}")
    return process


def _signal_all(machine: Machine, number: signal.Signals) -> None:
    machine.require_on()
    for process in machine.processes():
        if process.service != processes.INIT and process.machine == machine.name:
            processes.send(process, number)


_ACTS: dict[Fault, Callable[[Builder, Machine, str | None], float]] = {
    Fault.POWER_OFF: _power_off,
    Fault.POWER_ON: _power_on,
    Fault.KILL_DAEMON: _kill_daemon,
    Fault.KILL_KEEPALIVED: _kill_keepalived,
    Fault.CUT_UNDERLAY: _underlay(up=False),
    Fault.HEAL_UNDERLAY: _underlay(up=True),
    Fault.CUT_ENI: _eni(up=False),
    Fault.HEAL_ENI: _eni(up=True),
    Fault.PAUSE: _pause,
    Fault.RESUME: _resume,
}
