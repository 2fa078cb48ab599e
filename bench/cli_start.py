"""How long a command takes from nothing: a new process, as at a prompt. On a node of a pool of 10 subnets; quick: 2."""

from __future__ import annotations

import shlex
import sys
import time

from bench.labs import apply, bench_lab, subnets_of
from bench.report import Report
from bench.settings import Settings
from bench.shell import Shell

RUNS = 20
SUBNETS, QUICK_SUBNETS = 10, 2
HELP_S, STATUS_S = 0.25, 0.4
LIMITS_S: tuple[tuple[str, float | None], ...] = (
    ("--help", HELP_S),
    ("status", STATUS_S),
    ("status -o json", STATUS_S),
    ("topology", None),
    ("explain {subnet}", None),
    ("explain {subnet}/{pair}", None),
    ("explain node-a", None),
    ("history", None),
    ("events", None),
    ("scale status", None),
)


def run(settings: Settings) -> Report:
    """Each command in turn, so that what disturbs one disturbs all alike. The first round is not counted."""
    report, runs = Report(), settings.runs_or(RUNS)
    many = QUICK_SUBNETS if settings.is_quick else SUBNETS
    with bench_lab(settings, subnets=many, by_hand=False) as lab:
        subnets = subnets_of(lab)
        apply(lab, subnets)
        names = {"subnet": subnets[0].id, "pair": subnets[0].pairs[0].id}
        settings.progress(f"{runs} rounds of {len(LIMITS_S)} commands")
        took: dict[str, list[float]] = {command: [] for command, _ in LIMITS_S}
        with Shell(lab.machine("node-a")) as shell:
            for number in range(runs + 1):
                for command, found in took.items():
                    line = f"{shlex.quote(sys.executable)} -m proxypool {command.format_map(names)} > /dev/null"
                    began = time.monotonic()
                    shell.run([line])
                    if number:
                        found.append(time.monotonic() - began)
    for command, limit in LIMITS_S:
        report.limit(f"proxypool {command.format_map(names)}", "s", took[command], limit)
    return report
