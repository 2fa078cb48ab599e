"""The provider `command` and programs that do not do as they should."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxypool.core.config import ProviderConfig
from proxypool.providers import command, program, registry
from proxypool.providers.contract import Addresses, Intent, PoolView, Provider, Refused, Unavailable
from tests.contract.provider_platforms import NODES, POOL, SUBNETS

A = NODES[0]
INTENT = Intent(POOL, SUBNETS[0], "p1", "1-s1")
DEADLINE_S = 10.0
Script = Callable[..., Provider]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A provider whose program is these lines of shell."""

    def make(*lines: str, **table: Any) -> Provider:
        path = tmp_path / "program"
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)
        tables = {"command": {"program": [str(path)], **table}}
        return registry.create(ProviderConfig(name="command", tables=tables), PoolView)

    return make


def answer(**document: object) -> str:
    """A line that answers with this."""
    return f"echo '{json.dumps({'version': 1, **document})}'"


def test_the_program_is_told_everything_on_one_line(script: Script, tmp_path: Path) -> None:
    """And the operation as its last argument, for those who dispatch by it."""
    seen = tmp_path / "seen"
    provider = script(f"echo $1 > {seen}; cat >> {seen}", answer(havip="192.168.4.100"))
    provider.acquire_addresses(INTENT, NODES[:2], DEADLINE_S)
    operation, line = seen.read_text().splitlines()
    assert operation == "acquire-addresses"
    request = json.loads(line)
    assert request["version"] == 1
    assert request["operation"] == operation
    assert (request["pool"], request["pair"], request["request"]) == ("test", "p1", "1-s1")
    assert request["subnet"]["id"] == "s1"
    assert request["subnet"]["labels"]["baidu-vpc"] == "vpc-c1"
    assert [node["id"] for node in request["nodes"]] == ["node-a", "node-b"]
    assert request["deadline_s"] == DEADLINE_S


def test_the_program_finds_a_bare_environment(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the controller's own leaks into it."""
    monkeypatch.setenv("SECRET_OF_THE_CONTROLLER", "x")
    seen = tmp_path / "seen"
    script(f"env > {seen}; pwd >> {seen}", answer(), environment={"REGION": "bj"}).release_addresses(INTENT, DEADLINE_S)
    lines = set(seen.read_text().splitlines())
    assert {"REGION=bj", "LANG=C.UTF-8", f"PATH={command.ENVIRONMENT['PATH']}", "/"} <= lines
    assert not any("SECRET" in line for line in lines)


def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    config = command.CommandConfig(program=("/bin/echo", f"$(touch {trap}); touch {trap}"))
    with pytest.raises(Refused):
        command.Command(config).release_addresses(INTENT, DEADLINE_S)
    assert not trap.exists()


def test_an_answer_is_taken_from_a_program_that_does_not_read(script: Script) -> None:
    """It closes its input early, and the request is longer than a pipe holds."""
    provider = script("exec <&-", "sleep 0.1", answer(offers={}))
    many = [type(A)(id=f"node-{number}", underlay=A.underlay) for number in range(2000)]
    assert provider.offers(SUBNETS[0], many, DEADLINE_S) == {}


def test_an_egress_address_may_be_left_out(script: Script) -> None:
    provider = script(answer(havip="192.168.4.100"))
    assert provider.acquire_addresses(INTENT, (A,), DEADLINE_S).egress_address is None
    provider = script(answer(havip="192.168.4.100", egress_address="172.16.101.9", comment="unknown keys are fine"))
    assert str(provider.acquire_addresses(INTENT, (A,), DEADLINE_S).egress_address) == "172.16.101.9"


@pytest.mark.parametrize(
    ("lines", "kind", "problem"),
    [
        (("exit 3",), Unavailable, "ended with exit code 3"),
        (("echo out of order >&2; exit 3",), Unavailable, "exit code 3: out of order"),
        (("kill -SEGV $$",), Unavailable, "ended by signal 11"),
        ((answer(havip="192.168.4.100"), "exit 3"), Unavailable, "exit code 3"),
        (("echo no JSON",), Refused, "did not answer in JSON"),
        (("true",), Refused, "did not answer in JSON"),
        (("echo '{}'",), Refused, "missing required field `version`"),
        (("""echo '{"version": 2}'""",), Refused, "speaks version 2"),
        ((answer(),), Refused, "missing required field `havip`"),
        ((answer(havip="192.168.4"),), Refused, "did not answer as it should"),
        ((answer(havip=5),), Refused, "Expected `str`, got `int`"),
        ((answer(error={"kind": "tired"}),), Refused, "Invalid enum value 'tired'"),
        ((answer(error={"kind": "throttled", "retry_after_s": -1}), "exit 1"), Unavailable, "exit code 1"),
        (("yes | head -c 3000000",), Refused, "wrote more than 1048576 bytes"),
    ],
)
def test_what_a_program_does_wrong_is_told_by_kind(
    lines: tuple[str, ...], kind: type[Exception], problem: str, script: Script
) -> None:
    """Without an answer nobody knows what it did, so it is asked again; a wrong answer stays wrong."""
    with pytest.raises(kind, match=problem):
        script(*lines).acquire_addresses(INTENT, (A,), DEADLINE_S)


def test_an_error_counts_whatever_the_exit_code(script: Script) -> None:
    error = answer(error={"kind": "refused", "message": "not in this region"})
    for code in (0, 1):
        with pytest.raises(Refused, match="not in this region"):
            script(error, f"exit {code}").release_addresses(INTENT, DEADLINE_S)


def test_a_card_on_another_node_is_refused(script: Script) -> None:
    member = {"node": "node-b", "eni": "eth5", "address": "172.16.101.9/24"}
    with pytest.raises(Refused, match="a card on node-a was wanted, not on node-b"):
        script(answer(member=member)).acquire_card(INTENT, A, DEADLINE_S)


def test_a_program_that_hangs_is_killed_with_all_that_it_started(script: Script, tmp_path: Path) -> None:
    """Also those that ignore being asked, and hold its output open."""
    pid = tmp_path / "pid"
    provider = script("trap '' TERM HUP", f"sleep 300 & echo $! > {pid}", "wait")
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"did not end within 0\.5 s and was killed"):
        provider.acquire_card(INTENT, A, 0.5)
    assert time.monotonic() - began < 3.0
    assert_ends(int(pid.read_text()))


def test_the_configured_time_out_is_the_most(script: Script) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"0\.3 s"):
        script("sleep 300", timeout_s=0.3).acquire_card(INTENT, A, 60.0)
    assert time.monotonic() - began < 3.0


def test_what_a_program_leaves_running_does_not_hold_the_answer_up(script: Script, tmp_path: Path) -> None:
    """A child in the background has its output open; it is killed."""
    pid = tmp_path / "pid"
    provider = script(f"sleep 300 & echo $! > {pid}", answer(havip="192.168.4.100"))
    began = time.monotonic()
    assert isinstance(provider.acquire_addresses(INTENT, (A,), DEADLINE_S), Addresses)
    assert time.monotonic() - began < 3.0
    assert_ends(int(pid.read_text()))


def test_standard_error_is_logged_and_bounded(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """Control characters do not forge lines of the log."""
    lines = ("printf 'about\\033[31m to\\rbegin\\n' >&2", "yes complaint | head -c 500000 >&2", answer())
    with caplog.at_level(logging.INFO, "proxypool.providers.command"):
        script(*lines).release_addresses(INTENT, DEADLINE_S)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "provider command, release-addresses: about [31m to"
    assert len(messages) == command.MAX_LOG_LINES + 1
    assert messages[-1].endswith("more lines")


@pytest.mark.parametrize(
    ("mode", "text", "problem"),
    [
        (0o644, "#!/bin/sh\n", "Permission denied"),
        (0o755, "\x00\x01", "Exec format error"),
        (None, "", "No such file or directory"),
    ],
)
def test_a_program_that_cannot_be_started_is_refused(mode: int | None, text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "program"
    if mode is not None:
        path.write_text(text)
        path.chmod(mode)
    provider = command.Command(command.CommandConfig(program=(str(path),)))
    with pytest.raises(Refused, match=rf"{problem}; see provider\.command\.program"):
        provider.release_addresses(INTENT, DEADLINE_S)


def children() -> list[str]:
    """Of this process, zombies too. Other tests' servers are among them."""
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def test_no_descriptor_and_no_process_is_left(script: Script) -> None:
    provider = script("cat > /dev/null", answer())
    provider.release_addresses(INTENT, DEADLINE_S)
    before = sorted(os.listdir("/proc/self/fd")), children()
    for _ in range(3):
        provider.release_addresses(INTENT, DEADLINE_S)
    assert (sorted(os.listdir("/proc/self/fd")), children()) == before


def test_standard_error_is_kept_up_to_a_limit() -> None:
    """And read beyond it, so that the program does not hang in writing."""
    ended = program.run(("/bin/sh", "-c", "yes | head -c 1000000 >&2; echo done"), b"", {}, DEADLINE_S)
    assert bytes(ended.output) == b"done\n"
    assert len(ended.errors) == program.MAX_ERRORS


def test_output_arrives_whole(tmp_path: Path) -> None:
    """More than a pipe holds, in both directions at once."""
    data = os.urandom(700_000)
    ended = program.run(("/bin/cat",), data, {}, DEADLINE_S)
    assert bytes(ended.output) == data
    assert ended.code == 0


def assert_ends(pid: int) -> None:
    """The process is gone, or waits to be collected by whoever is its parent now."""
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")
