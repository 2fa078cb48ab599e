"""The daemon of a node with 100 subnets is killed and started again: how long until it has adopted what it finds, and
does anybody notice?
"""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.labs import INSTANCE, OUR_NODES, Sample, apply, bench_lab, members, metrics, names_in, subnets_of
from bench.probe import Probe, wait_reached
from bench.report import Report
from bench.settings import Settings
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.namespaces import in_network_of
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until

RUNS = 20
LIMIT_S = 3.0
CALM_S = 1.0
POLL_S = 1.0
"""A scrape of many subnets takes the daemon some 30 ms of the time that is to be measured."""
ADOPT_TIMEOUT_S = 60.0
CLONE_NEWNET = 0x40000000
READY = "proxypool_ready_timestamp_seconds"
COUNTED = ("proxypool_kernel_operations_total", "proxypool_drift_repairs_total", "proxypool_keepalived_reloads_total")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Run:
    """One restart."""

    adopted_s: float
    lost: int
    silence_ms: float
    remade: int
    operations: int
    changed_roles: int


def run(settings: Settings) -> Report:
    """Measure."""
    many = settings.many_subnets()
    runs = settings.runs_or(RUNS)
    found = []
    with bench_lab(settings, subnets=many, by_hand=False) as lab:
        subnets = subnets_of(lab)
        settings.progress(f"adding {many} subnets")
        apply(lab, subnets)
        wait_reached(lab, INSTANCE, [subnet.database_ip for subnet in subnets], 60.0)
        node = _busiest(lab)
        mine = [subnet for subnet in subnets if lab.holder(subnet) == node]
        settings.progress(f"{node} is master of {len(mine)} of {many} subnets")
        for number in range(runs):
            found.append(_restart(lab, node, mine[number % len(mine)], many))
            last = found[-1]
            settings.progress(
                f"{number + 1}/{runs}: adopted in {last.adopted_s:.2f} s, {last.lost} lost, longest gap "
                f"{last.silence_ms:.1f} ms, {last.remade} made anew, {last.operations} operations, "
                f"{last.changed_roles} members changed role or election"
            )
    report = Report()
    report.limit(f"SIGKILL and start: {many} subnets adopted", "s", [each.adopted_s for each in found], LIMIT_S)
    report.limit("requests lost of one a ms", "requests", [each.lost for each in found], 0)
    report.limit("devices and namespaces made anew", "objects", [each.remade for each in found], 0)
    report.limit("kernel changes, repairs, keepalived reloads", "operations", [each.operations for each in found], 0)
    report.limit("members that changed role or election", "members", [each.changed_roles for each in found], 0)
    report.limit("longest gap between answers", "ms", [each.silence_ms for each in found], None)
    return report


def _busiest(lab: Lab) -> str:
    masters = Counter(
        {node: sum(seen.role == "master" for seen in members(metrics(lab, node)).values()) for node in OUR_NODES}
    )
    return masters.most_common(1)[0][0]


def _restart(lab: Lab, node: str, watched: SubnetPlan, many: int) -> Run:
    machine = lab.machine(node)
    roles, before = members(metrics(lab, node)), identities(lab, node)
    with Probe(lab, INSTANCE, watched.database_ip) as probe:
        time.sleep(CALM_S)
        killed = lab.fault(Fault.KILL_DAEMON, node)
        started_at = time.time()
        machine.start("daemon")
        samples = list[Sample]()

        def is_adopted() -> bool:
            samples[:] = metrics(lab, node)
            seen = members(samples)
            are_known = len(seen) == many and all(member.is_fit and member.role != "init" for member in seen.values())
            return are_known and adopted_at(samples) > started_at

        wait_until(
            is_adopted,
            ADOPT_TIMEOUT_S,
            lambda: f"{len(members(samples))} members, ready at {adopted_at(samples):.1f}",
            interval_s=POLL_S,
        )
        at = adopted_at(samples)
        # Whoever was to repair or elect something has done it by then.
        time.sleep(CALM_S)
        seen = probe.seen()
    after, now = identities(lab, node), metrics(lab, node)
    operations = sum(sample.value for sample in now if sample.name in COUNTED)
    changed_roles = sum(member != roles.get(subnet) for subnet, member in members(now).items())
    return Run(
        at - started_at, seen.lost(killed), seen.silence_ms(killed), len(before ^ after), int(operations), changed_roles
    )


def adopted_at(samples: list[Sample]) -> float:
    """When the daemon had looked at everything it serves, as it says itself, in s since the epoch; 0: not yet."""
    return next((sample.value for sample in samples if sample.name == READY), 0.0)


def identities(lab: Lab, node: str) -> set[tuple[str, int, str, int]]:
    """(namespace, its inode, device, its index) of everything in a machine's network; what is made anew has another."""
    root = Path(f"/proc/{lab.machine(node).pid}/root/run/netns")
    found: set[tuple[str, int, str, int]] = set()

    def look() -> None:
        found.update(("", 0, name, index) for index, name in socket.if_nameindex())
        for namespace in names_in(root):
            with (root / namespace).open("rb") as file:
                if _libc.setns(file.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)
                inode = os.fstat(file.fileno()).st_ino
            found.update((namespace, inode, name, index) for index, name in socket.if_nameindex())

    in_network_of(lab.machine(node).pid, look)
    return found
