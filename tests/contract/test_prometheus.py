"""A real Prometheus reads what we say to it: whom to scrape, and what the daemons' pages mean."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from typing import Any

import msgspec
import pytest

from proxypool.core.discovery import Daemon, targets
from proxypool.core.model import HostSpec, NodeSpec
from proxypool.lab.processes import DIES_WITH_US
from proxypool.telemetry.server import MetricsServer
from tests.contract.shipped_prometheus import quick_configuration
from tools.metric_pages import pages

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")

HERE = "127.0.0.1"
PATIENCE_S = 40.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HERE, 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def places() -> Iterator[dict[Daemon, str]]:
    """Where a full page of each daemon is served, by the daemons' own server."""
    found = {daemon: f"{HERE}:{free_port()}" for daemon in Daemon}
    servers = [MetricsServer(found[daemon], page.registry) for daemon, page in pages().items()]
    yield found
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def discovery(places: dict[Daemon, str]) -> Iterator[str]:
    """URL of an endpoint that answers as a controller's."""
    loopback = IPv4Address(HERE)
    node = NodeSpec(id="node1", underlay=loopback, metrics=places[Daemon.NODE])
    host = HostSpec(
        id="host1", underlay=loopback, tunnel_address=IPv4Address("100.64.0.2"), metrics=places[Daemon.HOST]
    )
    body = msgspec.json.encode(targets("blue", [node], [host], {"c1": places[Daemon.CONTROLLER]}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
            return

    server = ThreadingHTTPServer((HERE, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{HERE}:{server.server_port}/targets"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def prometheus(discovery: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server that has scraped all three."""
    directory = tmp_path_factory.mktemp("prometheus")
    address = f"{HERE}:{free_port()}"
    command = [
        *DIES_WITH_US,
        "prometheus",
        f"--config.file={quick_configuration(directory, discovery)}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(ask(address, "up == 1")) < len(Daemon):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (ask(address, "up"), (directory / "log").read_text()[-3000:])
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def ask(address: str, query: str) -> list[dict[str, Any]]:
    """The series of an instant query; none while it does not answer."""
    url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
            return found
    except OSError:
        return []


def labels(address: str, query: str, *names: str) -> set[tuple[str, ...]]:
    return {tuple(one["metric"].get(name, "") for name in names) for one in ask(address, query)}


def test_it_finds_them_by_the_shipped_configuration(prometheus: str, places: dict[Daemon, str]) -> None:
    """With the labels that rules and dashboards go by; the instance is the address that was registered."""
    assert labels(prometheus, 'up{job="proxypool"}', "pool", "role", "node", "instance") == {
        ("blue", "node", "node1", places[Daemon.NODE]),
        ("blue", "host", "host1", places[Daemon.HOST]),
        ("blue", "controller", "c1", places[Daemon.CONTROLLER]),
    }


def test_labels_of_the_metrics_own_are_kept(prometheus: str) -> None:
    """Roles of members, and nodes that a controller tells of: not `exported_…`."""
    assert labels(prometheus, "proxypool_member_role == 1", "role", "node") == {("master", "node1")}
    assert labels(prometheus, "proxypool_pool_node_alive", "node") == {("node1",), ("node2",)}
    assert ask(prometheus, '{exported_role!=""} or {exported_node!=""}') == []


@pytest.mark.parametrize("daemon", Daemon)
def test_it_takes_every_series_of_the_page(prometheus: str, daemon: Daemon) -> None:
    """None is refused, or the same as another."""
    exported = sum(len(family.samples) for family in pages()[daemon].registry.collect())
    by_daemon = {one["metric"]["role"]: int(one["value"][1]) for one in ask(prometheus, "scrape_samples_scraped")}
    assert by_daemon[daemon.value] == exported


def test_it_evaluates_the_rules(prometheus: str) -> None:
    """Every rule of both files, without an error."""
    with urllib.request.urlopen(f"http://{prometheus}/api/v1/rules", timeout=10) as answer:
        groups = json.loads(answer.read())["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 50
    assert [rule["name"] for rule in rules if rule.get("lastError")] == []
