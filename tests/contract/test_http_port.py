"""A port for HTTP on loopback: kind clients, and those that are slow, idle, many, rude or lost."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool.core.errors import TransientError
from proxypool.telemetry import http_port
from proxypool.telemetry.http_port import MAX_CONNECTIONS, Certificate, HttpPort
from tests.contract.zk import wait_until

SOON_S = 5.0
"""Much less than the time limits that are tried."""


class Application:
    """Says what it was asked, and can be held up."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.size = 0
        self.asked: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.asked.append(environ["PATH_INFO"])
        self.may_answer.wait(30)
        if environ["PATH_INFO"] == "/defect":
            raise KeyError("a defect")
        body = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}".encode().ljust(self.size, b".")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def serving(application: Application | None = None, certificate: Certificate | None = None) -> Iterator[int]:
    """An open port; its number."""
    number = free_port()
    port = HttpPort(f"127.0.0.1:{number}", application or Application(), what="a test", certificate=certificate)
    try:
        yield number
    finally:
        port.close()


def get(port: int, path: str = "/x", method: str = "GET", context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """Status and body."""
    client: http.client.HTTPConnection
    if context is None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON_S)
    else:
        client = http.client.HTTPSConnection("localhost", port, timeout=SOON_S, context=context)
    with contextlib.closing(client):
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, answer.read()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=SOON_S)
    client.sendall(sent)
    return client


def test_a_request_is_answered_and_the_connection_ends() -> None:
    with serving() as port:
        assert get(port) == (200, b"GET /x")
        assert get(port, method="HEAD") == (200, b"")
        with connect(port, b"GET /y HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n") as client:
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.endswith(b"GET /y")


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "a letter", "a line", "a header"],
)
def test_many_clients_that_say_too_little_hold_up_nobody(sent: bytes) -> None:
    """Three times as many as there are places."""
    with serving() as port, contextlib.ExitStack() as stack:
        for _ in range(3 * MAX_CONNECTIONS):
            stack.enter_context(connect(port, sent))
        began = time.monotonic()
        for _ in range(5):
            assert get(port) == (200, b"GET /x")
        assert time.monotonic() - began < SOON_S
        assert threads_of("a test") <= MAX_CONNECTIONS + 1


def threads_of(what: str) -> int:
    """That serve connections, and the one that accepts them."""
    return sum(thread.name == what or "process_request_thread" in thread.name for thread in threading.enumerate())


def test_who_sends_byte_by_byte_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes soon after the last one; all of them together take too long."""
    monkeypatch.setattr(http_port, "REQUEST_S", 0.6)
    with serving() as port, connect(port, b"GET / HTTP/1.1\r\nX: ") as client:
        began = time.monotonic()
        client.settimeout(0.05)
        while time.monotonic() - began < SOON_S:
            try:
                client.send(b"x")
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert 0.4 < time.monotonic() - began < SOON_S


def test_who_does_not_take_the_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their threads end, although the clients stay connected."""
    monkeypatch.setattr(http_port, "ANSWER_S", 0.3)
    application = Application()
    application.size = 50_000_000
    with serving(application) as port, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(port, b"GET / HTTP/1.1\r\n\r\n"))
        wait_until(lambda: threads_of("a test") > 1, "they are served", SOON_S)
        wait_until(lambda: threads_of("a test") == 1, "they are left", 2 * SOON_S)
        application.size = 0
        assert get(port) == (200, b"GET /x")


def test_more_slow_answers_than_places_refuse_the_next_and_end_well() -> None:
    """Who has asked is not sent away for others; whoever comes too late is, at once."""
    application = Application()
    with serving(application) as port, contextlib.ExitStack() as stack:
        application.may_answer.clear()
        waiting = [stack.enter_context(connect(port, b"GET /w HTTP/1.1\r\n\r\n")) for _ in range(MAX_CONNECTIONS)]
        # Not when there are so many threads: who has a place and has not been heard yet has to make room.
        wait_until(lambda: len(application.asked) == MAX_CONNECTIONS, "all places are taken by who has asked", SOON_S)
        began = time.monotonic()
        with connect(port, b"GET /late HTTP/1.1\r\n\r\n") as late:
            with contextlib.suppress(ConnectionError):
                assert late.recv(1) == b""
            assert time.monotonic() - began < SOON_S
        application.may_answer.set()
        assert all(b"200 OK" in client.recv(4096) for client in waiting)
        assert get(port) == (200, b"GET /x")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 is TLS\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % at for at in range(200)) + b"\r\n", b"431"),
    ],
)
def test_what_is_no_request_is_refused(sent: bytes, status: bytes) -> None:
    with serving() as port:
        with connect(port, sent) as client, contextlib.suppress(ConnectionResetError):
            assert status in client.recv(4096)
        assert get(port) == (200, b"GET /x")


def test_a_defect_of_the_application_ends_one_answer_only(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as port:
        assert get(port, "/defect")[0] == 500
        assert get(port) == (200, b"GET /x")


def test_a_port_in_use_is_told_as_such() -> None:
    with (
        serving() as port,
        pytest.raises(TransientError, match=f"cannot serve a test on 127.0.0.1:{port}: Address already in use"),
    ):
        HttpPort(f"127.0.0.1:{port}", Application(), what="a test")


def test_a_closed_port_can_be_opened_again_at_once() -> None:
    port = free_port()
    for _ in range(3):
        server = HttpPort(f"127.0.0.1:{port}", Application(), what="a test")
        assert get(port) == (200, b"GET /x")
        server.close()
    with pytest.raises(ConnectionError):
        connect(port)


def test_an_address_of_the_next_generation() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = HttpPort(f"[::1]:{port}", Application(), what="a test")
    try:
        with socket.create_connection(("::1", port), timeout=SOON_S) as client:
            client.sendall(b"GET /six HTTP/1.1\r\n\r\n")
            assert b"200 OK" in client.recv(4096)
    finally:
        server.close()


# ---- TLS -------------------------------------------------------------------------------------------------------------


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate that its own key has signed, and the key."""
    assert shutil.which("openssl"), "apt-get install openssl"
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-addext", f"subjectAltName=DNS:{name}"], check=True, capture_output=True)
    return certificate, key


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with serving(certificate=Certificate(certificate, key)) as port:
        assert get(port, context=trusting(certificate)) == (200, b"GET /x")
        with connect(port, b"GET / HTTP/1.1\r\n\r\n") as client, contextlib.suppress(ConnectionError):
            assert b"200" not in client.recv(4096)
        old = trusting(certificate)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            get(port, context=old)


def test_many_who_never_shake_hands_hold_up_nobody(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with serving(certificate=Certificate(certificate, key)) as port, contextlib.ExitStack() as stack:
        for _ in range(2 * MAX_CONNECTIONS):
            stack.enter_context(connect(port, b"\x16\x03\x01\x02"))
        assert get(port, context=trusting(certificate)) == (200, b"GET /x")


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with serving(certificate=Certificate(certificate, key)) as port:
        assert get(port, context=trusting(certificate))[0] == 200
        new, new_key = make_certificate(tmp_path / "new")
        os.replace(new_key, key)
        os.replace(new, certificate)
        assert get(port, context=trusting(certificate))[0] == 200
        certificate.write_text("broken")
        assert get(port, context=trusting_all())[0] == 200, "the last good one stays"


def trusting_all() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_files_that_are_no_certificate_are_told_as_such(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    _, other = make_certificate(tmp_path / "other")
    for files in ((tmp_path / "none", key), (certificate, certificate), (certificate, other)):
        with pytest.raises(TransientError, match=r"cannot use .* for TLS"):
            Certificate(*files)
