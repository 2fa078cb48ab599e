"""What a machine runs out of, and what others take away from it."""

# ruff: noqa: ARG001 - all acts are called alike

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from proxypool.core.addressing import namespace_of
from proxypool.lab import connection_table, namespaces
from proxypool.lab.building import Builder
from proxypool.lab.errors import LabError
from proxypool.lab.fault_kinds import Options
from proxypool.lab.machine import Machine

ALL_ROOM = "50%"
"""What a tmpfs has when nobody says anything."""
_FLUSH = """
for table in raw mangle nat filter; do
    iptables-legacy -w -t $table -P INPUT ACCEPT 2>/dev/null; iptables-legacy -w -t $table -P FORWARD ACCEPT 2>/dev/null
    iptables-legacy -w -t $table -F; iptables-legacy -w -t $table -X
done
"""


def fill_disk(builder: Builder, machine: Machine, options: Options) -> float:
    """/run has no byte left: its tmpfs is shrunk to what is used."""
    pid = machine.pid
    began = time.monotonic()
    used_kb = max(4, machine_used_kb(pid))
    machine.run(["mount", "-o", f"remount,size={used_kb}k", "/run"])
    return began


def machine_used_kb(pid: int) -> int:
    """Of a machine's /run."""
    disk = os.statvfs(f"/proc/{pid}/root/run")
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024


def exhausted(builder: Builder) -> set[str]:
    """Machines whose disk is full."""
    inits = {name: machine.init() for name, machine in builder.machines.items()}
    return {name for name, init in inits.items() if init and not os.statvfs(f"/proc/{init.pid}/root/run").f_bfree}


def free_disk(builder: Builder, machine: Machine, options: Options) -> float:
    """There is room again."""
    began = time.monotonic()
    machine.run(["mount", "-o", f"remount,size={ALL_ROOM}", "/run"])
    return began


def fill_conntrack(builder: Builder, machine: Machine, options: Options) -> float:
    """As many entries as the kernel allows a namespace, for an hour: established, so that none makes room by itself."""
    began = time.monotonic()
    for place in _places(machine, options):
        place(connection_table.fill)
    return began


def empty_conntrack(builder: Builder, machine: Machine, options: Options) -> float:
    """Take those entries away again."""
    began = time.monotonic()
    for place in _places(machine, options):
        place(connection_table.empty)
    return began


def flush_iptables(builder: Builder, machine: Machine, options: Options) -> float:
    """All rules of all tables, as a firewall script does that thinks the machine is its own."""
    began = time.monotonic()
    names = _subnets(machine) if options.subnet is None else [_namespace(machine, options.subnet)]
    if options.subnet is None:
        machine.run(["sh", "-c", _FLUSH])
    for name in names:
        # It may be removed in this moment.
        machine.run(["ip", "netns", "exec", name, "sh", "-c", _FLUSH], check=False)
    return began


def _namespace(machine: Machine, subnet: str) -> str:
    """A subnet's namespace. `LabError` if the machine does not have it."""
    name = namespace_of(subnet)
    if name not in _subnets(machine):
        raise LabError(f"{machine.name} has no namespace {name}")
    return name


def _subnets(machine: Machine) -> list[str]:
    """Its subnets' namespaces."""
    directory = Path(f"/proc/{machine.pid}/root/run/netns")
    return sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []


def _places(machine: Machine, options: Options) -> Iterator[Callable[[Callable[[], object]], object]]:
    """Where to act: a subnet's namespace, or the machine's own."""
    pid = machine.pid
    if options.subnet is None:
        yield lambda act: namespaces.in_network_of(pid, act)
    else:
        name = _namespace(machine, options.subnet)
        yield lambda act: namespaces.in_network_of(pid, act, name)
