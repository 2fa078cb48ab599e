"""What a scrape of a node costs, over HTTP and in gzip as Prometheus asks, against the client library's own server.

No lab: a page of `/metrics` with every metric on it is served by the daemons' own server from this process, and fetched
by another one, so that the two do not share an interpreter.
"""

from __future__ import annotations

import socket
import subprocess
import sys

from prometheus_client import CollectorRegistry, start_http_server

from bench.report import Report
from bench.settings import Settings
from proxypool.telemetry.server import MetricsServer
from tools.metric_pages import node_page, series_of

SUBNETS = (1, 20, 200)
LIMIT_MS = 100.0
RUNS = 50
FETCH = """
import sys, time, urllib.request
url, runs = sys.argv[1], int(sys.argv[2])
for number in range(runs + 2):
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    began = time.perf_counter()
    urllib.request.urlopen(request, timeout=30).read()
    if number > 1:
        print(time.perf_counter() - began)
"""


def run(settings: Settings) -> Report:
    """Measure."""
    report = Report()
    for subnets in SUBNETS:
        page = node_page(subnets)
        settings.progress(f"{subnets} subnets, {series_of(page)} series")
        ours, theirs = _ours(page.registry, settings.runs_or(RUNS)), _theirs(page.registry, settings.runs_or(RUNS))
        target = f"< {LIMIT_MS:g} ms" if subnets == max(SUBNETS) else ""
        report.compare(f"scrape, {subnets} subnets", "ms", ours, theirs, "prometheus_client", target=target)
        report.notes.append(f"{subnets} subnets: {series_of(page)} series")
    return report


def _ours(registry: CollectorRegistry, runs: int) -> list[float]:
    port = _free_port()
    server = MetricsServer(f"127.0.0.1:{port}", registry)
    try:
        return _fetch(port, runs)
    finally:
        server.close()


def _theirs(registry: CollectorRegistry, runs: int) -> list[float]:
    port = _free_port()
    server, _thread = start_http_server(port, "127.0.0.1", registry)
    try:
        return _fetch(port, runs)
    finally:
        server.shutdown()
        server.server_close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _fetch(port: int, runs: int) -> list[float]:
    """Milliseconds of each."""
    done = subprocess.run(
        [sys.executable, "-c", FETCH, f"http://127.0.0.1:{port}/metrics", str(runs)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return [float(line) * 1e3 for line in done.stdout.split()]
