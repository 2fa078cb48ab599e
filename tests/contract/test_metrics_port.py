"""`/metrics` by TLS and with a token: who gets it, who does not, who cannot hold it up; and the controller that reads."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from proxypool.adapters.scrape import Scraper
from proxypool.adapters.tls import client_context
from proxypool.core.config import MetricsConfig
from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.model import NodeSpec
from proxypool.core.scaling.series import NodeSample, Unread
from proxypool.daemons.doors import metrics_server
from proxypool.lab.authority import Authority, Identity
from proxypool.telemetry.http_port import MAX_CONNECTIONS
from proxypool.telemetry.use_metrics import UseCollector
from tests.contract.test_scrape import USE, free_port

TOKEN = "a token that is long enough"  # noqa: S105 - nobody's


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("node", "IP:127.0.0.1")


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return str(path)


@contextlib.contextmanager
def serving(config: MetricsConfig) -> Iterator[int]:
    """As a daemon opens it; its port."""
    registry = CollectorRegistry()
    registry.register(UseCollector(lambda: USE))
    port = free_port()
    server = metrics_server(config, f"127.0.0.1:{port}", registry)()
    try:
        yield port
    finally:
        server.close()


def kept(identity: Identity, token_file: str | None = None) -> MetricsConfig:
    return MetricsConfig(tls_cert=str(identity.certificate), tls_key=str(identity.key), token_file=token_file)


def get(port: int, authority: Authority | None, authorization: str = "") -> int:
    """Status."""
    scheme, context = ("http", None) if authority is None else ("https", client_context(str(authority.certificate)))
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}/metrics")  # noqa: S310 - http or https
    if authorization:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310 - http or https
            assert b"proxypool_" in answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return 0 if b"proxypool_" in error.read() else error.code


def test_who_knows_the_token_and_nobody_else(token_file: str) -> None:
    with serving(MetricsConfig(token_file=token_file)) as port:
        basic = b64encode(f"anybody:{TOKEN}".encode()).decode()
        assert get(port, None, f"Bearer {TOKEN}") == 200
        assert get(port, None, f"Basic {basic}") == 200
        for wrong in ("", "Bearer", "Bearer wrong", "Basic wrong", f"Token {TOKEN}", TOKEN):
            assert get(port, None, wrong) == 401


def test_by_tls_and_not_without(authority: Authority, identity: Identity, token_file: str) -> None:
    with serving(kept(identity, token_file)) as port:
        assert get(port, authority, f"Bearer {TOKEN}") == 200
        assert get(port, authority) == 401
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            get(port, None, f"Bearer {TOKEN}")


def test_files_that_others_can_read_open_no_port(identity: Identity, token_file: str, tmp_path: Path) -> None:
    """The daemon goes on without it, and says why; see `Port`."""
    Path(token_file).chmod(0o644)
    with (
        pytest.raises(TransientError, match="can be read or written by others"),
        serving(MetricsConfig(token_file=token_file)),
    ):
        pass
    loose = tmp_path / "loose.key"
    loose.write_bytes(identity.key.read_bytes())
    loose.chmod(0o644)
    config = MetricsConfig(tls_cert=str(identity.certificate), tls_key=str(loose))
    with pytest.raises(TransientError, match=r"loose\.key keeps a secret"), serving(config):
        pass


@pytest.mark.parametrize(
    "sent", [b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n"], ids=["nothing", "a hello", "no TLS"]
)
def test_those_who_idle_before_the_handshake_hold_up_nobody(
    authority: Authority, identity: Identity, token_file: str, sent: bytes
) -> None:
    """Three times as many as there are places."""
    with serving(kept(identity, token_file)) as port, contextlib.ExitStack() as stack:
        for _ in range(3 * MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)).sendall(sent)
        began = time.monotonic()
        for _ in range(3):
            assert get(port, authority, f"Bearer {TOKEN}") == 200
        assert time.monotonic() - began < 8, "much less than the time that they have"


def test_those_who_idle_after_the_handshake_hold_up_nobody(
    authority: Authority, identity: Identity, token_file: str
) -> None:
    context = client_context(str(authority.certificate))
    with serving(kept(identity, token_file)) as port, contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 10):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        assert get(port, authority, f"Bearer {TOKEN}") == 200


# ---- the controller reads --------------------------------------------------------------------------------------------


def node(port: int, *, is_tls: bool = True, name: str = "node-a") -> NodeSpec:
    loopback = IPv4Address("127.0.0.1")
    return NodeSpec(id=name, underlay=loopback, metrics=f"127.0.0.1:{port}", metrics_tls=is_tls)


def scraper(authority: Authority, token: str = TOKEN, timeout_s: float = 10.0) -> Scraper:
    return Scraper(timeout_s, timeout_s, tls=partial(client_context, str(authority.certificate)), token=lambda: token)


def test_nodes_are_read_by_tls_with_the_token(authority: Authority, identity: Identity, token_file: str) -> None:
    with serving(kept(identity, token_file)) as port:
        found = scraper(authority).read([node(port, name=f"node-{number}") for number in range(20)])
        assert len(found) == 20
        assert all(isinstance(answer, NodeSample) and answer.members for answer in found.values())
        assert scraper(authority, "another token").read([node(port)]) == {"node-a": Unread.REFUSED}


def test_a_node_of_another_authority_or_another_name_is_not_believed(
    authority: Authority, identity: Identity, token_file: str, tmp_path: Path
) -> None:
    """It gets no token: the handshake fails before anything is asked."""
    with serving(kept(identity, token_file)) as port:
        assert scraper(Authority(tmp_path / "other")).read([node(port)]) == {"node-a": Unread.UNTRUSTED}
    with serving(kept(authority.issue("elsewhere", "IP:127.0.0.2"), token_file)) as port:
        assert scraper(authority).read([node(port)]) == {"node-a": Unread.UNTRUSTED}


def test_nobody_is_asked_in_the_clear_by_a_controller_that_checks(authority: Authority, identity: Identity) -> None:
    with serving(MetricsConfig()) as port:
        assert scraper(authority).read([node(port, is_tls=False)]) == {"node-a": Unread.UNTRUSTED}
        assert isinstance(Scraper().read([node(port, is_tls=False)])["node-a"], NodeSample)
    with serving(kept(identity)) as port:
        assert Scraper().read([node(port)]) == {"node-a": Unread.UNTRUSTED}


def test_nodes_that_never_shake_hands_delay_no_other(authority: Authority, identity: Identity, token_file: str) -> None:
    with serving(kept(identity, token_file)) as port, socket.create_server(("127.0.0.1", 0), backlog=64) as mute:
        silent = [node(mute.getsockname()[1], name=f"silent-{number}") for number in range(30)]
        found = scraper(authority, timeout_s=2.0).read([*silent, node(port, name="good")])
        assert isinstance(found["good"], NodeSample)
        assert {found[spec.id] for spec in silent} == {Unread.TIMEOUT}


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"cannot use .*none for TLS"):
        Scraper(tls=partial(client_context, str(tmp_path / "none"))).read([])
