"""The client of a host agent's API, against a small server on a socket with a path."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from proxypool.lab.agent import AgentError, AgentSilent, Api, attach, attach_soon, attachments, detach, wait_api
from proxypool.lab.errors import LabTimeout

ONE, TWO = ("10.244.1.2", "s1"), ("10.244.1.3", "s1")
NOTHING_ATTACHED: tuple[int, dict[str, Any]] = (200, {"items": []})
UNKNOWN = (404, {"title": "Not Found", "detail": "there is no subnet s1", "code": "unknown-subnet"})


@dataclass
class FakeAgent:
    """Keeps attachments; refuses as often as told to; counts connections."""

    path: Path
    attached: set[tuple[str, str]] = field(default_factory=set)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Given before anything is done."""
    connections: int = 0
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    mute: bool = False
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

        def setup(self) -> None:
            fake.connections += 1
            super().setup()

        def do_POST(self) -> None:
            if fake.mute:
                self.close_connection = True
                return
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


def test_attach_and_detach_over_one_connection(agent: FakeAgent) -> None:
    with Api(agent.path) as api:
        assert api.attach([ONE]) == {ONE: "attached"}
        assert api.attach([ONE, TWO]) == {ONE: "unchanged", TWO: "attached"}
        assert api.attachments() == [{"owner": "api", **named(*ONE)}, {"owner": "api", **named(*TWO)}]
        assert api.detach([(ONE[0], None)]) == {ONE: "detached"}
        assert api.detach([TWO]) == {TWO: "detached"}
    assert agent.connections == 1
    assert agent.requests == [
        ("/v1/attach", {"attachments": [named(*ONE)], "replace": False}),
        ("/v1/attach", {"attachments": [named(*ONE), named(*TWO)], "replace": False}),
        ("/v1/attachments", {}),
        ("/v1/detach", {"attachments": [{"address": ONE[0]}]}),
        ("/v1/detach", {"attachments": [named(*TWO)]}),
    ]


def test_a_refusal_says_why_and_the_connection_goes_on(agent: FakeAgent) -> None:
    agent.answers = [(409, {"title": "Conflict", "detail": "10.244.1.2 is attached to s2", "code": "taken"})]
    with Api(agent.path) as api:
        with pytest.raises(AgentError, match=r"409 taken: 10\.244\.1\.2 is attached to s2") as caught:
            api.attach([ONE])
        assert (caught.value.status, caught.value.code) == (409, "taken")
        assert api.attach([ONE], replace=True) == {ONE: "attached"}
    assert agent.requests[-1][1]["replace"] is True
    assert agent.connections == 1


def test_no_agent_is_silence(tmp_path: Path) -> None:
    with pytest.raises(AgentSilent, match=r"host\.sock"):
        Api(tmp_path / "host.sock").attach([ONE])


def test_an_agent_that_goes_away_is_silence_and_the_next_call_connects_anew(agent: FakeAgent) -> None:
    with Api(agent.path) as api:
        agent.mute = True
        with pytest.raises(AgentSilent):
            api.attach([ONE])
        agent.mute = False
        assert api.attach([ONE]) == {ONE: "attached"}
    assert agent.connections == 2


def test_a_slow_agent_is_a_timeout(agent: FakeAgent) -> None:
    agent.go_on.clear()
    with Api(agent.path, 0.02) as api, pytest.raises(LabTimeout, match="POST /v1/attach"):
        api.attach([ONE])
    agent.go_on.set()


def test_subnets_that_the_agent_has_not_heard_of_are_asked_for_again(agent: FakeAgent) -> None:
    agent.attached = {TWO}
    agent.answers = [NOTHING_ATTACHED, UNKNOWN, UNKNOWN]
    assert 0 < attach_soon(agent.path, [ONE], 5.0) < 5.0
    assert agent.attached == {ONE, TWO}


def test_another_refusal_is_final_and_so_is_the_last_one_in_time(agent: FakeAgent) -> None:
    agent.answers = [NOTHING_ATTACHED, (409, {"code": "taken"}), UNKNOWN]
    with pytest.raises(AgentError, match="409 taken"):
        attach_soon(agent.path, [ONE], 5.0)
    agent.answers = [NOTHING_ATTACHED, *[UNKNOWN] * 100]
    with pytest.raises(AgentError, match="no subnet s1"):
        attach_soon(agent.path, [ONE], 0.05)


def test_waiting_for_an_agent_that_never_comes(tmp_path: Path) -> None:
    with pytest.raises(LabTimeout, match="the agent of host1 to answer at"):
        wait_api(tmp_path / "host.sock", 0.05, "the agent of host1")


def test_an_agent_that_comes_later(agent: FakeAgent) -> None:
    agent.mute = True
    timer = threading.Timer(0.05, lambda: setattr(agent, "mute", False))
    timer.start()
    wait_api(agent.path, 5.0)
    timer.join()
    assert attachments(agent.path) == []
    assert attach(agent.path, ONE) == {ONE: "attached"}
    assert detach(agent.path, ONE) == {ONE: "detached"}
