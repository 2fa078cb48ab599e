"""Reading the nodes' series: real servers on loopback, kind and unkind, and a real Prometheus where there is one."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeAlias

import pytest
from prometheus_client import CollectorRegistry

from proxypool.adapters.prometheus_api import PrometheusApi
from proxypool.adapters.scrape import Scraper
from proxypool.core.errors import InvalidInput, PermanentError, TransientError
from proxypool.core.model import NodeSpec
from proxypool.core.scaling.series import NodeSample, NodeSeries, Sample, Series, Unread
from proxypool.lab.processes import DIES_WITH_US
from proxypool.telemetry.server import MetricsServer
from proxypool.telemetry.use_metrics import NodeUse, UseCollector

LOOPBACK = IPv4Address("127.0.0.1")
WHERE = ("s1", "p1")
SAMPLE: Sample = {series: number + 0.5 for number, series in enumerate(Series)}
USE = NodeUse({NodeSeries.BYTES_LIMIT: 1.25e9}, 30.0, {WHERE: SAMPLE})
LIMITS = {NodeSeries.BYTES_LIMIT: 1.25e9, NodeSeries.PORTS_INTERVAL: 30.0}
GOOD = b'proxypool_conntrack_entries{pair="p1",subnet="s1"} 5.0\n'


def node(name: str, metrics: str, underlay: IPv4Address = LOOPBACK) -> NodeSpec:
    return NodeSpec(id=name, underlay=underlay, metrics=metrics)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def daemon(use: Callable[[], NodeUse] = lambda: USE, port: int = 0) -> Iterator[str]:
    """The metrics' server of a node; its address."""
    registry = CollectorRegistry()
    registry.register(UseCollector(use))
    listen = f"127.0.0.1:{port or free_port()}"
    server = MetricsServer(listen, registry)
    try:
        yield listen
    finally:
        server.close()


@pytest.fixture
def good() -> Iterator[str]:
    with daemon() as listen:
        yield listen


Talk: TypeAlias = Callable[[socket.socket], None]


@contextlib.contextmanager
def server_of(talk: Talk) -> Iterator[str]:
    """A server that does this with each client, on a thread each."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=converse, args=(client,), daemon=True).start()

        def converse(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                client.settimeout(20)
                client.recv(1 << 16)
                talk(client)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def answer(body: bytes, status: bytes = b"200 OK", *fields: bytes) -> Talk:
    head = b"\r\n".join((b"HTTP/1.0 " + status, *fields))
    return lambda client: client.sendall(head + b"\r\n\r\n" + body)


def hang(client: socket.socket) -> None:
    """Until the client goes, whatever it sends."""
    while client.recv(1 << 16):
        pass


def drip(client: socket.socket) -> None:
    """Always something, never the end."""
    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        client.sendall(b"#")
        time.sleep(0.02)


def flood(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        client.sendall(GOOD * 1000)


class TestScraper:
    def test_what_a_node_exports_is_read(self, good: str) -> None:
        """To the last digit, and it is of the moment when it was asked."""
        before = time.monotonic()
        found = Scraper().read([node("n1", good)])["n1"]
        assert isinstance(found, NodeSample)
        assert before <= found.at <= time.monotonic()
        assert (found.node, found.limits, found.members) == ("n1", LIMITS, {WHERE: SAMPLE})

    def test_many_nodes(self, good: str) -> None:
        """More than are asked at the same time, through one server."""
        found = Scraper(at_once=7).read([node(f"n{number}", good) for number in range(40)])
        assert len(found) == 40
        assert all(isinstance(sample, NodeSample) for sample in found.values())

    @pytest.mark.parametrize(
        ("talk", "why"),
        [
            (hang, Unread.TIMEOUT),
            (drip, Unread.TIMEOUT),
            (flood, Unread.TOO_LARGE),
            (lambda client: None, Unread.GARBAGE),
            (lambda client: client.sendall(b"\x00\xff" * 500), Unread.GARBAGE),
            (answer(b""), Unread.GARBAGE),
            (answer(b"up 1\n"), Unread.GARBAGE),
            (answer(b"\xff\xfe\n" + GOOD), Unread.GARBAGE),
            (answer(GOOD, b"503 Service Unavailable"), Unread.REFUSED),
            (answer(GOOD, b"302 Found", b"Location: http://127.0.0.1/"), Unread.REFUSED),
            (answer(GOOD, b"200 OK", b"Content-Length: 5000"), Unread.GARBAGE),
            (answer(GOOD[:-3]), Unread.GARBAGE),
        ],
        ids=[
            *("hangs", "drips", "floods", "says-nothing", "binary", "empty", "something-else", "not-utf-8", "503"),
            *("redirects", "cut-off", "cut-off-in-a-line"),
        ],
    )
    def test_what_is_no_answer_has_a_name(self, talk: Talk, why: Unread, good: str) -> None:
        """And others are read all the same."""
        with server_of(talk) as bad:
            scraper = Scraper(timeout_s=0.6, max_bytes=1 << 20)
            found = scraper.read([node("bad", bad), node("good", good)])
        assert found["bad"] is why
        assert isinstance(found["good"], NodeSample)

    def test_nobody_listens(self, good: str) -> None:
        found = Scraper().read([node("dead", f"127.0.0.1:{free_port()}"), node("good", good)])
        assert found["dead"] is Unread.UNREACHABLE
        assert isinstance(found["good"], NodeSample)

    @pytest.mark.parametrize("metrics", ["", "node-a:9477", "127.0.0.1", "127.0.0.1:9477", "0.0.0.0:9477"])
    def test_an_address_that_is_nobodys(self, metrics: str) -> None:
        """A node that serves its metrics on loopback only cannot be asked from elsewhere."""
        spec = node("n1", metrics, IPv4Address("192.168.4.1"))
        assert Scraper().read([spec]) == {"n1": Unread.NO_ADDRESS}

    def test_an_answer_in_pieces(self) -> None:
        def talk(client: socket.socket) -> None:
            for piece in (b"HTTP/1.0 200", b" OK\r\n\r", b"\n" + GOOD[:20], GOOD[20:]):
                client.sendall(piece)
                time.sleep(0.05)

        with server_of(talk) as listen:
            found = Scraper().read([node("n1", listen)])["n1"]
        assert isinstance(found, NodeSample)
        assert found.members == {WHERE: {Series.CONNTRACK: 5.0}}

    @pytest.mark.timed
    def test_the_silent_do_not_delay_the_others(self, good: str) -> None:
        """All of them together take one time limit; and the next time those who answered come first."""
        with server_of(hang) as silent:
            scraper = Scraper(timeout_s=0.5, at_once=50)
            nodes = [
                *(node(f"dead{number}", silent) for number in range(40)),
                *(node(f"n{i}", good) for i in range(10)),
            ]
            began = time.monotonic()
            found = scraper.read(nodes)
            assert time.monotonic() - began < 1.5
            assert [found[f"dead{number}"] for number in range(40)] == [Unread.TIMEOUT] * 40
            narrow = Scraper(timeout_s=0.5, at_once=20)
            narrow._silent = scraper._silent
            began = time.monotonic()
            found = narrow.read(nodes)
            samples = [sample for sample in found.values() if isinstance(sample, NodeSample)]
            assert len(samples) == 10
            assert max(sample.at for sample in samples) - began < 0.4

    def test_nothing_is_left_open(self, good: str) -> None:
        scraper = Scraper(timeout_s=0.2)
        with server_of(hang) as silent:
            nodes = [node("good", good), node("silent", silent), node("dead", f"127.0.0.1:{free_port()}")]
            scraper.read(nodes)
            before = len(list(Path("/proc/self/fd").iterdir()))
            for _ in range(5):
                scraper.read(nodes)
            time.sleep(0.1)
            assert len(list(Path("/proc/self/fd").iterdir())) <= before


# ---- Prometheus --------------------------------------------------------------------------------------------------------


def whole_request(client: socket.socket) -> bytes:
    """Head and body, which come in two packets: to answer and close before is to reset the connection."""
    received = b""
    while True:
        data = client.recv(1 << 16)
        received += data
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not data or (end and len(body) >= (int(length[1]) if length else 0)):
            return received


@dataclass
class FakePrometheus:
    """Says what it is told to, whatever is asked; remembers what was asked with."""

    status: bytes = b"200 OK"
    body: bytes = b""
    asked: list[bytes] = field(default_factory=list)


@pytest.fixture
def fake() -> Iterator[tuple[FakePrometheus, str]]:
    said = FakePrometheus()

    def serve(server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                said.asked.append(whole_request(client))
                answer(said.body, said.status)(client)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield said, f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


class TestPrometheusRefuses:
    NODES = (node("n1", "192.0.2.1:9477"),)

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (b"503 Service Unavailable", b"starting", TransientError),
            (b"429 Too Many Requests", b"", TransientError),
            (b"401 Unauthorized", b"", PermanentError),
            (b"404 Not Found", b"<html>", PermanentError),
            (b"200 OK", b"<html>", PermanentError),
            (b"200 OK", b'{"status":"error","error":"bad query"}', PermanentError),
        ],
    )
    def test_by_kind_of_error(
        self, fake: tuple[FakePrometheus, str], status: bytes, body: bytes, error: type[Exception]
    ) -> None:
        said, url = fake
        said.status, said.body = status, body
        with pytest.raises(error, match=url):
            PrometheusApi(url).read(self.NODES)

    def test_nobody_listens(self) -> None:
        with pytest.raises(TransientError, match="does not answer"):
            PrometheusApi(f"http://127.0.0.1:{free_port()}").read(self.NODES)

    @pytest.mark.parametrize("talk", [hang, drip])
    def test_one_that_does_not_come_to_an_end(self, talk: Talk) -> None:
        with server_of(talk) as listen, pytest.raises(TransientError, match="timed out"):
            PrometheusApi(f"http://{listen}", timeout_s=0.4).read(self.NODES)

    @pytest.mark.parametrize("url", ["", "prometheus:9090", "ftp://prometheus", "http://", "http://p:9090/?a=b"])
    def test_what_is_no_url(self, url: str) -> None:
        with pytest.raises(InvalidInput, match="give one as http://prometheus:9090"):
            PrometheusApi(url)

    def test_many_nodes_are_asked_for_together(self, fake: tuple[FakePrometheus, str]) -> None:
        """When they were scraped, and what they said; fifty at a time."""
        said, url = fake
        said.body = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
        nodes = [node(f"n{number}", f"192.0.2.{number}:9477") for number in range(120)]
        assert PrometheusApi(url).read(nodes) == {spec.id: Unread.NOT_SCRAPED for spec in nodes}
        assert len(said.asked) == 6

    def test_a_token_is_sent_and_read_anew(self, fake: tuple[FakePrometheus, str], tmp_path: Path) -> None:
        said, url = fake
        said.body = b'{"status":"success","data":{"resultType":"vector","result":[]}}'
        token = tmp_path / "token"
        token.touch(0o600)
        api = PrometheusApi(f"{url}/sub/", token_file=str(token))
        for secret in ("first", "second"):
            token.write_text(f"{secret}\n")
            assert api.read(self.NODES) == {"n1": Unread.NOT_SCRAPED}
            assert f"Authorization: Bearer {secret}\r\n".encode() in said.asked[-1]
        assert said.asked[-1].startswith(b"POST /sub/api/v1/query ")
        token.chmod(0o644)
        with pytest.raises(PermanentError, match="can be read or written by others"):
            api.read(self.NODES)
        token.unlink()
        with pytest.raises(PermanentError, match=str(token)):
            api.read(self.NODES)


CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: proxypool
  static_configs: [{{targets: {targets}}}]
{more}
"""
TWICE = """
- job_name: again
  static_configs: [{{targets: [{target}]}}]
"""


@contextlib.contextmanager
def prometheus(folder: Path, *targets: str, twice: str | None = None) -> Iterator[str]:
    """A real server that scrapes these every second."""
    more = TWICE.format(target=json.dumps(twice)) if twice else ""
    (folder / "prometheus.yml").write_text(CONFIG.format(targets=json.dumps(targets), more=more))
    listen = f"127.0.0.1:{free_port()}"
    options = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with (folder / "log").open("w") as log:
        command = [*DIES_WITH_US, "prometheus", *options, f"--web.listen-address={listen}"]
        process = subprocess.Popen(command, stderr=log, stdout=log)
        try:
            yield f"http://{listen}"
        finally:
            process.kill()
            process.wait()


def until(read: Callable[[], dict[str, object]], *nodes: str) -> dict[str, object]:
    """What is read when these nodes have samples."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(TransientError):
            found = read()
            if all(isinstance(found[name], NodeSample) for name in nodes):
                return found
        assert time.monotonic() < deadline, (Path("/proc/loadavg").read_text(), nodes)
        time.sleep(0.2)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
class TestPrometheus:
    def test_it_says_the_same_as_the_nodes(self, good: str, tmp_path: Path) -> None:
        """Of a node that it does not scrape nothing; how old it is follows from when it was scraped, not asked for."""
        nodes = [node("n1", good), node("n2", "192.0.2.1:9477"), node("n3", "")]
        with prometheus(tmp_path, good) as url:
            api = PrometheusApi(url)
            found = until(lambda: dict(api.read(nodes)), "n1")
            first, direct = found["n1"], Scraper().read(nodes[:1])["n1"]
            assert isinstance(first, NodeSample)
            assert isinstance(direct, NodeSample)
            assert (first.limits, first.members) == (direct.limits, direct.members)
            assert 0 <= time.monotonic() - first.at < 5
            assert (found["n2"], found["n3"]) == (Unread.NOT_SCRAPED, Unread.NO_ADDRESS)

    def test_a_node_that_is_gone_gets_older_or_unknown(self, tmp_path: Path) -> None:
        """Never is an old number taken for a new one."""
        with daemon() as listen, prometheus(tmp_path, listen) as url:
            api = PrometheusApi(url)
            until(lambda: dict(api.read([node("n1", listen)])), "n1")
            gone_at = time.monotonic()
        # Another Prometheus with the same data, which scrapes nobody.
        with prometheus(tmp_path) as url:
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(TransientError):
                    found = PrometheusApi(url).read([node("n1", listen)])["n1"]
                    break
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert found is Unread.NOT_SCRAPED or (isinstance(found, NodeSample) and found.at <= gone_at + 1.5)

    def test_a_node_that_is_scraped_twice_is_not_known(self, good: str, tmp_path: Path) -> None:
        """Nobody can say which of the two is newer."""
        with prometheus(tmp_path, good, twice=good) as url:
            api, deadline = PrometheusApi(url), time.monotonic() + 30
            while True:
                with contextlib.suppress(TransientError):
                    found = api.read([node("n1", good)])["n1"]
                    if (
                        isinstance(found, NodeSample)
                        and found.members[WHERE][Series.CONNTRACK] != SAMPLE[Series.CONNTRACK]
                    ):
                        break
                assert time.monotonic() < deadline
                time.sleep(0.2)
            values = {*found.members[WHERE].values(), *found.limits.values()}
            assert all(map(math.isnan, values)), "NaN"
