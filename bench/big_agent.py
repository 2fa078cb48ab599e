"""The agent of a function host with 200 subnets of two pairs each and 2,000 attached instances: memory, and a restart.

Part of `many-hosts`. One subnet is real and carries traffic; of the others there are only documents, which is all that
an agent sees of them. Nothing of theirs is left out on the host: tunnels, tables, rules and echo requests are real.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from bench.footprint import cpu_s, resident_mib
from bench.labs import INSTANCE, NAME, UP_TIMEOUT_S, metrics
from bench.probe import Probe
from bench.report import Report
from bench.restart import COUNTED, adopted_at, identities
from bench.settings import Settings
from proxypool.lab import agent
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import Topology

SUBNETS, INSTANCES, QUICK_SUBNETS, QUICK_INSTANCES = 200, 2000, 20, 100
RESTARTS = 10
MEMORY_LIMIT_MIB, ADOPT_LIMIT_S = 80.0, 2.0
IDLE_S = 20.0
CALM_S = 3.0
HOST = "host1"
FIRST_INSTANCE = IPv4Address("10.244.8.2")
BATCH = 200
CONFIG = "/etc/proxypool/proxypool.toml"


@dataclass(frozen=True)
class Restart:
    """One restart of the agent."""

    adopted_s: float
    lost: int
    remade: int
    operations: int


def measure(report: Report, settings: Settings) -> None:
    """Add the rows of the agent."""
    subnets = QUICK_SUBNETS if settings.is_quick else SUBNETS
    instances = QUICK_INSTANCES if settings.is_quick else INSTANCES
    topology = Topology(NAME, nodes=2, hosts=1, subnets=1, tunnel=settings.tunnel)
    with Lab.up(topology, settings.progress, timeout_s=UP_TIMEOUT_S) as lab:
        one = _resident(lab)
        _widen(lab)
        settings.progress(f"adding {subnets - 1} subnets of two pairs, attaching {instances} instances")
        lab.proxypool("pool", "apply", "-", input=json.dumps(_documents(subnets)), timeout=UP_TIMEOUT_S)
        took_s = _attach(lab, subnets, instances)
        settings.progress(f"attached {instances} instances, of which {subnets} were a first use, in {took_s:.1f} s")
        _hold(lab, subnets)
        time.sleep(CALM_S)
        idle = _idle_percent(lab)
        found = []
        for number in range(settings.runs_or(RESTARTS)):
            found.append(_restart(lab))
            settings.progress(f"restart {number + 1}: {found[-1]}")
        what = f"host agent, {subnets} subnets of 2 pairs, {instances} attachments"
        report.compare(
            f"{what}: resident memory",
            "MiB",
            [_resident(lab)],
            [one],
            "1 subnet, 1 attachment",
            target=f"< {MEMORY_LIMIT_MIB:g} MiB",
        )
    report.limit(f"{what}: SIGKILL and start, adopted", "s", [each.adopted_s for each in found], ADOPT_LIMIT_S)
    report.limit("agent restart: requests lost of one a ms", "requests", [each.lost for each in found], 0)
    report.limit("agent restart: devices made anew", "objects", [each.remade for each in found], 0)
    report.limit("agent restart: kernel changes and repairs", "operations", [each.operations for each in found], 0)
    report.limit(f"{what}: idle CPU", "% of a core", [idle], None)


def _widen(lab: Lab) -> None:
    """More instances than a /24 has: the agent is told of a larger range."""
    lab.machine(HOST).run(["sed", "-i", 's|"10.244.1.0/24"|"10.244.0.0/16"|', CONFIG])
    lab.fault(Fault.KILL_DAEMON, HOST)
    lab.machine(HOST).start("daemon")
    _wait_ready(lab, time.time())


def _documents(subnets: int) -> dict[str, Any]:
    """Subnets that no node serves."""
    return {
        "subnets": [
            {
                "id": f"x{n}",
                "tenant": f"x{n}",
                "cidrs": [f"172.20.{n}.0/24"],
                "pairs": [
                    {"id": f"p{pair}", "havip": f"192.168.{20 + pair}.{n}", "members": list(_members(n, pair))}
                    for pair in (1, 2)
                ],
            }
            for n in range(1, subnets)
        ]
    }


def _hold(lab: Lab, subnets: int) -> None:
    """Somebody has the HaVips, as is usual: an address that nobody has is asked for again and again by the kernel."""
    lines = "".join(
        f"addr add {pair['havip']}/32 dev eth0\n"
        for subnet in _documents(subnets)["subnets"]
        for pair in subnet["pairs"]
    )
    lab.machine("node-a").run(["ip", "-batch", "-"], input=lines)


def _members(n: int, pair: int) -> Iterator[dict[str, str]]:
    for place in (1, 2):
        yield {"node": f"x{n}-{pair}-{place}", "eni": "eth1", "address": f"172.20.{n}.{pair * 10 + place}/24"}


def _attach(lab: Lab, subnets: int, instances: int) -> float:
    """As evenly as can be; the real instance is attached already. How long it took, in s."""
    path = agent.socket_of(lab.machine(HOST))
    names = ["s1", *(f"x{n}" for n in range(1, subnets))]
    wanted = [(str(FIRST_INSTANCE + n), names[n % len(names)]) for n in range(instances - 1)]
    agent.attach_soon(path, wanted[:1], UP_TIMEOUT_S)
    began = time.monotonic()
    for start in range(0, len(wanted), BATCH):
        agent.attach_soon(path, wanted[start : start + BATCH], UP_TIMEOUT_S)
    return time.monotonic() - began


def _restart(lab: Lab) -> Restart:
    """As bench.restart does it to a node."""
    subnet = lab.topology.subnet_plans[0]
    before = identities(lab, HOST)
    with Probe(lab, INSTANCE, subnet.database_ip) as probe:
        time.sleep(1.0)
        killed = lab.fault(Fault.KILL_DAEMON, HOST)
        started = time.time()
        lab.machine(HOST).start("daemon")
        at = _wait_ready(lab, started)
        time.sleep(CALM_S)
        seen = probe.seen()
    operations = sum(sample.value for sample in metrics(lab, HOST) if sample.name in COUNTED)
    return Restart(at - started, seen.lost(killed), len(before ^ identities(lab, HOST)), int(operations))


def _wait_ready(lab: Lab, started: float) -> float:
    wait_until(lambda: adopted_at(metrics(lab, HOST)) > started, UP_TIMEOUT_S, "the agent to be ready", interval_s=0.5)
    return adopted_at(metrics(lab, HOST))


def _resident(lab: Lab) -> float:
    return resident_mib(_pid(lab))


def _idle_percent(lab: Lab) -> float:
    before, began = cpu_s(_pid(lab)), time.monotonic()
    time.sleep(IDLE_S)
    return (cpu_s(_pid(lab)) - before) / (time.monotonic() - began) * 100


def _pid(lab: Lab) -> int:
    process = lab.machine(HOST).service_process("daemon")
    return process.pid if process is not None else 0
