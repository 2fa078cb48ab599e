"""The status page and its documents, asked by anybody for anything; and the port that serves them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.bearer import knows_token
from proxypool.telemetry.http_port import HttpPort
from proxypool.web.answers import Request
from proxypool.web.page import Face
from proxypool.web.site import Site
from proxypool.web.wsgi import application
from tests.contract.test_http_port import free_port
from tests.fuzz.damage import BYTES, TEXTS
from tests.fuzz.test_local_doors import requests
from tests.property.effort import effort
from tests.unit.shown_pools import Shown, eventful

TOKEN = "a token that is long enough"  # noqa: S105 - nobody's
FACE = Face("controller", "ctl1", "0.1.0", "/runbooks")
latin = st.text(st.characters(max_codepoint=255), max_size=20)
words = st.one_of(st.sampled_from(TEXTS), latin)
paths = st.one_of(
    st.sampled_from(
        ("/", "/api/v1/status", "/api/v1/history", "/api/v1/topology", "/api/v1/scaling", "/api/v1/prometheus/targets")
    ),
    st.builds("/runbooks/{}".format, words),
    st.sampled_from(("/healthz", "/readyz", "//", "/..%2f..", "/style.css", "/icon-ok.svg", "", "*", "/\x00")),
    words,
)
queries = st.one_of(
    st.just(""),
    st.lists(
        st.builds("{}={}".format, st.sampled_from(("subnet", "limit", "pair", "kind", "x", "")), words), max_size=4
    ).map("&".join),
    words,
    st.just("a&" * 300),
    st.just("limit=" + "9" * 300),
)


def site(token: str = "") -> Site:
    return Site(Shown(eventful()), "production", FACE, lambda _: "# A runbook", token)


OPEN, LOCKED = site(), site(TOKEN)


@given(st.sampled_from(("GET", "GET", "HEAD", "POST", "", "get")), paths, queries, words, words)
@effort(120)
def test_any_request_is_answered_and_is_no_defect(method: str, path: str, query: str, host: str, who: str) -> None:
    for place in (OPEN, LOCKED):
        answer = place.answer(Request(method, path, query, host, who))
        assert answer.status in {200, 400, 401, 404, 405, 421}, answer.body
        if answer.status >= 400:
            assert json.loads(answer.body)["code"] != "defect"


@given(st.one_of(words, st.builds("{} {}".format, st.sampled_from(("Bearer", "Basic", "basic", "")), words)))
@effort(60)
def test_nothing_but_the_token_is_the_token(text: str) -> None:
    assert not knows_token(text, TOKEN)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = free_port()
    server = HttpPort(f"127.0.0.1:{number}", application(site()), what="the page")
    yield number
    server.close()


def said(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 30.0) as link:
        link.settimeout(30.0)
        with contextlib.suppress(OSError):
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: link.recv(65536), b""))
    return b""


@given(st.one_of(requests(), requests(), st.binary(max_size=60), st.sampled_from(BYTES)))
@effort(50)
def test_any_bytes_at_the_port(port: int, data: bytes) -> None:
    """It answers or hangs up, and serves the next one."""
    said(port, data)
    assert said(port, b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b"ok\n")
