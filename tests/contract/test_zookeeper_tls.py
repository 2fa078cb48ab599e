"""ZooKeeper by mutual TLS: a real server that wants a certificate of ours, and whose own is checked, with its name."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proxypool.adapters.tls import client_context
from proxypool.adapters.zookeeper import PoolSession, ZooKeeperUnreachable
from proxypool.adapters.zookeeper.handler import PoolHandler
from proxypool.core.access import AccessRole
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.errors import AccessDenied, PermanentError
from proxypool.core.role import Coordinator
from proxypool.lab.authority import Authority, Identity
from tests.contract.conftest import _serve
from tests.contract.zk import PoolClient, ZooKeeperServer, pool_request, wait_until

JARS = Path("/usr/share/java")


class TlsServer(ZooKeeperServer):
    """Speaks TLS and nothing else, and wants a certificate of everybody. Netty, which that takes, is in Debian's
    libnetty-java, but not on the class path of its zookeeper.
    """

    def __init__(self, directory: Path, authority: Authority) -> None:
        directory.mkdir(parents=True)
        self._authority = authority
        self._own = authority.issue("server", "DNS:localhost", "DNS:zookeeper.test")
        self._client = authority.issue("prober")
        bundle = directory / "server-and-key.pem"
        bundle.write_text(self._own.certificate.read_text() + self._own.key.read_text())
        self._bundle = bundle
        super().__init__(directory)

    def ports(self) -> str:
        return (
            f"secureClientPort={self.port}\nsecureClientPortAddress=127.0.0.1\n"
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
            f"ssl.keyStore.location={self._bundle}\nssl.keyStore.type=PEM\n"
            f"ssl.trustStore.location={self._authority.certificate}\nssl.trustStore.type=PEM\n"
            "ssl.clientAuth=need\n"
        )

    def class_path(self) -> str:
        netty = sorted(path for path in JARS.glob("netty-*.jar") if not any(char.isdigit() for char in path.name))
        return ":".join([super().class_path(), *map(str, netty)])

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def is_serving(self) -> bool:
        context = ssl.create_default_context(cafile=str(self._authority.certificate))
        context.load_cert_chain(self._client.certificate, self._client.key)
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=2) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as wrapped,
            ):
                wrapped.sendall(b"srvr")
                return b"Mode:" in wrapped.recv(4096)
        except OSError:
            return False


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def us(authority: Authority) -> Identity:
    return authority.issue("us")


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsServer]:
    if not (JARS / "netty-handler.jar").exists():
        pytest.skip("needs Netty: apt-get install libnetty-java")
    yield from _serve(TlsServer(tmp_path_factory.mktemp("tls") / "server", authority))  # type: ignore[misc]


def said(authority: Authority, us: Identity) -> dict[str, Any]:
    return {"tls_ca": str(authority.certificate), "tls_cert": str(us.certificate), "tls_key": str(us.key)}


def test_a_pool_is_made_and_followed(
    tls_server: TlsServer, authority: Authority, us: Identity, pool: str, clients: list[PoolClient]
) -> None:
    """Documents larger than a record of TLS, watches, elections; and the pings of an idle session."""
    one, other = (PoolClient(tls_server, pool, 6.0, zookeeper=said(authority, us)) for _ in range(2))
    clients += [one.start(), other.start()]
    one.store.apply(pool_request(60))
    wait_until(lambda: len(other.mirror.snapshot.subnets) == 60, "the other sees it")
    one.make("subnets/s1/hosts/big", b"x" * 300_000)
    assert len(other.get("subnets/s1/hosts/big")) == 300_000
    other.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: one.elected() == "node-a", "elected")
    seen = one.session.last_seen
    assert seen is not None
    wait_until(lambda: (one.session.last_seen or 0) > seen + 1.0, "pings are answered")
    assert one.session.state is Coordinator.CONNECTED


def test_what_waits_in_the_library_is_not_waited_for_on_the_wire(authority: Authority) -> None:
    """One record of TLS may hold several answers. ZooKeeper sends one in each, what stands before it may not."""
    identity = authority.issue("pair", "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    one, other = socket.socketpair()
    wake, waking = socket.socketpair()
    with one, other, wake, waking, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(context.wrap_socket, one, server_side=True)
        client = client_context(str(authority.certificate)).wrap_socket(other, server_hostname="localhost")
        with client, serving.result(10) as server:
            server.sendall(b"two answers")
            handler = PoolHandler(1.0, 1.0)
            assert handler.select([client, wake], [], [], 10) == ([client], [], [])
            assert client.recv(4) == b"two "
            assert handler.select([client, wake], [], [], 0.2)[0] == [client]
            waking.send(b"x")
            assert handler.select([client, wake], [], [], 0.2)[0] == [wake, client], "and requests are not held back"
            assert client.recv(100) == b"answers"
            assert handler.select([client], [], [], 0.0)[0] == []


def test_nobody_is_let_in_and_no_server_believed_without_the_right_certificate(
    tls_server: TlsServer, authority: Authority, us: Identity, tmp_path: Path
) -> None:
    """Each of these sessions would come about if one check were missing."""
    other = Authority(tmp_path / "other")
    by_address = f"127.0.0.1:{tls_server.port}"
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "no certificate": (tls_server.address, {"tls_ca": str(authority.certificate)}),
        "of another authority": (tls_server.address, said(authority, other.issue("us"))),
        "no TLS": (tls_server.address, {}),
        "their authority": (tls_server.address, {**said(authority, us), "tls_ca": str(other.certificate)}),
        "their name": (by_address, said(authority, us)),
        "control": (tls_server.address, said(authority, us)),
    }
    sessions = {
        name: PoolSession(ZooKeeperConfig(hosts=(address,), **config), "p") for name, (address, config) in cases.items()
    }
    try:
        for session in sessions.values():
            session.start()
        sessions.pop("control").connect(10)
        why = {}
        for name, session in sessions.items():
            with pytest.raises(ZooKeeperUnreachable) as caught:
                session.connect(0.5)
            why[name] = str(caught.value)
        assert "TLS: [SSL: CERTIFICATE_VERIFY_FAILED]" in why["their authority"]
        assert "IP address mismatch" in why["their name"]
        assert "TLS: " not in why["no TLS"]
    finally:
        for session in sessions.values():
            session.stop(close_session=False)


def test_a_server_that_never_shakes_hands_does_not_cost_the_session(
    tls_server: TlsServer, authority: Authority, us: Identity, pool: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        config = ZooKeeperConfig(
            hosts=(f"localhost:{mute.getsockname()[1]}", tls_server.address), session_timeout_s=6, **said(authority, us)
        )
        for _ in range(3):  # the order of the servers is random
            session = PoolSession(config, pool)
            session.connect(10)
            session.stop(close_session=True)


def test_a_renewed_certificate_is_shown_with_the_next_connection(
    tls_server: TlsServer, authority: Authority, pool: str, tmp_path: Path, clients: list[PoolClient]
) -> None:
    mine = Identity(tmp_path / "cert.pem", tmp_path / "key.pem")
    stranger = Authority(tmp_path / "other").issue("us")
    _replace(stranger, mine)
    config = said(authority, mine)
    session = PoolSession(ZooKeeperConfig(hosts=(tls_server.address,), **config), pool)
    session.start()
    _replace(authority.issue("renewed"), mine)
    try:
        session.connect(10)
    finally:
        session.stop(close_session=True)


def _replace(new: Identity, old: Identity) -> None:
    shutil.copy(new.key, old.key)
    shutil.copy(new.certificate, old.certificate)
    old.key.chmod(0o600)


def test_files_that_cannot_be_used_are_told_before_anything_is_tried(
    authority: Authority, us: Identity, tmp_path: Path
) -> None:
    none = ZooKeeperConfig(tls_ca=str(tmp_path / "none"))
    with pytest.raises(PermanentError, match=r"cannot use .*none for TLS"):
        PoolSession(none, "p")
    loose = tmp_path / "loose.key"
    shutil.copy(us.key, loose)
    loose.chmod(0o640)
    with pytest.raises(AccessDenied, match=r"loose\.key keeps a secret and can be read or written by others"):
        PoolSession(ZooKeeperConfig(**{**said(authority, us), "tls_key": str(loose)}), "p")


def test_no_secret_is_in_the_most_verbose_log(
    tls_server: TlsServer,
    authority: Authority,
    us: Identity,
    pool: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kazoo writes every request that it sends, and the passwords of sessions."""
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-this-test\n")
    secret.chmod(0o600)
    kazoo = logging.getLogger("proxypool.kazoo")
    before = kazoo.level
    kazoo.setLevel(1)
    caplog.set_level(1, logger="proxypool")
    config = ZooKeeperConfig(
        hosts=(tls_server.address,),
        user=AccessRole.ADMIN,
        secret_file=str(secret),
        **said(authority, us),
    )
    session = PoolSession(config, pool)
    try:
        session.connect(10)
        password = session._credentials[1].hex() if session._credentials else ""
    finally:
        session.stop(close_session=True)
        kazoo.setLevel(before)
    assert "Auth(***)" in caplog.text
    assert "a-secret-of-this-test" not in caplog.text
    assert password
    assert password not in caplog.text
    assert "a-secret-of-this-test" not in repr(session.credentials)
