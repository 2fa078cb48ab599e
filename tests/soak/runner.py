"""Cycles of traffic, churn and faults in a lab; a measurement at rest after each."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxypool.lab.errors import LabError
from proxypool.lab.fault_kinds import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.prober import Connections
from proxypool.lab.topology import Kind, Topology
from tests.chaos.schedule import Step, make
from tests.lab.observe import PATIENCE, spare_cards, tunnel_kind, wait_settled, wait_until
from tests.soak.churn import CARDS, Churn
from tests.soak.growth import HISTORY_MOST, Point, Verdict, judge
from tests.soak.sampling import sample

CYCLE_S = 30.0
"""Of churn and faults, before everything is healed and measured."""
TALKS = 60
RATE = 30.0
"""New connections a second."""
ENDING = frozenset(
    {
        Fault.POWER_OFF,
        Fault.KILL_DAEMON,
        Fault.KILL_KEEPALIVED,
        Fault.KILL_CONNTRACKD,
        Fault.STOP_CONNTRACKD,
        Fault.STORM_KEEPALIVED,
        Fault.DELETE_ENI,
        Fault.JUMP_CLOCK,
    }
)
"""Faults that end what is measured: only the last node has them, so that the others' daemons live through the run."""
QUIET_WITHIN_S = 60.0
Say = Callable[[str], None]


@dataclass
class Run:
    """What was measured."""

    seed: str
    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    """(seconds since the beginning, figures), each at rest."""
    faults: int = 0
    acts: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
    connections: int = 0

    def verdicts(self) -> list[Verdict]:
        """Of every series with two measurements or more."""
        series: dict[str, list[Point]] = {}
        for at, figures in self.samples:
            for name, value in figures.items():
                series.setdefault(name, []).append(Point(at, value))
        return [judge(name, points) for name, points in sorted(series.items()) if len(points) > 1]

    def problems(self) -> list[str]:
        """What grows by more than it may."""
        found = [
            f"{one.name} grows by {one.growth:.1f} ({one.per_hour:.1f} an hour); {one.limit:.1f} are allowed"
            for one in self.verdicts()
            if one.is_bad
        ]
        most = max((figures.get("pool - history", 0.0) for _, figures in self.samples), default=0.0)
        return [*found, *([f"the history has {most:.0f} records"] if most > HISTORY_MOST else [])]

    def document(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "seed": self.seed,
            "faults": self.faults,
            "acts": dict(self.acts),
            "refused": self.refused,
            "connections": self.connections,
            "samples": [{"at": round(at, 1), **figures} for at, figures in self.samples],
        }

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.document(), indent=1))


def topology_of(name: str) -> Topology:
    """As for chaos, with instances to spare, an egress address for each pair, and a controller."""
    return Topology(name, nodes=3, hosts=1, pods=2, subnets=2, zk=3, egress=True, controllers=1, tunnel=tunnel_kind())


def run(lab: Lab, seed: str, duration_s: float, say: Say) -> Run:
    """As many cycles as fit."""
    result = Run(seed)
    churn = Churn(lab, random.Random(f"{seed}/churn"))
    began = time.monotonic()
    churn.make_lasting()
    with spare_cards(lab, *CARDS):
        number = 0
        while not result.samples or time.monotonic() - began < duration_s:
            _cycle(lab, result, churn, f"{seed}/{number}")
            _rest(lab, churn)
            at = time.monotonic() - began
            result.samples.append((at, sample(lab)))
            number += 1
            say(f"{at:6.0f} s  cycle {number}: {result.faults} faults, {sum(churn.done.values())} acts so far")
    result.acts, result.refused = churn.done, churn.refused
    return result


def _cycle(lab: Lab, result: Run, churn: Churn, seed: str) -> None:
    subnet = lab.topology.subnet_plans[0]
    worker = threading.Thread(target=churn.cycle, args=(CYCLE_S,), name="churn")
    with Connections(
        lab, "pod1", subnet.database_ip, count=TALKS, rate=RATE, lifetime_s=1.5, replace=True, ready=1
    ) as talks:  # fmt: skip
        worker.start()
        try:
            result.faults += _break(lab, make(seed, lab.topology, CYCLE_S))
        finally:
            worker.join()
            _heal(lab)
        result.connections += int(talks.result()["established"])


def _break(lab: Lab, steps: tuple[Step, ...]) -> int:
    """The steps at their times; how many were done."""
    began, count, spared = time.monotonic(), 0, lab.topology.node_names[:-1]
    for step in steps:
        if step.fault in ENDING and step.machine in spared:
            continue
        time.sleep(max(0.0, began + step.at - time.monotonic()))
        try:
            lab.fault(step.fault, step.machine, options=step.options)
            count += 1
        except LabError:
            # What it is about is gone just then.
            continue
    return count


def _heal(lab: Lab) -> None:
    for spec in lab.topology.machines.values():
        if spec.kind in {Kind.NODE, Kind.ZOOKEEPER}:
            lab.fault(Fault.POWER_ON, spec.name)


def _rest(lab: Lab, churn: Churn) -> None:
    """Everything is well, and as it was before the cycle."""
    wait_settled(lab, 60.0 * PATIENCE)
    churn.take_back()
    lab.wait_ready(30.0 * PATIENCE)
    wait_settled(lab, 60.0 * PATIENCE)
    seen: list[dict[str, float]] = []

    def is_quiet() -> bool:
        """Two looks in a row see the same objects: what was taken back is gone."""
        now = sample(lab)
        kept = {
            name: value for name, value in now.items() if name.endswith((" namespaces", " rules", " znodes", " files"))
        }
        seen.append(kept)
        return len(seen) > 1 and seen[-1] == seen[-2]

    wait_until(is_quiet, QUIET_WITHIN_S * PATIENCE, "the lab to be at rest", interval_s=1.0)
