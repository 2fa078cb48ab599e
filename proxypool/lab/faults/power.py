"""A whole machine: its power, and a stall of all its processes."""

# ruff: noqa: ARG001 - all acts are called alike

from __future__ import annotations

import signal
import time

from proxypool.lab import network, processes
from proxypool.lab.building import Builder
from proxypool.lab.fault_kinds import Options
from proxypool.lab.faults import cables, packets, programs, resources
from proxypool.lab.machine import Machine


def off(builder: Builder, machine: Machine, options: Options) -> float:
    """No packet leaves after the first step: the kernel would say goodbye for the killed processes' connections."""
    present = builder.fabric_devices()
    ports = [port for port in cables.ports_of(machine) if port in present]
    began = time.monotonic()
    if (init := machine.init()) is None:
        return began
    builder.in_fabric(network.set_ports(ports, up=False))
    processes.kill([init])
    builder.remove_cables(machine.spec)
    processes.kill(p for p in machine.processes() if p.service != processes.INIT)
    return began


def on(builder: Builder, machine: Machine, options: Options) -> float:
    """Whatever is missing comes back, whatever hinders ends: the machine, its cables, its services."""
    began = time.monotonic()
    if machine.is_on:
        packets.heal(builder, machine)
        cables.restore(builder, machine, cables.all_enis(machine))
        builder.in_fabric(network.set_ports(cables.ports_of(machine), up=True))
        programs.continue_all(builder, machine, options)
        resources.free_disk(builder, machine, options)
    else:
        builder.make_machines([machine.name])
    builder.start_services([machine.name])
    return began


def pause(builder: Builder, machine: Machine, options: Options) -> float:
    """All processes stop; the kernel of the machine goes on forwarding and answering, as it does in a real stall."""
    machine.require_on()
    # Looking for them takes tens of ms where there are many.
    found = [process for process in machine.processes() if process.service != processes.INIT]
    began = time.monotonic()
    for process in found:
        processes.send(process, signal.SIGSTOP)
    return began
