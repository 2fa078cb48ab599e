"""Does traffic flow? Asked from inside the pods, of every database that they may reach."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from proxypool.lab.machine import Machine, end
from proxypool.lab.services import INSIDE
from proxypool.lab.topology import RESPONDER_PORT, Topology

GRACE_S = 10.0
"""For starting and ending the programs that ask."""


def paths_without_answer(topology: Topology, machines: Mapping[str, Machine], timeout_s: float) -> list[str]:
    """Ask until all have answered or the time is over; "pod → address" of those that have not."""
    timeout_s = max(1.0, timeout_s)
    targets: dict[str, list[str]] = {}
    for pod, subnet in topology.paths():
        targets.setdefault(pod, []).append(f"{subnet.database_ip}:{RESPONDER_PORT}")
    with _asking(machines, targets, timeout_s) as programs:
        return [
            f"{pod} → {target}"
            for pod, program in programs.items()
            for target in _missing(program, timeout_s + GRACE_S)
        ]


def _missing(program: subprocess.Popen[str], timeout_s: float) -> list[str]:
    try:
        answer = program.communicate(timeout=timeout_s)[0]
    except subprocess.TimeoutExpired:
        answer = ""
    missing: list[str] = json.loads(answer or '{"missing": ["anything"]}')["missing"]
    return missing


@contextmanager
def _asking(
    machines: Mapping[str, Machine], targets: Mapping[str, list[str]], timeout_s: float
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    programs: dict[str, subprocess.Popen[str]] = {}
    try:
        for pod, addresses in targets.items():
            command = [*INSIDE, "proxypool.lab.inside.reach", str(timeout_s), *addresses]
            programs[pod] = machines[pod].popen(command, stdout=subprocess.PIPE)
        yield programs
    finally:
        for program in programs.values():
            end(program)
            if program.stdout:
                program.stdout.close()
