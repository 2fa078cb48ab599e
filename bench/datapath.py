"""Throughput and packet rate from an instance to a database: through proxypool, and along a path laid by hand.

Both paths are in one lab at the same time and are measured in turn, in changing order. Then the node gets 100 subnets
and both are measured again, and once more with one subnet.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.by_hand import ByHand
from bench.figures import median, paired_ratio, spread
from bench.labs import HAND_INSTANCE, INSTANCE, OUR_NODES, apply, bench_lab, metrics, remove, subnets_of
from bench.probe import wait_reached
from bench.report import Report
from bench.settings import Settings
from proxypool.lab import preflight
from proxypool.lab.errors import LabError
from proxypool.lab.lab import Lab
from proxypool.lab.machine import end
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until

RUNS = 20
"""Pairs of runs with one subnet (half before, half after the others), and as many with 100."""
IPERF_PORT = 5201
SMALL_BYTES = 18
"""A frame of 64 bytes: 14 Ethernet, 20 IP, 8 UDP, 18, 4 check sum."""
HAND = "by hand"
BUSY_TRIES = 5


@dataclass(frozen=True)
class Kind:
    """What is measured."""

    measure: str
    unit: str
    options: tuple[str, ...]


TCP = Kind("TCP throughput", "Gbit/s", ("--omit", "1"))
SMALL = Kind(
    "64-byte packets received", "kpps", ("--udp", "--bitrate", "0", "--length", str(SMALL_BYTES), "--window", "4M")
)
KINDS = (TCP, SMALL)


@dataclass
class Pairs:
    """Values of both paths, measured one right after the other."""

    ours: list[float] = field(default_factory=list)
    hand: list[float] = field(default_factory=list)

    def ratio(self) -> float:
        """Of the paths, whatever else slowed both down."""
        return paired_ratio(self.ours, self.hand) or 0.0


def run(settings: Settings) -> Report:
    """Measure."""
    preflight.require({"iperf3": "iperf3"})
    few, many = 1, settings.many_subnets()
    runs = settings.runs_or(RUNS)
    with bench_lab(settings, subnets=many, by_hand=True) as lab:
        subnets = subnets_of(lab)
        hand = ByHand(lab)
        hand.lay()
        apply(lab, subnets[:few])
        with _servers(lab, (subnets[0].database, hand.subnet.database)):
            paths = ((INSTANCE, subnets[0]), (HAND_INSTANCE, hand.subnet))
            for pod, subnet in paths:
                wait_reached(lab, pod, [subnet.database_ip])
            alone, crowded = _new(), _new()
            changes = -_changes_of_master(lab)
            _measure(lab, settings, paths, alone, (runs + 1) // 2, "1 subnet")
            changes += _changes_of_master(lab)
            settings.progress(f"adding {many - few} subnets")
            apply(lab, subnets)
            wait_reached(lab, INSTANCE, [subnet.database_ip for subnet in subnets], 60.0)
            changes -= _changes_of_master(lab)
            _measure(lab, settings, paths, crowded, runs, f"{many} subnets")
            changes += _changes_of_master(lab)
            settings.progress(f"removing {many - few} subnets")
            remove(lab, subnets[few:])
            _measure(lab, settings, paths, alone, runs // 2, "1 subnet again")
    report = _report(alone, crowded, many)
    report.notes.append(f"{changes:.0f} pairs changed their master while something was measured: it should be none")
    return report


def _changes_of_master(lab: Lab) -> float:
    """So far, on both nodes."""
    samples = [sample for node in OUR_NODES for sample in metrics(lab, node)]
    return sum(sample.value for sample in samples if sample.name == "proxypool_failovers_total")


def _new() -> dict[Kind, Pairs]:
    return {kind: Pairs() for kind in KINDS}


def _report(alone: dict[Kind, Pairs], crowded: dict[Kind, Pairs], many: int) -> Report:
    report = Report()
    for kind, pairs in alone.items():
        report.compare(kind.measure, kind.unit, pairs.ours, pairs.hand, HAND, paired=True, target=">= 0.97")
    for kind, pairs in crowded.items():
        one = alone[kind]
        name = f"{kind.measure}, {many} subnets"
        report.compare(name, kind.unit, pairs.ours, one.ours, "1 subnet", target=">= 0.95")
        report.compare(f"{name} (path)", kind.unit, pairs.ours, pairs.hand, HAND, paired=True)
        report.notes.append(
            f"{kind.measure}: by hand, with {many} idle subnets on the other nodes of this computer, "
            f"{median(pairs.hand) / median(one.hand):.3f} of what it is without; relative to by hand ours is "
            f"{pairs.ratio() / one.ratio():.3f} of what it is with 1 subnet; half the quartile distance of "
            f"single runs is {spread(one.ours):.1%} of the median"
        )
    return report


Path = tuple[str, SubnetPlan]


def _measure(
    lab: Lab, settings: Settings, paths: tuple[Path, Path], found: dict[Kind, Pairs], runs: int, what: str
) -> None:
    for number in range(runs):
        for kind, pairs in found.items():
            # Ours first, then by hand first: what drifts favours neither.
            order = (0, 1) if number % 2 == 0 else (1, 0)
            values = {which: _iperf(lab, paths[which], kind, settings) for which in order}
            pairs.ours.append(values[0])
            pairs.hand.append(values[1])
            settings.progress(
                f"{what} {number + 1}/{runs}: {kind.measure} ours {values[0]:.2f}, by hand {values[1]:.2f} {kind.unit}"
            )


def _iperf(lab: Lab, path: Path, kind: Kind, settings: Settings) -> float:
    pod, subnet = path
    cores = sorted(os.sched_getaffinity(0))
    # The sender and all of the kernel's forwarding on one core, the receiver on another: else the scheduler decides.
    affinity = ("--affinity", f"{cores[0]},{cores[1]}") if len(cores) > 1 else ()
    duration = "1" if settings.is_quick else "2"
    command = [
        "iperf3",
        "--client",
        subnet.database_ip,
        "--port",
        str(IPERF_PORT),
        "--json",
        "--time",
        duration,
    ]
    done = lab.machine(pod).run([*command, *kind.options, *affinity], check=False, timeout=30.0)
    for _ in range(BUSY_TRIES):
        if "server is busy" not in done.stdout:
            break
        # It serves one client at a time, and has not noticed yet that the last one ended early.
        time.sleep(1.0)
        done = lab.machine(pod).run([*command, *kind.options, *affinity], check=False, timeout=30.0)
    try:
        document = json.loads(done.stdout)
        summary = document["end"]
        if kind is TCP:
            return float(summary["sum_received"]["bits_per_second"]) / 1e9
        arrived = summary["sum"]["packets"] - summary["sum"]["lost_packets"]
        return float(arrived / summary["sum"]["seconds"] / 1e3)
    except (ValueError, KeyError, ZeroDivisionError):
        raise LabError(f"iperf3 on {pod}: {(done.stderr or done.stdout).strip()[-500:]}") from None


@contextmanager
def _servers(lab: Lab, databases: tuple[str, ...]) -> Iterator[None]:
    with_servers = []
    try:
        for name in databases:
            machine = lab.machine(name)
            log = machine.log_path("iperf3")
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as out:
                with_servers.append(
                    machine.popen(["iperf3", "--server", "--port", str(IPERF_PORT)], stdout=out, stderr=out)
                )
            wait_until(
                lambda machine=machine: f":{IPERF_PORT}" in machine.run(["ss", "-Hltn"]).stdout,  # type: ignore[misc]
                10.0,
                f"iperf3 on {name} to listen",
                interval_s=0.1,
            )
        yield
    finally:
        for process in with_servers:
            end(process)
