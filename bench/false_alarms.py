"""Masters that are replaced although they live, and how soon those that do not, by detection profile: with busy
processors and lost advertisements.

Pairs of nodes side by side in one lab, each with other timers, all under the same conditions at the same time. At
first nothing is powered off, so every takeover is a false one. They are counted in keepalived's own log. Then the
masters of the pairs are powered off in turn, under the same conditions still.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench.labs import holder, power_on, unsettled
from bench.report import Report
from bench.settings import Settings
from bench.witness import Witness
from proxypool.core.keepalived import STARTUP_DELAY_S
from proxypool.lab.errors import LabError
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.machine import end
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import Topology

NAME = "bench-alarms"
WINDOW_S = 60.0
WINDOWS = 30
"""Of the condition that counts; the others get a sixth."""
CALM_S = 2.0
POWER_OFFS = 10
"""Of each pair, under each condition; fewer when quick."""
OFF_S = 8.0
"""The dead one must have been missed: else it is still the elected one and takes the HaVip back."""
SETTLED_S = 70.0
TAKEOVER = "Entering MASTER STATE"


@dataclass(frozen=True)
class Arm:
    """A pair of nodes, by what stands in their configuration."""

    name: str
    lines: str
    is_default: bool = False


ARMS = (
    Arm("balanced", 'detection = "balanced"', is_default=True),
    Arm("fast", 'detection = "fast"'),
    Arm("conservative", 'detection = "conservative"'),
    Arm("10 ms x 3, real time", 'detection = "balanced"\nmissing_adverts = 3'),
    Arm("30 ms x 3, no real time", 'detection = "conservative"\nadvert_interval_ms = 30\nmissing_adverts = 3'),
)


@dataclass(frozen=True)
class Condition:
    """What the machines have to bear."""

    is_busy: bool
    loss: float
    share: float = 1 / 6
    """Of the windows."""

    @property
    def name(self) -> str:
        """For the table."""
        return f"{'busy' if self.is_busy else 'idle'}, {self.loss:.0%} lost"


CONDITIONS = (
    Condition(is_busy=True, loss=0.05, share=1.0),
    Condition(is_busy=True, loss=0.0),
    Condition(is_busy=False, loss=0.01),
    Condition(is_busy=False, loss=0.05),
    Condition(is_busy=False, loss=0.1),
)


def run(settings: Settings) -> Report:
    """Measure. `--runs`: minutes of the condition that counts."""
    windows = settings.runs_or(WINDOWS)
    topology = Topology(
        NAME, nodes=2 * len(ARMS), hosts=1, subnets=1, pairs=len(ARMS), tunnel=settings.tunnel, attach=False
    )
    report = Report()
    if Lab.exists(NAME):
        raise LabError(f"lab {NAME!r} is up; `proxypool lab down --name {NAME}`")
    with Lab.up(topology, settings.progress, start_daemons=False, apply=False) as lab:
        _start(lab)
        for condition in CONDITIONS:
            count = max(1, round(windows * condition.share))
            with _losing(lab, condition.loss), _busy(lab, is_wanted=condition.is_busy):
                found = _measure(settings, lab, condition, count)
                silent_ms = _power_offs(settings, lab, condition)
            _tell(report, condition, found, count)
            for arm in ARMS:
                report.limit(f"power-off to claim, {condition.name}: {arm.name}", "ms", silent_ms[arm.name], None)
            time.sleep(CALM_S)
    return report


def _tell(report: Report, condition: Condition, found: dict[str, list[float]], windows: int) -> None:
    for arm in ARMS:
        total = sum(found[arm.name])
        has_target = arm.is_default and condition is CONDITIONS[0]
        report.limit(
            f"false takeovers, {condition.name}: {arm.name}",
            "per hour",
            [total * 60 / windows],
            0.0 if has_target else None,
        )
        report.notes.append(f"{condition.name}, {arm.name}: {total:g} in {windows} min")


def _start(lab: Lab) -> None:
    """Each pair of nodes with its own timers; then one pair of the pool on each."""
    for number, arm in enumerate(ARMS):
        for node in _nodes(lab, number):
            machine = lab.machine(node)
            lines = arm.lines.replace("\n", "\\n")
            machine.run(["sed", "-i", f"s/^detection = .*/{lines}/", "/etc/proxypool/proxypool.toml"])
            machine.start("keepalived")
            machine.start("daemon")
    lab.apply_pool()
    wait_until(
        lambda: all(sum(_takeovers(lab, node) for node in _nodes(lab, n)) for n in range(len(ARMS))),
        60.0,
        "every pair to have a master",
        interval_s=0.2,
    )
    time.sleep(2 * CALM_S)


def _nodes(lab: Lab, number: int) -> tuple[str, ...]:
    pair = lab.topology.subnet_plans[0].pairs[number]
    return tuple(member.node for member in pair.members)


def _takeovers(lab: Lab, node: str) -> int:
    return lab.machine(node).log("keepalived").count(TAKEOVER)


def _measure(settings: Settings, lab: Lab, condition: Condition, windows: int) -> dict[str, list[float]]:
    """Takeovers in each window, by arm."""
    found: dict[str, list[float]] = {arm.name: [] for arm in ARMS}
    time.sleep(CALM_S)
    for number in range(windows):
        before = [sum(_takeovers(lab, node) for node in _nodes(lab, n)) for n in range(len(ARMS))]
        time.sleep(WINDOW_S if not settings.is_quick else WINDOW_S / 10)
        for n, arm in enumerate(ARMS):
            after = sum(_takeovers(lab, node) for node in _nodes(lab, n))
            found[arm.name].append(after - before[n])
        told = ", ".join(f"{name} {sum(values):g}" for name, values in found.items())
        settings.progress(f"{condition.name}: {number + 1}/{windows}: {told}")
    return found


def _power_offs(settings: Settings, lab: Lab, condition: Condition) -> dict[str, list[float]]:
    """From a master's power-off to the other member's claim of the HaVip, in ms, by arm. One pair after the other; who
    was powered off comes back while others are.
    """
    found: dict[str, list[float]] = {arm.name: [] for arm in ARMS}
    dead: dict[int, tuple[str, float]] = {}
    """Number of an arm → its node without power, and since when."""
    (plan,) = lab.topology.subnet_plans
    views = [replace(plan, pairs=(pair,)) for pair in plan.pairs]

    def bring_back(number: int) -> None:
        node, since = dead.pop(number)
        time.sleep(max(0.0, since + OFF_S - time.monotonic()))
        power_on(lab, node)
        _lose(lab, node, condition.loss)

    for _ in range(POWER_OFFS if not settings.is_quick else 2):
        for number, (arm, view) in enumerate(zip(ARMS, views, strict=True)):
            for other in [one for one, (_, since) in dead.items() if since + OFF_S <= time.monotonic()]:
                bring_back(other)
            if number in dead:
                bring_back(number)
            found[arm.name].append(_power_off(lab, number, view, dead))
        told = ", ".join(f"{name} {values[-1]:.0f}" for name, values in found.items())
        settings.progress(f"{condition.name}, power-off to claim in ms: {told}")
    for number in list(dead):
        bring_back(number)
    for number, view in enumerate(views):
        _wait_settled(lab, number, view)
    return found


def _power_off(lab: Lab, number: int, view: SubnetPlan, dead: dict[int, tuple[str, float]]) -> float:
    _wait_settled(lab, number, view)
    nodes = _nodes(lab, number)
    with Witness(lab, "host1", nodes) as witness:
        # At any moment between two advertisements.
        time.sleep(STARTUP_DELAY_S + random.random())  # noqa: S311
        master = holder(lab, view)
        began = lab.fault(Fault.POWER_OFF, master)
        dead[number] = master, began
        holder(lab, view, wanted=lambda node: node not in {"", master})
        time.sleep(0.1)
    claimed = witness.address_at(view.havip, began)
    if claimed is None:
        raise LabError(f"nobody was seen to claim {view.havip} after {master} was powered off")
    return (claimed - began) * 1e3


def _wait_settled(lab: Lab, number: int, view: SubnetPlan) -> None:
    nodes = _nodes(lab, number)
    wait_until(
        lambda: not unsettled(lab, (view,), nodes),
        SETTLED_S,
        lambda: "; ".join(unsettled(lab, (view,), nodes)),
        interval_s=0.2,
    )


@contextmanager
def _losing(lab: Lab, share: float) -> Iterator[None]:
    """Every node drops this share of the advertisements that reach it, each by chance."""
    nodes = [node for n in range(len(ARMS)) for node in _nodes(lab, n)]
    for node in nodes:
        _lose(lab, node, share)
    try:
        yield
    finally:
        for node in nodes:
            _lose(lab, node, share, is_over=True)


def _lose(lab: Lab, node: str, share: float, *, is_over: bool = False) -> None:
    if share:
        rule = ["INPUT", "-p", "112", "-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP"]
        lab.machine(node).run(["iptables-legacy", "-w", "-D" if is_over else "-I", *rule], check=not is_over)


@contextmanager
def _busy(lab: Lab, *, is_wanted: bool) -> Iterator[None]:
    """A process for each core that never sleeps."""
    count = len(os.sched_getaffinity(0)) if is_wanted else 0
    hogs: list[subprocess.Popen[str]] = []
    try:
        hogs.extend(lab.machine("db1").popen(["sh", "-c", "while :; do :; done"]) for _ in range(count))
        yield
    finally:
        for hog in hogs:
            end(hog)
