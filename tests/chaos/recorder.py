"""The observers of one run, outside of the machines or beside them. They ask the wire and the kernels."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from proxypool.core.addressing import namespace_of
from proxypool.lab.configs import SERVER_TICK_MS, SESSION_TIMEOUT_S
from proxypool.lab.fault_kinds import Fault, Options
from proxypool.lab.lab import Lab
from proxypool.lab.namespaces import has_address, in_network_of
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections, Holders, Prober
from proxypool.lab.topology import FABRIC, UNDERLAY, Kind, mac_of
from tests.chaos.history import Connection, FaultEvent, GateChange, History, Pair, Probes, Said, Span
from tests.lab.observe import EniWatch, Frame, Sniffer, said

GATE_LOOK_S = 0.004
REOPEN_S = 0.05
SAID_LOOK_S = 0.5
PROBE_MS = 5.0
CONNECTIONS = 20
CUSTOMERS = 172 << 24 | 16 << 16
CUSTOMERS_MASK = 0xFFF00000
"""All customers of a lab have addresses in 172.16.0.0/12."""


def pairs_of(lab: Lab) -> tuple[Pair, ...]:
    """Those that are watched."""
    return tuple(
        Pair(
            plan.id,
            pair.id,
            pair.havip,
            {member.node: member.address.partition("/")[0] for member in pair.members},
            {mac_of(member.node, "eth0"): member.node for member in pair.members},
            pair.egress_address,
        )
        for plan in lab.topology.subnet_plans
        for pair in plan.pairs
    )


class _Thread:
    """Looks again and again until the block is left."""

    interval_s = 0.1

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.interval_s):
            self.look()

    def look(self) -> None:
        """Once."""
        raise NotImplementedError


class Gates(_Thread):
    """Every gate of every pair, as the kernels have them; machines come and go."""

    interval_s = GATE_LOOK_S

    def __init__(self, lab: Lab, pairs: tuple[Pair, ...]) -> None:
        super().__init__()
        self.lab = lab
        self.places = [(node, pair.subnet) for pair in pairs for node in pair.members]
        self.changes: list[GateChange] = []
        self._files: dict[tuple[str, str], tuple[int, tuple[int, int]]] = {}
        self._last = dict.fromkeys(self.places, False)
        self._reopen_at = 0.0

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for fd, _identity in self._files.values():
            os.close(fd)

    def look(self) -> None:
        """Read what is open; from time to time see whether it is still the right one."""
        now = time.monotonic()
        if now >= self._reopen_at:
            self._reopen_at = now + REOPEN_S
            for place in self.places:
                self._reopen(place)
        for place in self.places:
            is_open = self._read(place)
            if is_open is not self._last[place]:
                self._last[place] = is_open
                self.changes.append(GateChange(time.monotonic(), *place, is_open))

    def _read(self, place: tuple[str, str]) -> bool:
        opened = self._files.get(place)
        if opened is None:
            return False
        try:
            return os.pread(opened[0], 8, 0).strip() == b"1"
        except OSError:
            return False

    def _reopen(self, place: tuple[str, str]) -> None:
        node, subnet = place
        name = namespace_of(subnet)
        identity: tuple[int, int] | None = None
        init = self.lab.machine(node).init()
        if init is not None:
            with contextlib.suppress(OSError):
                entry = os.stat(f"/proc/{init.pid}/root/run/netns/{name}")
                identity = entry.st_dev, entry.st_ino
        opened = self._files.get(place)
        if opened is not None and opened[1] != identity:
            os.close(self._files.pop(place)[0])
        if init is not None and identity is not None and place not in self._files:
            path = "/proc/sys/net/ipv4/ip_forward"
            with contextlib.suppress(OSError):
                fd = in_network_of(init.pid, lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC), name)
                self._files[place] = fd, identity


class Words(_Thread):
    """What daemons say of their members beside what their kernels say."""

    interval_s = SAID_LOOK_S

    def __init__(self, lab: Lab, gates: Gates) -> None:
        super().__init__()
        self.lab, self.gates = lab, gates
        self.said: list[Said] = []

    def look(self) -> None:
        """A daemon that does not answer says nothing."""
        for plan in self.lab.topology.subnet_plans:
            for member in plan.members:
                with contextlib.suppress(Exception):
                    self._look(plan, member.node)

    def _look(self, plan: SubnetPlan, node: str) -> None:
        init = self.lab.machine(node).init()
        if init is None or (word := said(self.lab, node, plan)) is None:
            return
        has_havip = has_address(init.pid, plan.havip)
        is_open = self.gates._last.get((node, plan.id))
        self.said.append(Said(time.monotonic(), node, plan.id, word.role, has_havip, is_open))


def bare_customers_program() -> list[tuple[int, int, int, int]]:
    """For `Sniffer` on the underlay: IPv4 packets from or to a customer's address that are in no tunnel."""
    word, half, jump, mask, end = 0x20, 0x28, 0x15, 0x54, 0x06
    return [
        (half, 0, 0, 12),
        (jump, 0, 6, 0x0800),
        (word, 0, 0, 26),
        (mask, 0, 0, CUSTOMERS_MASK),
        (jump, 4, 0, CUSTOMERS),
        (word, 0, 0, 30),
        (mask, 0, 0, CUSTOMERS_MASK),
        (jump, 1, 0, CUSTOMERS),
        (end, 0, 0, 0),
        (end, 0, 0, 0xFFFF),
    ]


class Crossings:
    """Packets of customers on the bare underlay, and on each customer's network packets for an address outside of it."""

    def __init__(self, lab: Lab) -> None:
        self._sniffers = {
            UNDERLAY: Sniffer(lab, FABRIC, UNDERLAY, program=bare_customers_program()),
        }
        for plan in lab.topology.subnet_plans:
            prefix = plan.cidr.rpartition(".")[0] + "."
            self._sniffers[plan.id] = Sniffer(
                lab,
                FABRIC,
                plan.bridge,
                program=[(0x28, 0, 0, 12), (0x15, 0, 3, 0x0800), (0x20, 0, 0, 30), *_outside(plan.cidr)],
                is_wanted=lambda frame, prefix=prefix: _is_astray(frame, prefix),  # type: ignore[misc]
            )

    def __enter__(self) -> Self:
        for sniffer in self._sniffers.values():
            sniffer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for sniffer in self._sniffers.values():
            sniffer.__exit__()

    def seen(self) -> tuple[str, ...]:
        """Where, and what."""
        return tuple(f"{name}: {frame}" for name, sniffer in self._sniffers.items() for frame in sniffer.frames[:20])


def _outside(cidr: str) -> list[tuple[int, int, int, int]]:
    """After the destination was loaded: pass it if it is not in a /24."""
    address = int.from_bytes(bytes(map(int, cidr.partition("/")[0].split("."))), "big")
    return [(0x54, 0, 0, 0xFFFFFF00), (0x15, 0, 1, address), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF)]


def _is_astray(frame: Frame, prefix: str) -> bool:
    return frame.kind == 0x0800 and not frame.destination.startswith((prefix, "224.", "255.255.255.255"))


@dataclass
class Recorder:
    """All of it. The block is the time that is watched."""

    lab: Lab
    pairs: tuple[Pair, ...] = field(init=False)
    holders: tuple[Span, ...] = ()
    probes: tuple[Probes, ...] = ()
    connections: tuple[Connection, ...] = ()
    strangers: tuple[str, ...] = ()
    crossed: tuple[str, ...] = ()
    faults: list[FaultEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs = pairs_of(self.lab)
        self._stack = contextlib.ExitStack()
        self.start = self.end = 0.0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._enis = EniWatch(self.lab)
            self._enis.start()
            stack.callback(self._enis.stop)
            self._crossings = stack.enter_context(Crossings(self.lab))
            self.gates = stack.enter_context(Gates(self.lab, self.pairs))
            self._words = stack.enter_context(Words(self.lab, self.gates))
            self._wire = self._began(stack, Holders(self.lab, "host1", [pair.havip for pair in self.pairs]))
            self._probers = dict(self._make_probers(stack))
            self._talks = dict(self._make_talks(stack))
            self.start = time.monotonic()
            self._stack = stack.pop_all()
        return self

    def _began(self, stack: contextlib.ExitStack, instrument: Any) -> Any:
        """Started; ended by its result, or whatever happens."""
        instrument.start()
        stack.callback(instrument._end)
        return instrument

    def _make_probers(self, stack: contextlib.ExitStack) -> Iterator[tuple[SubnetPlan, Prober]]:
        for plan in self.lab.topology.subnet_plans:
            yield plan, self._began(stack, Prober(self.lab, "pod1", plan.database_ip, interval_ms=PROBE_MS))

    def _make_talks(self, stack: contextlib.ExitStack) -> Iterator[tuple[SubnetPlan, Connections]]:
        for plan in self.lab.topology.subnet_plans:
            options: dict[str, Any] = {"count": CONNECTIONS, "rate": 20.0, "replace": True, "ready": 1}
            yield plan, self._began(stack, Connections(self.lab, "pod1", plan.database_ip, **options))

    def __exit__(self, kind: object, *_: object) -> None:
        self.end = time.monotonic()
        try:
            if kind is None:
                self._collect()
        finally:
            self._stack.close()

    def _collect(self) -> None:
        self.strangers, self.crossed = tuple(self._enis.seen()[:20]), self._crossings.seen()
        found = self._wire.result()["addresses"]
        self.holders = tuple(
            Span(address, span["mac"], span["start"], span["end"])
            for address, seen in found.items()
            for span in seen["spans"]
        )
        self.probes = tuple(self._probed(plan, instrument.result()) for plan, instrument in self._probers.items())
        self.connections = tuple(
            Connection("pod1", each["source"], each["opened"], each["over"], each["state"])
            for instrument in self._talks.values()
            for each in instrument.result()["connections"]
            if each["established"] is not None
        )

    def _probed(self, plan: SubnetPlan, result: dict[str, Any]) -> Probes:
        gaps = tuple((gap["start"], gap["end"]) for gap in result["gaps"])
        stall_s = result["own_stall_ms"] / 1e3
        counts = result["sent"], result["lost"]
        return Probes(plan.id, plan.pairs[0].id, "pod1", self.start, self.end, *counts, gaps, stall_s)

    def fault(self, kind: Fault | str, machine: str, options: Options | None = None) -> float:
        """Do it, and remember that it was done; when it began to act."""
        before, options = time.monotonic(), options or Options()
        began = self.lab.fault(kind, machine, options=options)
        self.faults.append(FaultEvent(before, time.monotonic(), Fault(kind).value, machine, options.subnet))
        return began

    def history(self, seed: str, **more: Any) -> History:
        """Everything, once the block was left. `more`: what others saw."""
        return History(
            seed=seed,
            session_timeout_s=SESSION_TIMEOUT_S,
            server_tick_s=SERVER_TICK_MS / 1000,
            zookeepers=tuple(m.name for m in self.lab.topology.machines.values() if m.kind is Kind.ZOOKEEPER),
            pairs=self.pairs,
            start=self.start,
            end=self.end,
            faults=tuple(self.faults),
            gates=tuple(self.gates.changes),
            holders=self.holders,
            probes=self.probes,
            connections=self.connections,
            said=tuple(self._words.said),
            strangers=self.strangers,
            crossed=self.crossed,
            **more,
        )
