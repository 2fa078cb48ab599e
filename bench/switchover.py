"""Planned `proxypool pair switchover`, to and fro, beside the same command when there is nothing to do.

Part of the bench `failover`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from bench.labs import INSTANCE, holder, wait_settled
from bench.probe import Probe, Seen
from bench.report import Report
from bench.settings import Settings
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.topology import PAIR

CONTROL = "no switchover"
CALM_S = 0.3
WINDOW_S = 1.5
"""From the start of the command; both kinds of run are looked at for as long."""
AFTER_S = 8.0
"""What a switchover leaves to be done is over by then, and does not fall into the next one."""
LIMIT_MS = 10.0


@dataclass(frozen=True)
class Run:
    """One command while an instance asks."""

    silence_ms: float
    lost: int
    took_s: float
    stall_ms: float
    after_ms: float = 0.0
    """The longest gap between answers in the seconds after the window."""


def measure(settings: Settings, lab: Lab, subnet: SubnetPlan, runs: int) -> tuple[list[Run], list[Run]]:
    """Switchovers, and as many of the same command with nothing to do."""
    moved, stayed = list[Run](), list[Run]()
    for number in range(runs):
        master = holder(lab, subnet)
        backup = next(member.node for member in subnet.members if member.node != master)
        order = ((stayed, master), (moved, backup)) if number % 2 else ((moved, backup), (stayed, backup))
        for found, target in order:
            run = _command(lab, subnet, target)
            wait_settled(lab, (subnet,))
            found.append(replace(run, after_ms=_gap_after(lab, subnet)))
        settings.progress(
            f"{number + 1}/{runs}: to {backup} {moved[-1].silence_ms:.1f} ms, {moved[-1].lost} lost, command "
            f"{moved[-1].took_s:.2f} s, later {moved[-1].after_ms:.1f} ms; control {stayed[-1].silence_ms:.1f} ms, "
            f"{stayed[-1].lost} lost, later {stayed[-1].after_ms:.1f} ms"
        )
    return moved, stayed


def tell(report: Report, moved: list[Run], stayed: list[Run]) -> None:
    """Add the rows."""
    report.compare(
        "switchover: blackout",
        "ms",
        [each.silence_ms for each in moved],
        [each.silence_ms for each in stayed],
        CONTROL,
        target=f"p99 <= {LIMIT_MS:.0f} ms",
    )
    report.compare(
        "switchover: requests lost of one a ms",
        "requests",
        [each.lost for each in moved],
        [each.lost for each in stayed],
        CONTROL,
        target="0",
    )
    report.compare(
        f"the {AFTER_S:.0f} s after it: longest gap",
        "ms",
        [each.after_ms for each in moved],
        [each.after_ms for each in stayed],
        CONTROL,
    )
    report.compare(
        "switchover: the command, with --wait",
        "s",
        [each.took_s for each in moved],
        [each.took_s for each in stayed],
        CONTROL,
    )
    lost = sum(each.lost for each in moved)
    report.notes.append(f"switchover: {lost} requests lost in all, in {sum(1 for each in moved if each.lost)} of them")
    control = sorted(each.silence_ms for each in stayed)
    report.notes.append(
        f"noise floor: without a switchover the longest gap was {control[0]:.1f} to {control[-1]:.1f} ms (p50 "
        f"{control[len(control) // 2]:.1f})"
    )


def _command(lab: Lab, subnet: SubnetPlan, target: str) -> Run:
    """Both kinds run the same command: it also costs CPU, which must not count as blackout of the switchover alone."""
    with Probe(lab, INSTANCE, subnet.database_ip) as probe:
        time.sleep(CALM_S)
        began = time.monotonic()
        lab.proxypool("pair", "switchover", subnet.id, PAIR, "--to", target)
        took_s = time.monotonic() - began
        time.sleep(max(CALM_S, WINDOW_S - took_s))
        seen: Seen = probe.seen()
    return Run(seen.silence_ms(began), seen.lost(began), took_s, seen.own_stall_ms)


def _gap_after(lab: Lab, subnet: SubnetPlan) -> float:
    with Probe(lab, INSTANCE, subnet.database_ip) as probe:
        began = time.monotonic()
        time.sleep(AFTER_S)
        return probe.seen().silence_ms(began)
