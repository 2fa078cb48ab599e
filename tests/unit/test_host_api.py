"""The local API over its socket: documents, refusals, and what a client may get wrong."""

from __future__ import annotations

import grp
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool.adapters.agent import Agent as Client
from proxypool.adapters.agent import AgentRefused
from proxypool.core.errors import PermanentError, TransientError
from proxypool.daemons.api_server import MAX_BODY_BYTES, ApiServer
from proxypool.daemons.host_api import HostApi
from tests.unit.test_attachments import Agent


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "attachments.jsonl")


@pytest.fixture
def place(tmp_path: Path, agent: Agent) -> Iterator[Path]:
    """The socket of an API that serves an agent's attachments."""
    path = tmp_path / "host.sock"
    server = ApiServer(path, HostApi(agent.all, lambda: {"host": "h1", "ready": True}), None)
    try:
        yield path
    finally:
        server.close()


@pytest.fixture
def client(place: Path) -> Iterator[Client]:
    found = Client(place)
    yield found
    found.close()


def raw(place: Path, text: bytes) -> tuple[int, dict[str, object]]:
    """What a client that speaks HTTP by hand gets back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(5.0)
        link.connect(str(place))
        link.sendall(text)
        link.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_attach_list_and_detach(client: Client) -> None:
    assert client.attach([("10.244.1.2", "s1"), ("10.244.1.3", "s1")]) == [
        {"address": "10.244.1.2", "subnet": "s1", "state": "attached"},
        {"address": "10.244.1.3", "subnet": "s1", "state": "attached"},
    ]
    assert [(item["address"], item["subnet"]) for item in client.attachments()] == [
        ("10.244.1.2", "s1"),
        ("10.244.1.3", "s1"),
    ]
    assert client.detach([("10.244.1.2", None), ("10.244.1.9", "s1")]) == [
        {"address": "10.244.1.2", "subnet": "s1", "state": "detached"},
        {"address": "10.244.1.9", "subnet": "s1", "state": "absent"},
    ]
    assert client.ask("GET", "/v1/status")["attachments"] == 1


def test_a_refusal_has_a_stable_code_and_a_sentence(client: Client) -> None:
    client.attach([("10.244.1.2", "s1")])
    for wanted, code in ((("10.244.1.2", "twin"), "attached-elsewhere"), (("10.9.9.9", "s1"), "not-an-instance")):
        with pytest.raises(AgentRefused) as caught:
            client.attach([wanted])
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("request_line", "body", "status", "code"),
    [
        ("POST /v1/attach", b"nonsense", 400, "invalid"),
        ("POST /v1/attach", b'{"attachments":[{"address":"10.244.1.2","subnet":"none"}]}', 404, "unknown-subnet"),
        ("POST /v1/attach", b'{"attachments":[{"address":"10.9.9.9","subnet":"s1"}]}', 422, "not-an-instance"),
        ("GET /v1/attach", b"", 405, "method"),
        ("POST /v2/attach", b"{}", 404, "no-such-resource"),
        ("PUT /", b"", 404, "no-such-resource"),
    ],
)
def test_what_goes_wrong_is_a_problem_document(
    place: Path, request_line: str, body: bytes, status: int, code: str
) -> None:
    text = f"{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    found, document = raw(place, text + body)
    assert (found, document["status"], document["code"]) == (status, status, code)
    assert document["detail"]


def test_a_body_that_is_too_long_or_of_unknown_length_is_not_read(place: Path) -> None:
    head = "POST /v1/attach HTTP/1.1\r\nHost: x\r\n"
    assert raw(place, f"{head}Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode())[0] == 413
    assert raw(place, f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())[0] == 411
    assert raw(place, f"{head}Content-Length: -1\r\n\r\n".encode())[0] == 411


def test_many_requests_follow_each_other_on_one_connection(client: Client, agent: Agent) -> None:
    for last in range(2, 200):
        client.attach([(f"10.244.1.{last}", "s1")])
    assert len(agent.names()) == 198


def test_a_client_that_says_nothing_keeps_nobody_waiting(place: Path, client: Client) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as idle:
        idle.connect(str(place))
        assert client.attach([("10.244.1.2", "s1")])


def test_only_root_may_use_the_socket_unless_a_group_is_named(place: Path) -> None:
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_group_that_is_named_may_use_it_too(tmp_path: Path, agent: Agent) -> None:
    path = tmp_path / "host.sock"
    server = ApiServer(path, HostApi(agent.all, dict), grp.getgrgid(os.getgid()).gr_name)
    try:
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, os.getgid())
    finally:
        server.close()


def test_the_client_in_the_documentation_works(place: Path, agent: Agent) -> None:
    text = (Path(__file__).parents[2] / "docs/api.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    program = code.replace("/run/proxypool/host.sock", str(place))
    assert program != code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "attached\n"
    assert agent.names() == [("10.244.1.2", "s1")]


def test_a_group_that_does_not_exist_is_named(tmp_path: Path, agent: Agent) -> None:
    with pytest.raises(PermanentError, match="groupadd no-such-group"):
        ApiServer(tmp_path / "s", HostApi(agent.all, dict), "no-such-group")


def test_a_socket_that_a_predecessor_left_is_replaced(tmp_path: Path, agent: Agent) -> None:
    path = tmp_path / "host.sock"
    ApiServer(path, HostApi(agent.all, dict), None).close()
    assert path.exists()
    server = ApiServer(path, HostApi(agent.all, dict), None)
    try:
        client = Client(path)
        assert client.attachments() == []
        client.close()
        assert server.is_reachable()
        os.unlink(path)
        assert not server.is_reachable()
    finally:
        server.close()


def test_without_an_agent_the_client_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="systemctl start proxypool-host"):
        Client(tmp_path / "nobody.sock").attachments()


def test_a_defect_is_answered_and_ends_nothing(tmp_path: Path, agent: Agent) -> None:
    def broken() -> dict[str, object]:
        raise ZeroDivisionError

    path = tmp_path / "host.sock"
    server = ApiServer(path, HostApi(agent.all, broken), None)
    try:
        client = Client(path)
        with pytest.raises(TransientError, match="ZeroDivisionError"):
            client.ask("GET", "/v1/status")
        assert client.attachments() == []
        client.close()
    finally:
        server.close()


def test_a_container_runtimes_call_is_carried_out(place: Path, agent: Agent) -> None:
    """However the names of its headers are written."""
    body = json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "cbr0",
            "type": "proxypool",
            "subnets": ["s1"],
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.2/24"}]},
        }
    )
    for command, left in (("ADD", [("10.244.1.2", "s1")]), ("DEL", [])):
        head = (
            f"POST /v1/cni HTTP/1.1\r\nHost: x\r\nConnection: close\r\ncni-COMMAND: {command}\r\n"
            f"CNI-ContainerID: c1\r\ncni-netns: /run/netns/x\r\nCNI-IFNAME: eth0\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.connect(str(place))
            link.sendall((head + body).encode())
            answer = b"".join(iter(lambda: link.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert agent.names() == left
