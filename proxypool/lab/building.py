"""Make the fabric and machines of a lab, join them, start their services. Used by `up` and by power-on alike."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from proxypool.lab import configs, identities, namespaces, network
from proxypool.lab.errors import LabError
from proxypool.lab.machine import Machine
from proxypool.lab.processes import INIT, environment, find, wait_until
from proxypool.lab.services import services_of
from proxypool.lab.state import StateDirectory, Wanted
from proxypool.lab.topology import FABRIC, ZOOKEEPER_PORT, Interface, Kind, MachineSpec, fabric_port

T = TypeVar("T")
PARALLEL = 4
"""Machines made at the same time: a machine costs a few processes, and computers that run labs have few cores."""


class Builder:
    """Makes what is missing of one lab."""

    def __init__(self, state: StateDirectory, wanted: Wanted, machines: dict[str, Machine]) -> None:
        self.state, self.wanted, self.machines = state, wanted, machines
        self.topology = wanted.topology

    def fabric_pid(self) -> int:
        """`LabError` when the lab has no fabric, hence no machine either."""
        for process in find(self.state.name):
            if process.machine == FABRIC and process.service == INIT:
                return process.pid
        raise LabError(f"lab {self.state.name!r} is not up; `proxypool lab up` starts it")

    def in_fabric(self, lines: Iterable[str], *, tolerant: bool = False) -> None:
        """Run `ip` commands in the fabric."""
        marks = environment(self.state.name, FABRIC)
        namespaces.ip_batch(self.fabric_pid(), lines, marks, tolerant=tolerant)

    def fabric_devices(self) -> set[str]:
        """Names of the fabric's interfaces."""
        return set(namespaces.in_network_of(self.fabric_pid(), lambda: [name for _, name in socket.if_nameindex()]))

    def make_fabric(self) -> None:
        """The bridges and the place for disks."""
        pid = namespaces.start_fabric(self.state.name, self.state.disks)
        namespaces.in_network_of(pid, _quiet_fabric)
        self.in_fabric(network.bridges(self.topology))

    def make_machines(self, names: Iterable[str]) -> None:
        """Power machines on: their namespaces, then their cables. No service yet."""
        names = tuple(names)
        specs = [self.topology.machines[name] for name in names]
        fabric = self.fabric_pid()
        for spec in specs:
            if Path(f"/proc/{fabric}/root{self.state.disks}/{spec.name}").exists():
                self.remove_cables(spec)
        _in_parallel(lambda spec: self._make_machine(spec, fabric), specs)
        pids = {name: init.pid for name, machine in self.machines.items() if (init := machine.init())}
        self.in_fabric(line for spec in specs for line in network.cables_to_fabric(spec, pids[spec.name]))
        cards = {spec.name: list(spec.interfaces) for spec in specs}
        for machine, card, far_machine, far_card in self._direct_cables(specs, pids):
            marks = environment(self.state.name, machine)
            namespaces.ip_batch(pids[machine], [network.cable_between(card, far_card, pids[far_machine])], marks)
            if far_machine not in names:
                cards.setdefault(far_machine, []).append(far_card)
        missing = {card.peer[0] for spec in specs for card in spec.interfaces if card.peer} - pids.keys()
        _in_parallel(lambda item: self._configure(*item, pids, missing), list(cards.items()))

    def remove_cables(self, spec: MachineSpec) -> None:
        """Of a machine that is off. The kernel frees its namespaces in its own time; power-on needs the names now."""
        ports = [fabric_port(spec.name, card.name) for card in spec.interfaces if card.bridge]
        self.in_fabric(network.remove_ports(ports), tolerant=True)
        for card in spec.interfaces:
            if card.peer and (far := self.machines[card.peer[0]].init()):
                marks = environment(self.state.name, card.peer[0])
                namespaces.ip_batch(far.pid, network.remove_ports([card.peer[1]]), marks, tolerant=True)

    def start_services(self, names: Iterable[str]) -> None:
        """Start whatever of the wanted services does not run."""
        jobs = [
            (name, service.name)
            for name in names
            for service in services_of(self.topology.machines[name])
            if self.wanted.start_daemons or not service.is_product
        ]
        _in_parallel(lambda job: self.machines[job[0]].start(job[1]), jobs)

    def wait_zookeeper(self, timeout_s: float) -> None:
        """Until every ZooKeeper server that is on serves clients."""
        for machine in self.machines.values():
            if machine.spec.kind is Kind.ZOOKEEPER and machine.is_on:
                pid = machine.pid
                wait_until(
                    lambda pid=pid: zookeeper_mode(pid) != "",  # type: ignore[misc]
                    timeout_s,
                    f"{machine.name} to serve; see `proxypool lab logs {machine.name}`",
                    interval_s=0.05,
                )

    def check_services(self) -> None:
        """`LabError` when a program that should run has ended; it has said why."""
        for name, service in self.dead_services():
            tail = self.machines[name].log(service).strip()[-1000:]
            raise LabError(f"{service} on {name} ended at once: {tail or 'without a word'}")

    def dead_services(self) -> list[tuple[str, str]]:
        """(machine, service) that should run and does not."""
        running = {(process.machine, process.service) for process in find(self.state.name)}
        return [
            (name, service)
            for name, machine in self.machines.items()
            for service in machine.service_names(products=self.wanted.start_daemons)
            if (name, service) not in running
        ]

    def _make_machine(self, spec: MachineSpec, fabric: int) -> None:
        disks = self.state.disks
        if not Path(f"/proc/{fabric}/root{disks}/{spec.name}").exists():
            secrets = identities.files(self.state.identities, spec) if self.topology.secure else {}
            namespaces.make_disk(fabric, disks, spec.name, configs.files(self.topology, spec), secrets)
        pid = namespaces.start_machine(self.state.name, spec.name, fabric, disks)
        if spec.kind is Kind.NODE:
            for directory in configs.RUN_DIRECTORIES:
                Path(f"/proc/{pid}/root{directory}").mkdir()
        namespaces.in_network_of(pid, lambda: _set_kernel(spec))

    def _direct_cables(
        self, specs: list[MachineSpec], pids: dict[str, int]
    ) -> list[tuple[str, Interface, str, Interface]]:
        """Cables without a bridge whose two machines are on, each once."""
        cables: dict[frozenset[tuple[str, str]], tuple[str, Interface, str, Interface]] = {}
        for spec in specs:
            for card in spec.interfaces:
                if card.peer and card.peer[0] in pids:
                    far_machine, far_name = card.peer
                    far = next(c for c in self.topology.machines[far_machine].interfaces if c.name == far_name)
                    cables.setdefault(
                        frozenset([(spec.name, card.name), card.peer]), (spec.name, card, far_machine, far)
                    )
        return list(cables.values())

    def _configure(self, name: str, cards: list[Interface], pids: dict[str, int], missing: set[str]) -> None:
        present = [card for card in cards if not card.peer or card.peer[0] not in missing]
        lines = ["link set lo up", *network.configure(present)]
        namespaces.ip_batch(pids[name], lines, environment(self.state.name, name))


def zookeeper_mode(pid: int) -> str:
    """`standalone`, `leader` or `follower`; empty when the server in the machine of `pid` does not serve."""

    def ask() -> str:
        with socket.create_connection(("127.0.0.1", ZOOKEEPER_PORT), 1.0) as link:
            link.sendall(b"srvr")
            return b"".join(iter(lambda: link.recv(4096), b"")).decode(errors="replace")

    try:
        answer = namespaces.in_network_of(pid, ask)
    except OSError:
        return ""
    return next((line.partition(": ")[2] for line in answer.splitlines() if line.startswith("Mode: ")), "")


def _set_kernel(spec: MachineSpec) -> None:
    """What a machine must not inherit from this computer."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1" if spec.forwards else "0")
    _write_if_there(Path("/proc/sys/net/ipv6/conf/default/disable_ipv6"), "1")


def _quiet_fabric() -> None:
    """No addresses on bridges, no iptables for bridged packets."""
    for path in ("ipv6/conf/default/disable_ipv6", "ipv6/conf/all/disable_ipv6"):
        _write_if_there(Path("/proc/sys/net") / path, "1")
    _write_if_there(Path("/proc/sys/net/bridge/bridge-nf-call-iptables"), "0")


def _write_if_there(path: Path, text: str) -> None:
    if path.exists():
        path.write_text(text)


def _in_parallel(act: Callable[[T], None], items: list[T]) -> None:
    with ThreadPoolExecutor(PARALLEL) as pool:
        for _ in pool.map(act, items):
            pass
