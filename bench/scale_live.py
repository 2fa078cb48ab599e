"""The pool grows with its load and shrinks when that is over, in a lab whose pairs are said to bear little.

Nodes are said to bear so few new connections a second (`proxypool.lab.configs`) that this computer can overload them.
Some five hundred connections live through all of it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.labs import NAME, UP_TIMEOUT_S, require_none
from bench.report import Report
from bench.settings import Settings
from proxypool.lab.configs import CONNECTIONS_PER_S, STABLE_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import Topology

RUNS = 3
LONG_LIVED, QUICK_LONG_LIVED = 500, 100
TALK_MS = 500.0
BEFORE, AFTER = 2, 4
"""Pairs at rest, of which one is in reserve; and under the overload."""
OVERLOAD = 2.3
"""In pairs: with one in reserve that takes four."""
LIFETIME_S = 0.25
ADDED_LIMIT_S = 10.0
GROWN_WITHIN_S, SHRUNK_WITHIN_S = 60.0, 10 * STABLE_S
LOOK_S = 0.2
UNREACHABLE = 6
"""Exit code of a command that does not reach ZooKeeper."""


@dataclass
class Outcome:
    """Of all runs."""

    active: list[float] = field(default_factory=list)
    serving: list[float] = field(default_factory=list)
    shrunk: list[float] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)
    stalls_ms: list[float] = field(default_factory=list)


def run(settings: Settings) -> Report:
    """Measure."""
    found, report = Outcome(), Report()
    count = QUICK_LONG_LIVED if settings.is_quick else LONG_LIVED
    runs = 1 if settings.is_quick and settings.runs is None else settings.runs_or(RUNS)
    with _lab(settings) as lab:
        for number in range(runs):
            _ramp(lab, count, found)
            settings.progress(
                f"{number + 1}/{runs}: {AFTER} pairs after {found.active[-1]:.1f} s, connections in all of them after "
                f"{found.serving[-1]:.1f} s; {BEFORE} after {found.shrunk[-1]:.1f} s; {found.broken[-1]:.0f} broken"
            )
    report.limit(f"overload begins: {AFTER} pairs are open", "s", found.active, ADDED_LIMIT_S)
    report.limit("all of them have got new connections", "s", found.serving, ADDED_LIMIT_S)
    report.limit(f"overload ends: {BEFORE} pairs again, nothing drains", "s", found.shrunk, None)
    report.limit(f"connections broken, of {count}", "", found.broken, 0)
    report.limit("longest wait of any for an answer", "ms", found.stalls_ms, None)
    report.notes.append(
        f"a pair is said to bear {CONNECTIONS_PER_S:g} new connections a second, the overload has {OVERLOAD:g} times "
        f"that; a drain begins when it was not needed for {STABLE_S:g} s"
    )
    return report


@contextmanager
def _lab(settings: Settings) -> Iterator[Lab]:
    """Eight nodes, one subnet of one pair, cards and addresses for three more, a controller."""
    require_none()
    topology = Topology(NAME, nodes=8, hosts=1, pods=2, subnets=1, pairs=AFTER, controllers=1, tunnel=settings.tunnel)
    with Lab.up(topology, settings.progress, timeout_s=UP_TIMEOUT_S) as lab:
        yield lab


def _ramp(lab: Lab, count: int, found: Outcome) -> None:
    """Up and down once, with connections that live through it."""
    (subnet,) = lab.topology.subnet_plans
    rate = OVERLOAD * CONNECTIONS_PER_S
    # Opened slowly: they are no load themselves.
    talks = Connections(
        *(lab, "pod1", subnet.database_ip),
        count=count,
        interval_ms=TALK_MS,
        rate=CONNECTIONS_PER_S / 4,
        answer_timeout_s=60.0,
    )
    with talks:
        _wait_size(lab, lambda size: size["active"] == BEFORE and _is_still(size), SHRUNK_WITHIN_S, f"{BEFORE} pairs")
        began = time.monotonic()
        with _load(lab, subnet, rate) as load:
            _wait_size(lab, lambda size: size["active"] >= AFTER, GROWN_WITHIN_S, f"{AFTER} pairs")
            found.active.append(time.monotonic() - began)
            wait_until(
                lambda: len(load.result()["sources"]) == AFTER, GROWN_WITHIN_S, "connections in all", interval_s=LOOK_S
            )
            found.serving.append(time.monotonic() - began)
        ended = time.monotonic()
        _wait_size(
            lab, lambda size: size["active"] == BEFORE and _is_still(size), SHRUNK_WITHIN_S, f"{BEFORE} pairs again"
        )
        found.shrunk.append(time.monotonic() - ended)
        result = talks.result()
    found.broken.append(float(result["hanging"] + sum(result["broken"].values())))
    found.stalls_ms.append(max((float(one["stall_ms"]) for one in result["connections"]), default=0.0))


def _load(lab: Lab, subnet: SubnetPlan, rate: float) -> Connections:
    return Connections(
        *(lab, "pod1-2", subnet.database_ip),
        count=round(rate * LIFETIME_S),
        rate=rate,
        lifetime_s=LIFETIME_S,
        replace=True,
        ready=1,
    )


def _wait_size(lab: Lab, wanted: Callable[[dict[str, Any]], bool], within_s: float, what: str) -> None:
    def look() -> bool:
        try:
            done = lab.proxypool("scale", "status", "-o", "json", timeout=30.0)
        except subprocess.CalledProcessError as error:
            if error.returncode != UNREACHABLE:
                raise
            return False
        return wanted(json.loads(done.stdout)["subnets"][0])

    wait_until(look, within_s, what, interval_s=LOOK_S)


def _is_still(size: dict[str, Any]) -> bool:
    return not size["actions"] and not size["coming"] and not size["draining"]
