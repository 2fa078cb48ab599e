"""The client of a host agent's API, against a small server on a socket with a path."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from proxypool.adapters.agent import AgentRefused
from proxypool.core.errors import TransientError
from proxypool.lab.agent import ASK_AGAIN_S, attach, attach_soon, attachments, detach, wait_api
from proxypool.lab.errors import LabTimeout

ONE, TWO = ("10.244.1.2", "s1"), ("10.244.1.3", "s1")
NOTHING_ATTACHED: tuple[int, dict[str, Any]] = (200, {"items": []})
BUSY = (503, {"title": "Service Unavailable", "detail": "no pool yet", "code": "not-ready"})
UNKNOWN = (404, {"title": "Not Found", "detail": "there is no subnet s1", "code": "unknown-subnet"})


@dataclass
class FakeAgent:
    """Keeps attachments; first answers what it was told to."""

    path: Path
    attached: set[tuple[str, str]] = field(default_factory=set)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Given before anything is done."""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append((path, document))
        self.go_on.wait(5.0)
        if self.answers:
            return self.answers.pop(0)
        asked = [(one["address"], one.get("subnet")) for one in document.get("attachments", [])]
        items: list[dict[str, str]] = []
        if path == "/v1/attach":
            items = [{"state": "unchanged" if a in self.attached else "attached", **named(*a)} for a in asked]
            self.attached |= set(asked)
        elif path == "/v1/detach":
            gone = {a for a in self.attached if a in asked or (a[0], None) in asked}
            items = [{"state": "detached", **named(*a)} for a in sorted(gone)]
            self.attached -= gone
        else:
            items = [{"owner": "api", **named(*a)} for a in sorted(self.attached)]
        return 200, {"apiVersion": "proxypool/v1", "kind": "AttachmentList", "items": items}


def named(address: str, subnet: str) -> dict[str, str]:
    return {"address": address, "subnet": subnet}


class Server(ThreadingUnixStreamServer):
    """Closing it does not wait for clients that keep their connection."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client hung up on us: the test says whether that is right."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    fake = FakeAgent(tmp_path / "host.sock")
    fake.go_on.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = fake.answer(self.path, json.loads(text or b"{}"))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - named by the base class

        def log_message(self, *_: object) -> None:
            pass

    with Server(str(fake.path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


def test_attach_and_detach(agent: FakeAgent) -> None:
    assert attach(agent.path, ONE) == {ONE: "attached"}
    assert attach(agent.path, ONE, TWO, replace=True) == {ONE: "unchanged", TWO: "attached"}
    assert attachments(agent.path) == [{"owner": "api", **named(*ONE)}, {"owner": "api", **named(*TWO)}]
    assert detach(agent.path, (ONE[0], None)) == {ONE: "detached"}
    assert detach(agent.path, TWO) == {TWO: "detached"}
    assert agent.requests == [
        ("/v1/attach", {"attachments": [named(*ONE)], "replace": False}),
        ("/v1/attach", {"attachments": [named(*ONE), named(*TWO)], "replace": True}),
        ("/v1/attachments", {}),
        ("/v1/detach", {"attachments": [{"address": ONE[0]}]}),
        ("/v1/detach", {"attachments": [named(*TWO)]}),
    ]


def test_an_agent_that_is_late_and_has_not_heard_of_the_subnet(agent: FakeAgent) -> None:
    """It is waited for; the time that is told is that of the call which did it."""
    agent.attached = {TWO}
    agent.answers = [BUSY, NOTHING_ATTACHED, UNKNOWN, BUSY, UNKNOWN]
    began = time.monotonic()
    took_s = attach_soon(agent.path, [ONE], 5.0)
    assert 0 < took_s < time.monotonic() - began - 4 * ASK_AGAIN_S
    assert agent.attached == {ONE, TWO}


def test_a_refusal_for_another_reason_is_final(agent: FakeAgent) -> None:
    agent.answers = [NOTHING_ATTACHED, (409, {"detail": "10.244.1.2 is attached to s2", "code": "attached-elsewhere"})]
    with pytest.raises(AgentRefused, match=r"10\.244\.1\.2 is attached to s2"):
        attach_soon(agent.path, [ONE], 5.0)


def test_a_subnet_that_the_agent_never_hears_of(agent: FakeAgent) -> None:
    agent.answers = [NOTHING_ATTACHED, *[UNKNOWN] * 100]
    with pytest.raises(LabTimeout, match="the agent of host1 could not attach within 0 s: there is no subnet s1"):
        attach_soon(agent.path, [ONE], 0.05, "the agent of host1")


def test_an_agent_that_never_comes(tmp_path: Path) -> None:
    with pytest.raises(LabTimeout, match=r"the agent of host1 did not answer within 0 s: .*host\.sock"):
        wait_api(tmp_path / "host.sock", 0.05, "the agent of host1")


def test_an_agent_that_is_stuck(agent: FakeAgent) -> None:
    agent.go_on.clear()
    with pytest.raises(TransientError, match="timed out"):
        attach(agent.path, ONE, timeout_s=0.02)
    agent.go_on.set()
