"""What a lab looks like: for `lab status` and `lab logs`. Observed, not remembered."""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import UNSET, UnsetType

from proxypool.lab import processes
from proxypool.lab.building import zookeeper_mode
from proxypool.lab.documents import LabMachine, LabStatus, Service
from proxypool.lab.errors import LabError
from proxypool.lab.lab import Lab
from proxypool.lab.machine import Machine
from proxypool.lab.namespaces import in_network_of
from proxypool.lab.services import services_of
from proxypool.lab.topology import Kind, fabric_port

FOLLOW_INTERVAL_S = 0.2


def describe(lab: Lab) -> LabStatus:
    """The document of `lab status -o json`."""
    found = processes.find(lab.name)
    cut = _cut_ports(found)
    machines = tuple(_machine(machine, found, cut) for machine in lab.machines.values())
    return LabStatus(name=lab.name, topology=lab.topology, machines=machines)


def table(document: LabStatus) -> str:
    """The same for people."""
    rows = [("MACHINE", "KIND", "STATE", "ADDRESSES", "SERVICES", "CUT")]
    for machine in document.machines:
        services = " ".join(f"{each.name}:{'up' if each.running else 'down'}" for each in machine.services)
        addresses = " ".join(dict.fromkeys(a for a in machine.addresses.values() if a))
        rows.append((machine.name, machine.kind, machine.state, addresses, services, " ".join(machine.cut)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def follow_logs(machine: Machine, service: str | None, *, follow: bool) -> Iterator[str]:
    """Lines of a machine's logs, each with its service's name when there are several."""
    if service:
        machine.service(service)
        names = [service]
    else:
        names = [entry.name for entry in services_of(machine.spec)]
        if not names:
            raise LabError(f"{machine.name} runs no service, so it has no log")
    offsets = dict.fromkeys(names, 0)
    while True:
        for name in names:
            lines, offsets[name] = _new_lines(machine.log_path(name), offsets[name], partial=not follow)
            yield from (line if len(names) == 1 else f"{name}: {line}" for line in lines)
        if not follow:
            return
        time.sleep(FOLLOW_INTERVAL_S)


def _new_lines(path: Path, offset: int, *, partial: bool) -> tuple[list[str], int]:
    """Whole lines after `offset`; with `partial` also a last one without an end."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    if not partial:
        data = data[: data.rfind(b"\n") + 1]
    return data.decode(errors="replace").splitlines(), offset + len(data)


def _machine(machine: Machine, found: list[processes.Process], cut: set[str]) -> LabMachine:
    own = [process for process in found if process.machine == machine.name]
    init = next((process for process in own if process.service == processes.INIT), None)
    running = {process.service for process in own if init and process.parent == init.pid}
    work = [process for process in own if process.service not in ("", processes.INIT)]
    state = "off" if init is None else "paused" if work and all(process.stopped for process in work) else "on"
    mode: str | UnsetType = UNSET
    if machine.spec.kind is Kind.ZOOKEEPER:
        mode = zookeeper_mode(init.pid) if init and state == "on" else ""
    return LabMachine(
        name=machine.name,
        kind=machine.spec.kind.value,
        state=state,
        pid=init.pid if init else None,
        addresses={card.name: card.address for card in machine.spec.interfaces},
        services=tuple(Service(name=s.name, running=s.name in running) for s in services_of(machine.spec)),
        cut=tuple(card.name for card in machine.spec.interfaces if fabric_port(machine.name, card.name) in cut),
        mode=mode,
    )


def _cut_ports(found: list[processes.Process]) -> set[str]:
    """Ports of the fabric that are down."""
    fabric = next((p.pid for p in found if p.machine == "fabric" and p.service == processes.INIT), None)
    if fabric is None:
        return set()
    return in_network_of(fabric, _down_interfaces)


def _down_interfaces() -> set[str]:
    """Of the calling thread's network namespace, asked through a socket: /sys shows another one."""
    down = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for _, name in socket.if_nameindex():
            answer = fcntl.ioctl(link, 0x8913, struct.pack("16sH22x", name.encode(), 0))  # SIOCGIFFLAGS
            if not struct.unpack("16xH22x", answer)[0] & 1:  # IFF_UP
                down.add(name)
    return down
