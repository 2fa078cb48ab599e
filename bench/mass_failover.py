"""A node that is master of a hundred pairs dies: the blackout of each; and the cold start of a node with 200 subnets.

The dead node's processes are stopped, then its underlay is cut; it is powered off when all is measured. All machines of
a lab share two processors and one kernel, so the survivor would wait for what no real one waits for: a dying keepalived
that looks after a hundred instances without a link, and the lock that the taking down of a hundred namespaces holds for
seconds. A blackout is counted from the stop, some tens of ms before the link is cut.
"""

from __future__ import annotations

import subprocess
import time

from bench.figures import quantile
from bench.labs import (
    INSTANCE,
    OUR_NODES,
    apply,
    bench_lab,
    members,
    metrics,
    power_on,
    start_node,
    subnets_of,
    wait_settled,
)
from bench.probe import wait_reached
from bench.report import Report
from bench.restart import adopted_at
from bench.settings import Settings
from proxypool.lab.errors import LabError
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Instrument
from proxypool.lab.processes import wait_until
from proxypool.lab.services import INSIDE
from proxypool.lab.topology import RESPONDER_PORT

RUNS = 5
COLD_RUNS = 5
COLD_SUBNETS = 200
INTERVAL_MS = 20.0
P99_LIMIT_MS = 500.0
COLD_LIMIT_S = 10.0
CALM_S = 1.0
BACK_S = 2.0
SESSION_END_S = 20.0
COLD_TIMEOUT_S = 120.0
COLD_POLL_S = 0.1
READY = "ready after"
"""The daemon has adopted all. A scrape of 200 subnets before that would take it 60 ms of what is measured."""


class Askers(Instrument):
    """The instrument of `bench.inside_many`."""

    def __init__(self, lab: Lab, machine: str, addresses: list[str]) -> None:
        targets = ",".join(f"{address}:{RESPONDER_PORT}" for address in addresses)
        super().__init__(lab, machine, targets, f"--interval-ms={INTERVAL_MS}", answer_timeout_s=30.0)

    def start(self) -> None:
        """Start it and wait until all have answered."""
        command = [*INSIDE, "bench.inside_many", self.target, *self.options]
        self._process = self.machine.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._line(self.answer_timeout_s)


def run(settings: Settings) -> Report:
    """Measure."""
    report = Report()
    many = settings.many_subnets()
    with bench_lab(settings, subnets=many, by_hand=False) as lab:
        subnets = subnets_of(lab)
        settings.progress(f"adding {many} subnets")
        apply(lab, subnets)
        wait_reached(lab, INSTANCE, [subnet.database_ip for subnet in subnets], 60.0)
        _gather(lab, subnets)
        blackouts = list[float]()
        for number in range(settings.runs_or(RUNS)):
            found = _power_off(lab, subnets)
            blackouts += found
            settings.progress(
                f"{number + 1}: {len(found)} pairs, p50 {quantile(found, 0.5):.0f} ms, "
                f"p99 {quantile(found, 0.99):.0f}, longest {max(found):.0f}"
            )
    report.limit(f"power-off of the master of {many} pairs: blackout", "ms", blackouts, P99_LIMIT_MS)
    cold = 10 if settings.is_quick else COLD_SUBNETS
    with bench_lab(settings, subnets=cold, by_hand=False) as lab:
        subnets = subnets_of(lab)
        settings.progress(f"adding {cold} subnets")
        apply(lab, subnets)
        took = list[float]()
        for number in range(min(COLD_RUNS, settings.runs_or(COLD_RUNS))):
            took.append(_cold_start(lab, subnets))
            settings.progress(f"{number + 1}: cold start with {cold} subnets in {took[-1]:.1f} s")
    report.limit(f"cold start of a node with {cold} subnets", "s", took, COLD_LIMIT_S)
    return report


def _gather(lab: Lab, subnets: tuple[SubnetPlan, ...]) -> None:
    """All masters onto one node: the other goes, is missed, and returns."""
    lab.fault(Fault.POWER_OFF, OUR_NODES[0])
    _return(lab, subnets, OUR_NODES[0])


def _return(lab: Lab, subnets: tuple[SubnetPlan, ...], node: str) -> None:
    """When the survivor is elected everywhere the dead one comes back, as backup."""
    survivor = next(name for name in OUR_NODES if name != node)
    wait_until(
        lambda: sum(each.is_elected for each in members(metrics(lab, survivor)).values()) == len(subnets),
        SESSION_END_S,
        f"{survivor} to be elected everywhere",
        interval_s=0.25,
    )
    power_on(lab, node)
    wait_settled(lab, subnets, COLD_TIMEOUT_S)


def _power_off(lab: Lab, subnets: tuple[SubnetPlan, ...]) -> list[float]:
    """Until each database answers again, in ms."""
    master = lab.holder(subnets[0]) or ""
    with Askers(lab, INSTANCE, [subnet.database_ip for subnet in subnets]) as askers:
        time.sleep(CALM_S)
        began = lab.fault(Fault.PAUSE, master)
        lab.fault(Fault.CUT_UNDERLAY, master)
        survivor = next(name for name in OUR_NODES if name != master)
        wait_until(
            lambda: sum(each.role == "master" for each in members(metrics(lab, survivor)).values()) == len(subnets),
            20.0,
            f"{survivor} to take over all",
            interval_s=0.5,
        )
        time.sleep(BACK_S)
        seen = askers.result()
    lab.fault(Fault.POWER_OFF, master)
    _return(lab, subnets, master)
    found = [(end - began) * 1e3 for _, end in seen.values() if end > began]
    if len(found) < len(subnets):
        raise LabError(f"{len(subnets) - len(found)} databases were not missed: was {master} the master of all?")
    return found


def _cold_start(lab: Lab, subnets: tuple[SubnetPlan, ...]) -> float:
    """From the start of a booted node's services until it can take every pair over: its daemon says so, and all its
    members are fit backups.
    """
    node = OUR_NODES[1]
    survivor = OUR_NODES[0]
    lab.fault(Fault.POWER_OFF, node)
    wait_until(
        lambda: sum(each.is_elected for each in members(metrics(lab, survivor)).values()) == len(subnets),
        SESSION_END_S,
        f"{survivor} to be elected everywhere",
        interval_s=0.25,
    )
    lab.fault(Fault.POWER_ON, node)
    logged = lab.machine(node).log("daemon").count(READY)
    began = time.monotonic()
    start_node(lab, node)

    def is_whole() -> bool:
        if lab.machine(node).log("daemon").count(READY) == logged:
            return False
        samples = metrics(lab, node)
        seen = members(samples)
        are_fit = len(seen) == len(subnets) and all(each.is_fit and each.role == "backup" for each in seen.values())
        return are_fit and adopted_at(samples) > 0

    wait_until(is_whole, COLD_TIMEOUT_S, f"{node} to be a fit backup everywhere", interval_s=COLD_POLL_S)
    took_s = time.monotonic() - began
    wait_settled(lab, subnets, COLD_TIMEOUT_S)
    return took_s
