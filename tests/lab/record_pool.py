"""Record what a lab's daemons export during a failover, a scale-out and a scale-in: `python -m tests.lab.record_pool OUT.xz`.

The recording is OpenMetrics, compressed; a test asks the dashboards' queries of it. Needs root, and some four minutes.
"""

from __future__ import annotations

import json
import lzma
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from proxypool.lab.configs import CONNECTIONS_PER_S
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab, remove
from proxypool.lab.prober import Connections
from proxypool.lab.topology import Kind, Topology
from tests.contract.openmetrics import Samples
from tests.lab.observe import inside, tunnel_kind

POOL = "lab"
PORTS = {Kind.NODE: 9477, Kind.HOST: 9478, Kind.CONTROLLER: 9479}
EVERY_S = 5.0
OVERLOAD = 2.3
"""In pairs: with one in reserve that takes four."""


def page(lab: Lab, name: str, port: int) -> str | None:
    """A daemon's /metrics; None: it does not answer."""
    machine = lab.machine(name)
    try:
        with inside(machine, None, lambda: socket.create_connection((machine.spec.ip, port), timeout=1.0)) as link:
            link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
    except OSError:
        return None
    return text.partition("\r\n\r\n")[2]


def record(lab: Lab, samples: Samples, is_over: threading.Event) -> None:
    """Scrape everybody until it is over."""
    targets = [(machine.name, machine.spec) for machine in lab.machines.values() if machine.spec.kind in PORTS]
    while not is_over.wait(EVERY_S):
        at = time.time()
        for name, spec in targets:
            port = PORTS[spec.kind]
            labels = {"pool": POOL, "role": spec.kind.value, "node": name, "job": "proxypool"}
            text = page(lab, name, port) if lab.machine(name).is_on else None
            metrics = None if text is None else list(text_string_to_metric_families(text))
            samples.scraped(at, {**labels, "instance": f"{spec.ip}:{port}"}, metrics)


def wait_size(lab: Lab, wanted: Callable[[dict[str, Any]], bool], within_s: float, what: str) -> None:
    """Until the subnet is as wanted; the recording is worth something without, so a failure is only told."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        done = lab.proxypool("scale", "status", "-o", "json", check=False, on="ctl1", timeout=30)
        if not done.returncode and wanted(json.loads(done.stdout)["subnets"][0]):
            return
        time.sleep(0.5)
    print(f"not within {within_s} s: {what}", file=sys.stderr)  # noqa: T201


def play(lab: Lab) -> None:
    """What happens meanwhile."""
    subnet = lab.topology.subnet_plans[0]
    wait_size(lab, lambda size: size["active"] == 2, 60.0, "two pairs")
    time.sleep(4 * EVERY_S)
    master = lab.holder(subnet) or subnet.members[0].node
    lab.fault(Fault.POWER_OFF, master)
    time.sleep(6 * EVERY_S)
    lab.fault(Fault.POWER_ON, master)
    time.sleep(4 * EVERY_S)
    rate = OVERLOAD * CONNECTIONS_PER_S
    with Connections(
        lab, "pod1-2", subnet.database_ip, count=round(rate / 4), rate=rate, lifetime_s=0.25, replace=True, ready=1
    ):
        wait_size(lab, lambda size: size["active"] >= 4, 40.0, "four pairs")
        time.sleep(6 * EVERY_S)
    wait_size(lab, lambda size: size["active"] == 2 and not size["draining"], 120.0, "two pairs again")
    time.sleep(6 * EVERY_S)


def main() -> None:
    """Make the lab, play, write."""
    out = Path(sys.argv[1])
    topology = Topology(
        f"record-{os.getpid()}",
        nodes=8,
        hosts=1,
        pods=2,
        subnets=1,
        zk=1,
        pairs=4,
        controllers=2,
        egress=True,
        tunnel=tunnel_kind(),
    )
    samples, is_over = Samples(), threading.Event()
    try:
        with Lab.up(topology, timeout_s=90) as lab:
            recorder = threading.Thread(target=record, args=(lab, samples, is_over))
            recorder.start()
            try:
                play(lab)
            finally:
                is_over.set()
                recorder.join()
    finally:
        remove(topology.name)
    out.write_bytes(lzma.compress("".join(f"{line}\n" for line in samples.lines()).encode(), preset=9))


if __name__ == "__main__":
    main()
