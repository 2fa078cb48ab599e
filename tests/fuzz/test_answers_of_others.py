"""What other services say to us: a provider's program, a cloud, Prometheus, the nodes' metrics."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxypool.adapters.prometheus_api import PrometheusApi
from proxypool.adapters.scrape import Scraper
from proxypool.core.errors import InvalidInput, PermanentError, TransientError
from proxypool.core.model import MemberSpec, NodeSpec
from proxypool.core.scaling.exposition import NoSeries, parse
from proxypool.core.scaling.model import Observation
from proxypool.core.scaling.policy import History, Parameters, decide
from proxypool.core.scaling.series import NodeSample, NodeSeries, Series, Unread
from proxypool.core.scaling.signals import Signals
from proxypool.providers import command
from proxypool.providers.contract import Addresses, Intent, ProviderError
from proxypool.providers.program import Ended
from tests.contract.provider_platforms import NODES, POOL, SUBNETS, BaiduPlatform, baidu_platform
from tests.fuzz.damage import BYTES, NUMBERS, TEXTS, anything
from tests.property.effort import effort
from tests.unit import builders

INTENT = Intent(POOL, SUBNETS[0], "p1", "1-s1")
LOOPBACK = IPv4Address("127.0.0.1")


class Canned:
    """An HTTP server that says the same to everybody, whatever they ask."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"", {"Content-Type": "application/json"}
        canned = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(canned.status)
                for name, value in canned.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(canned.body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(canned.body)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's
                """It would be written to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def canned() -> Iterator[Canned]:
    found = Canned()
    yield found
    found.close()


# ---- the provider `command` ------------------------------------------------------------------------------------------

ANSWERS = [
    {"version": 1, "offers": {"n1": {"cards": 3}, "n2": {"cards": None, "why_not": "full"}}},
    {"version": 1, "havip": "192.168.4.100", "egress_address": "172.16.101.20"},
    {"version": 1, "member": {"node": "n1", "eni": "eth1", "address": "172.16.101.11/24", "gateway": "172.16.101.1"}},
    {"version": 1, "held": [{"subnet": "s1", "pair": "p1", "node": "n1", "handle": "x"}]},
    {"version": 1, "error": {"kind": "throttled", "message": "slowly", "retry_after_s": 5.0}},
]
KINDS = (command._Answer, command._Offers, command._Addresses, command._Card, command._HeldThings)


@given(st.sampled_from(KINDS), st.sampled_from((0, 0, 1, -9)), anything(ANSWERS), st.binary(max_size=40))
@effort(200)
def test_any_answer_of_a_program_is_understood_or_a_providers_error(
    kind: type[command._Answer], code: int, output: bytes, errors: bytes
) -> None:
    ended = Ended(code, bytearray(output), bytearray(errors))
    try:
        assert isinstance(command._understood("program", ended, kind), kind)
    except ProviderError as error:
        assert str(error).startswith("program")
        assert str(error).isprintable()


# ---- the cloud -------------------------------------------------------------------------------------------------------

CARD = {
    "eniId": "eni-1",
    "name": "x",
    "description": "y",
    "macAddress": "fa:16:3e:00:00:01",
    "status": "inuse",
    "instanceId": "i-a",
    "privateIpSet": [{"privateIpAddress": "172.16.101.11", "primary": True}],
    "createdTime": "2026-01-01",
}
VIP = {
    "haVipId": "havip-1",
    "name": "x",
    "privateIpAddress": "192.168.4.100",
    "bindedInstances": [],
    "createdTime": "1",
}
CLOUD = [
    {"isTruncated": True, "nextMarker": "m", "enis": [CARD], "haVips": [VIP]},
    {**CARD, **VIP, "subnet": {"cidr": "172.16.101.0/24"}},
    {"code": "QuotaExceeded", "message": "no", "requestId": "r"},
]


@pytest.fixture(scope="module")
def cloud(canned: Canned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaiduPlatform]:
    """The configuration of the fake cloud; asked is the other server."""
    with baidu_platform(tmp_path_factory.mktemp("baidu")) as platform:
        platform.api.url = f"http://{canned.address}"
        yield platform


@given(st.sampled_from((200, 200, 200, 400, 403, 404, 409, 429, 500, 503)), anything(CLOUD))
@effort(50)
def test_any_answer_of_the_cloud_is_understood_or_a_providers_error(
    cloud: BaiduPlatform, canned: Canned, status: int, body: bytes
) -> None:
    canned.status, canned.body, canned.headers = status, body, {"Content-Type": "application/json;charset=UTF-8"}
    provider = cloud.provider()
    for ask in (
        lambda: provider.acquire_addresses(INTENT, NODES[:2], 0.15),
        lambda: provider.acquire_card(INTENT, NODES[0], 0.15),
        lambda: provider.held(POOL, SUBNETS, 0.15),
        lambda: provider.release_addresses(INTENT, 0.15),
    ):
        try:
            found = ask()
        except ProviderError as error:
            assert str(error).isprintable()
        else:
            assert found is None or isinstance(found, Addresses | MemberSpec | tuple)


# ---- Prometheus ------------------------------------------------------------------------------------------------------

SAMPLES = [
    {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {
                    "metric": {"__name__": str(name), "instance": "INSTANCE", "subnet": "s1", "pair": "p1"},
                    "value": [5, "7"],
                }
                for name in (Series.CONNTRACK, Series.MASTER)
            ]
            + [{"metric": {"__name__": str(NodeSeries.BYTES_LIMIT), "instance": "INSTANCE"}, "value": [5.5, "1e9"]}],
        },
    },
    {"status": "error", "errorType": "bad_data", "error": "no"},
]


@given(st.sampled_from((200, 200, 200, 401, 422, 429, 503)), anything(SAMPLES))
@effort(80)
def test_any_answer_of_a_prometheus_is_samples_or_a_reason(canned: Canned, status: int, body: bytes) -> None:
    canned.status, canned.body, canned.headers = status, body.replace(b"INSTANCE", canned.address.encode()), {}
    node = NodeSpec(id="n1", underlay=LOOPBACK, metrics=canned.address)
    try:
        found = PrometheusApi(f"http://{canned.address}").read([node])
    except (TransientError, PermanentError) as error:
        assert str(error).isprintable()
        return
    answer = found["n1"]
    if isinstance(answer, NodeSample):
        assert math.isfinite(answer.at)
        used(answer)


def used(sample: NodeSample) -> None:
    """The controller makes a load of it, and decides: numbers, whatever the sample's are."""
    signals = Signals(2.0)
    signals.saw(sample)
    load = signals.load_of((builders.pair(),), sample.at + 1)
    for value in (*load.load.values(), *load.at_least.values()):
        assert value is None or (math.isfinite(value) and value >= 0)
    look = Observation(now=sample.at + 1, active=1, load=load.load, at_least=load.at_least, drops=load.drops)
    _, decision = decide(Parameters(), History(), look)
    assert 1 <= decision.wanted <= 64


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://a:b",
        "http://a:99999",
        "http://",
        "ftp://a",
        "http://a b",
        "http://a/\n",
        "http://\xe4",
        "x",
        "http://a:0",
    ],
)
def test_what_is_no_url_of_a_prometheus(url: str) -> None:
    with pytest.raises(InvalidInput, match="is not the URL of a Prometheus server"):
        PrometheusApi(url)


@pytest.mark.parametrize("token", [b"", b"a\nb", b"\xff\xfe", "schl\xfcssel".encode()])
def test_a_token_that_no_header_can_hold_is_not_quoted(canned: Canned, tmp_path: Path, token: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(token)
    path.chmod(0o600)
    api = PrometheusApi(f"http://{canned.address}", token_file=str(path))
    with pytest.raises(PermanentError, match="does not have a token") as told:
        api.read([NodeSpec(id="n1", underlay=LOOPBACK, metrics=canned.address)])
    assert "schl" not in str(told.value)


# ---- metrics of nodes ------------------------------------------------------------------------------------------------

names = st.one_of(st.sampled_from([*map(str, Series), *map(str, NodeSeries)]), st.sampled_from(TEXTS))
labels = st.sampled_from(
    ("", '{pair="p1",subnet="s1"}', '{subnet="s1"}', '{pair="\\"",subnet="s1"}', "{", "{}", '{pair="p1"')
)
numbers = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(("NaN", "+Inf", "-Inf", "x", "1_0", "")), st.floats().map(str)
)
pages = st.lists(st.one_of(st.builds("{}{} {}".format, names, labels, numbers), st.text(max_size=20))).map("\n".join)


@given(pages)
@effort(80)
def test_any_page_of_metrics_is_samples_or_of_something_else(text: str) -> None:
    try:
        limits, members = parse(text)
    except NoSeries:
        return
    used(NodeSample("n1", 5.0, limits, members))


@pytest.fixture(scope="module")
def talker() -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends the last of these bytes to whoever comes, and hangs up."""
    said = [b""]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    with link, contextlib.suppress(OSError):
                        link.recv(65536)
                        link.sendall(said[-1])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", said
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


HEADS = (
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 500 x\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"\x00",
    b"Content-Length: " + b"9" * 5000,
    b"",
)


@given(
    st.sampled_from(HEADS), st.one_of(pages.map(lambda text: text.encode("utf-8", "replace")), st.sampled_from(BYTES))
)
@effort(60)
def test_anything_that_a_node_sends_is_a_sample_or_why_not(
    talker: tuple[str, list[bytes]], head: bytes, body: bytes
) -> None:
    address, said = talker
    said.append(head + body + b"\n")
    answer = Scraper().read([NodeSpec(id="n1", underlay=LOOPBACK, metrics=address)])["n1"]
    assert isinstance(answer, NodeSample | Unread)


@given(st.sampled_from((*TEXTS, *(f"127.0.0.1:{number}" for number in NUMBERS), "localhost:1", "[::1]:80")))
@effort(60)
def test_any_address_that_a_node_registers(metrics: str) -> None:
    answer = Scraper(timeout_s=0.2, connect_timeout_s=0.2).read([NodeSpec(id="n1", underlay=LOOPBACK, metrics=metrics)])
    assert isinstance(answer["n1"], Unread)
