"""The CNI plug-in as a container runtime calls it: a program, its environment and standard input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxypool.core.cni import Environment
from proxypool.core.cni_config import VERSIONS
from tests.contract.cni_agent import Agent, Answer
from tests.unit.cni_calls import ADDRESS, OWNER, RESULT, annotated, body, environment, variables

PLUGIN = Path(__file__).parents[2] / "kubernetes/cni/proxypool"
SHELLS = {"sh": ["sh"], "dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
POD = {"runtimeConfig": annotated("s1")}

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    code: int
    out: str

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which must be all that was printed."""
        assert self.code == 1
        parsed: dict[str, Any] = json.loads(self.out)
        assert {"cniVersion", "code", "msg"} <= set(parsed)
        return parsed


class Plugin:
    """Calls the plug-in with one shell and one socket."""

    def __init__(self, shell: list[str], path: Path) -> None:
        self.shell = shell
        self.extra = {"PATH": os.environ["PATH"], "PROXYPOOL_SOCKET": str(path)}

    def start(self, call: Environment, **others: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.shell, str(PLUGIN)],
            env={**self.extra, **variables(call), **others},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __call__(self, command: str, data: bytes, call: Environment | None = None, **others: str) -> Done:
        process = self.start(call or environment(command), **others)
        out, err = process.communicate(data, timeout=30)
        assert err == b""
        return Done(process.returncode, out.decode())


@pytest.fixture(params=SHELLS)
def plugin(request: pytest.FixtureRequest, tmp_path: Path) -> Plugin:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    return Plugin(shell, tmp_path / "host.sock")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    served = Agent(tmp_path / "host.sock")
    yield served
    served.close()


def test_the_life_of_an_annotated_pod(plugin: Plugin, agent: Agent) -> None:
    pods = agent.attachments
    added = plugin("ADD", body(**POD))
    assert (added.code, json.loads(added.out)) == (0, RESULT)
    assert pods.of == {OWNER: {(ADDRESS, "s1")}}
    assert plugin("CHECK", body(**POD)) == Done(0, "")
    assert plugin("DEL", body(**POD)) == Done(0, "")
    assert pods.of == {}
    assert plugin("CHECK", body(**POD)).error["code"] == 101
    assert plugin("DEL", body(prevResult=...)) == Done(0, "")
    assert set(agent.paths) == {"/v1/cni"}


def test_gc_and_status(plugin: Plugin, agent: Agent) -> None:
    nobody = environment("", container_id="", netns="", ifname="")
    agent.attachments.of = {OWNER: frozenset({(ADDRESS, "s1")})}
    data = body(cniVersion="1.1.0", **{"cni.dev/valid-attachments": []})
    assert plugin("STATUS", data, _as(nobody, "STATUS")) == Done(0, "")
    assert plugin("GC", data, _as(nobody, "GC")) == Done(0, "")
    assert agent.attachments.of == {}


def _as(call: Environment, command: str) -> Environment:
    return Environment(command, call.container_id, call.netns, call.ifname, call.args)


def test_the_version_needs_no_agent(plugin: Plugin) -> None:
    done = plugin("VERSION", b'{"cniVersion":"1.0.0"}', Environment("VERSION"))
    assert done.code == 0
    assert json.loads(done.out) == {"cniVersion": VERSIONS[-1], "supportedVersions": list(VERSIONS)}


def test_arguments_arrive_as_they_are(plugin: Plugin, agent: Agent) -> None:
    """Quotes, expansions, what curl or a shell might take for its own."""
    args = r"A=$(id);B=`id`;C='\"*;D=@/etc/passwd;E=\n%{http_code};F=ü;PROXYPOOL_SUBNETS=s1,s2"
    assert plugin("ADD", body(), environment("ADD", args=args)).code == 0
    assert agent.attachments.of == {OWNER: {(ADDRESS, "s1"), (ADDRESS, "s2")}}


@pytest.mark.parametrize("variable", ["container_id", "netns", "ifname", "args"])
@pytest.mark.parametrize("character", ["\n", "\r", "\r\n"])
def test_a_line_break_does_not_become_a_header(plugin: Plugin, agent: Agent, variable: str, character: str) -> None:
    call = environment("DEL", **{variable: f"x{character}CNI-Command: ADD"})
    assert plugin("DEL", body(), call).error["code"] == 4
    assert agent.paths == []


def test_an_error_of_the_agent_is_passed_on(plugin: Plugin, agent: Agent) -> None:
    error = plugin("ADD", body(runtimeConfig=annotated("s9"), cniVersion="0.4.0")).error
    assert error == {"cniVersion": "0.4.0", "code": 100, "msg": "the pool has no subnet s9"}
    assert plugin("ADD", b"{garbage").error["code"] == 6
    assert plugin("ADD", b"").error["code"] == 6
    assert plugin("ADD", bytes(range(256))).error["code"] == 6
    assert plugin("FROB", body()).error["code"] == 4


def test_environment_that_is_not_set(agent: Agent, tmp_path: Path) -> None:
    """A runtime for whom a variable has no value leaves it out."""
    plugin = Plugin(["sh"], tmp_path / "host.sock")
    process = subprocess.run(["sh", str(PLUGIN)], env=plugin.extra, input=body(), capture_output=True, check=False)
    assert (process.returncode, process.stderr) == (1, b"")
    assert json.loads(process.stdout)["code"] == 4


def test_a_huge_configuration(plugin: Plugin, agent: Agent) -> None:
    """More than an argument of a program can be, more than curl sends without asking first; numbers as they are."""
    routes = [{"dst": f"10.{index >> 8 & 255}.{index & 255}.0/24", "table": 2**63 + index} for index in range(50_000)]
    result = {**RESULT, "routes": routes}
    started = time.monotonic()
    done = plugin("ADD", body(prevResult=result))
    assert time.monotonic() - started < 5
    assert len(done.out) > 2_000_000
    assert (done.code, json.loads(done.out)) == (0, result)


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_without_an_agent_every_call_fails_and_says_what_to_do(plugin: Plugin, command: str) -> None:
    error = plugin(command, body()).error
    assert error["code"] == (50 if command == "STATUS" else 11)
    assert "is proxypool-host running?" in error["msg"]
    assert plugin.extra["PROXYPOOL_SOCKET"] in error["msg"]


def test_the_socket_of_an_agent_that_crashed(plugin: Plugin, tmp_path: Path) -> None:
    Agent(tmp_path / "host.sock").close()
    assert (tmp_path / "host.sock").exists()
    assert plugin("DEL", body()).error["code"] == 11


def test_an_agent_that_does_not_accept(tmp_path: Path) -> None:
    """Its queue is full: no answer in ten seconds, or at once the kernel's refusal."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(tmp_path / "host.sock"))
        listener.listen(0)
        first.connect(str(tmp_path / "host.sock"))
        started = time.monotonic()
        assert Plugin(["sh"], tmp_path / "host.sock")("ADD", body()).error["code"] == 11
        assert time.monotonic() - started < 11.5


@pytest.mark.long
def test_an_agent_that_hangs_is_waited_for_ten_seconds(agent: Agent, tmp_path: Path) -> None:
    go_on = threading.Event()

    def hang(headers: Mapping[str, str], data: bytes) -> Answer:
        go_on.wait(30)
        return 200, "application/json", b"too late"

    agent.answer = hang
    started = time.monotonic()
    try:
        error = Plugin(["sh"], tmp_path / "host.sock")("DEL", body()).error
    finally:
        go_on.set()
    assert 9.5 < time.monotonic() - started < 11.5
    assert error["code"] == 11
    assert "did not answer" in error["msg"]


@pytest.mark.parametrize(
    "answer",
    [
        (404, "application/problem+json", b'{"title":"Not Found","status":404}'),
        (500, "text/html", b"<html>"),
        (503, "", b""),
    ],
)
def test_an_answer_that_is_not_for_the_runtime(plugin: Plugin, agent: Agent, answer: Answer) -> None:
    agent.answer = lambda headers, data: answer
    error = plugin("ADD", body()).error
    assert error["code"] == 11
    assert f"HTTP status {answer[0]}" in error["msg"]


@pytest.mark.parametrize("answer", [b"", b"\n", b"a\n\nb\n", b'{"a": "%s \\\\n $x"}', b"200 text/plain"])
def test_an_answer_is_printed_byte_for_byte(plugin: Plugin, agent: Agent, answer: bytes) -> None:
    agent.answer = lambda headers, data: (200, "application/json", answer)
    assert plugin("ADD", body()) == Done(0, answer.decode())


def test_proxies_and_settings_of_the_machine_do_not_matter(plugin: Plugin, agent: Agent, tmp_path: Path) -> None:
    """Container runtimes often run behind a proxy, which they pull images through."""
    (tmp_path / ".curlrc").write_text("--fail-early\n--url http://127.0.0.1:9/\n--include\n")
    proxy = "http://127.0.0.1:9"
    others = {"HOME": str(tmp_path), "http_proxy": proxy, "HTTP_PROXY": proxy, "ALL_PROXY": proxy, "all_proxy": proxy}
    assert plugin("STATUS", body(cniVersion="1.1.0"), None, **others) == Done(0, "")


def test_without_curl_it_says_so(tmp_path: Path) -> None:
    """With a copy, as the plug-in looks in the usual places, too."""
    copy = tmp_path / "proxypool"
    text = PLUGIN.read_text()
    assert "PATH=${PATH:-}:" in text
    copy.write_text(re.sub(r"^PATH=.*$", "PATH=/nowhere", text, flags=re.MULTILINE))
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run([shell, str(copy)], env={"CNI_COMMAND": "DEL"}, input=b"{}", capture_output=True, check=False)
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert (error["code"], "needs curl" in error["msg"]) == (11, True)


def test_an_empty_path_is_no_hindrance(agent: Agent, tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    plugin = Plugin([shell], tmp_path / "host.sock")
    plugin.extra["PATH"] = ""
    assert plugin("STATUS", body(cniVersion="1.1.0")) == Done(0, "")


def test_a_socket_path_that_would_break_the_answer_is_refused(plugin: Plugin) -> None:
    assert plugin("DEL", body(), PROXYPOOL_SOCKET='/run/"x').error["code"] == 4


def test_ctrl_c_ends_it_at_once_and_prints_nothing(plugin: Plugin, agent: Agent) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def hang(headers: Mapping[str, str], data: bytes) -> Answer:
        arrived.set()
        go_on.wait(30)
        return 200, "application/json", b"{}"

    agent.answer = hang
    process = plugin.start(environment("ADD"))
    assert process.stdin is not None
    process.stdin.write(body())
    process.stdin.close()
    process.stdin = None
    assert arrived.wait(10)
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=5)
    finally:
        go_on.set()
    assert (out, err) == (b"", b"")
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)


def test_who_kills_the_plug_in_does_not_wait_for_curl(agent: Agent, tmp_path: Path) -> None:
    """A runtime that gives up kills the program it started, and reads its pipes to the end."""
    arrived, go_on = threading.Event(), threading.Event()

    def hang(headers: Mapping[str, str], data: bytes) -> Answer:
        arrived.set()
        go_on.wait(30)
        return 200, "application/json", b"{}"

    agent.answer = hang
    process = Plugin(["sh"], tmp_path / "host.sock").start(environment("ADD"))
    assert process.stdin is not None
    process.stdin.write(body())
    process.stdin.close()
    process.stdin = None
    assert arrived.wait(10)
    process.kill()
    try:
        assert process.communicate(timeout=2) == (b"", b"")
    finally:
        go_on.set()
