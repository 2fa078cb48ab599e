"""Memory and CPU of daemons that have nothing to do, with one subnet and with 100."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.labs import OUR_NODES, apply, bench_lab, subnets_of
from bench.report import Report
from bench.settings import Settings
from proxypool.lab.lab import Lab

WINDOWS = 8
"""Of 30 s: the daemon looks at every namespace once in 240 s, and that must be in the figure."""
WINDOW_S = 30.0
QUICK_WINDOW_S = 5.0
CALM_S = 5.0
MEMORY_LIMIT_MIB, CPU_LIMIT_PERCENT = 120.0, 2.0
TICKS = os.sysconf("SC_CLK_TCK")
SERVICES = (
    ("node daemon", OUR_NODES, "daemon"),
    ("keepalived on a node", OUR_NODES, "keepalived"),
    ("host agent", ("host1",), "daemon"),
)


@dataclass
class Usage:
    """Of one service; where two machines run it, of the one that needs more."""

    resident_mib: list[float] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)


def run(settings: Settings) -> Report:
    """Measure."""
    many = settings.many_subnets()
    windows = settings.runs_or(WINDOWS)
    with bench_lab(settings, subnets=many, by_hand=False) as lab:
        subnets = subnets_of(lab)
        apply(lab, subnets[:1])
        one = _watch(lab, settings, min(2, windows), "1 subnet")
        settings.progress(f"adding {many - 1} subnets")
        apply(lab, subnets)
        all_of_them = _watch(lab, settings, windows, f"{many} subnets")
    report = Report()
    for name, _, _ in SERVICES:
        is_ours = name == "node daemon"
        report.compare(
            f"{name}, {many} subnets: resident memory",
            "MiB",
            all_of_them[name].resident_mib,
            one[name].resident_mib,
            "1 subnet",
            target=f"< {MEMORY_LIMIT_MIB:g} MB" if is_ours else "",
        )
        report.compare(
            f"{name}, {many} subnets: idle CPU",
            "% of a core",
            all_of_them[name].cpu_percent,
            one[name].cpu_percent,
            "1 subnet",
            target=f"< {CPU_LIMIT_PERCENT:g} %" if is_ours else "",
        )
        mean = sum(all_of_them[name].cpu_percent) / windows
        report.notes.append(f"{name}: mean CPU over all {windows} windows {mean:.2f} %")
    return report


def _watch(lab: Lab, settings: Settings, windows: int, what: str) -> dict[str, Usage]:
    time.sleep(CALM_S)
    found = {name: Usage() for name, _, _ in SERVICES}
    length_s = QUICK_WINDOW_S if settings.is_quick else WINDOW_S
    for number in range(windows):
        before, began = _everybody(lab, cpu_s), time.monotonic()
        time.sleep(length_s)
        after, span_s = _everybody(lab, cpu_s), time.monotonic() - began
        memory = _everybody(lab, resident_mib)
        for name, machines, service in SERVICES:
            places = [(machine, service) for machine in machines]
            found[name].cpu_percent.append(max((after[place] - before[place]) / span_s * 100 for place in places))
            found[name].resident_mib.append(max(memory[place] for place in places))
        daemon = found["node daemon"]
        said = f"node daemon {daemon.resident_mib[-1]:.1f} MiB, {daemon.cpu_percent[-1]:.2f} % of a core"
        settings.progress(f"{what} {number + 1}/{windows}: {said}")
    return found


def _everybody(lab: Lab, read: Callable[[int], float]) -> dict[tuple[str, str], float]:
    """(machine, service) → the sum over the service's processes. Nobody else is disturbed by looking."""
    found: dict[tuple[str, str], float] = {}
    for _, machines, service in SERVICES:
        for name in machines:
            pids = [process.pid for process in lab.machine(name).processes() if process.service == service]
            found[name, service] = sum(map(read, pids))
    return found


def cpu_s(pid: int) -> float:
    """User and system time of a process, its threads, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def resident_mib(pid: int) -> float:
    """VmRSS: also counts pages shared with other processes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
