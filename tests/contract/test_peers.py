"""Who may use the agent's socket: the kernel is asked, whatever the socket's mode; and nobody can hold it up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool.adapters.agent import Agent as Client
from proxypool.core.errors import PermanentError
from proxypool.daemons import api_server
from proxypool.daemons.api_server import MAX_STRANGERS, ApiServer
from proxypool.daemons.host_api import HostApi
from proxypool.daemons.peers import Guests, Peer, peer_of
from tests.contract.zk import wait_until
from tests.unit.test_attachments import Agent

NOBODY, STRANGER, DAEMON_GROUP = 65534, 65533, 1
ASK = """
import json, socket, sys
link = socket.socket(socket.AF_UNIX)
link.settimeout(10)
try:
    link.connect(sys.argv[1])
except PermissionError:
    print(json.dumps([0, {}]))
    sys.exit()
link.sendall(b"GET /v1/attachments HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
head, _, body = b"".join(iter(lambda: link.recv(65536), b"")).partition(b"\\r\\n\\r\\n")
print(json.dumps([int(head.split()[1]), json.loads(body)]))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Of a socket, in a directory that everybody gets to."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder / "host.sock"
    shutil.rmtree(folder)


@contextlib.contextmanager
def serving(place: Path, group: str | None = None, users: tuple[str, ...] = ()) -> Iterator[None]:
    agent = Agent(place.parent / "attachments.jsonl")
    server = ApiServer(place, HostApi(agent.all, dict), group, users)
    try:
        yield
    finally:
        server.close()


def ask(place: Path, user: int = 0, group: int = 0, more: tuple[int, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Status and document that a process of this user gets; 0: it does not even get a connection."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", ASK, str(place)],
        user=user,
        group=group,
        extra_groups=list(more),
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    status, document = json.loads(done.stdout)
    return status, document


@pytest.mark.root
@pytest.mark.parametrize(
    ("who", "status"),
    [
        ({}, 200),
        ({"user": NOBODY}, 200),
        ({"user": STRANGER}, 403),
        ({"user": STRANGER, "group": DAEMON_GROUP}, 200),
        ({"user": STRANGER, "group": STRANGER, "more": (7, DAEMON_GROUP)}, 200),
        ({"user": STRANGER, "group": STRANGER, "more": (7,)}, 403),
    ],
    ids=["root", "a user", "a stranger", "the group", "the group among others", "another group"],
)
def test_the_kernel_says_who_asks(place: Path, who: dict[str, Any], status: int) -> None:
    """With users named, everybody can open the socket: what counts is what the kernel says."""
    with serving(place, "daemon", (str(NOBODY),)):
        assert stat.S_IMODE(place.stat().st_mode) == 0o666
        found, document = ask(place, **who)
        assert found == status
        if status == 403:
            assert document["code"] == "forbidden"
            assert f"user {STRANGER} may not use this" in document["detail"]


@pytest.mark.root
def test_a_socket_whose_mode_somebody_opened_is_closed_all_the_same(place: Path) -> None:
    with serving(place):
        assert ask(place, STRANGER, STRANGER)[0] == 0, "the mode keeps them out"
        place.chmod(0o777)
        assert ask(place, STRANGER, STRANGER)[0] == 403
        assert ask(place)[0] == 200


COMMAND = """
import os, sys, typer
from pathlib import Path
from proxypool.adapters.agent import Agent
from proxypool.cli.exits import reported
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    with reported():
        Agent(Path(sys.argv[1])).attachments()
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""
"""Others cannot read everybody's Python: it is all there before it becomes theirs."""


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o600, 0o666], ids=["the mode keeps them out", "the agent does"])
def test_the_command_says_who_may(place: Path, mode: int) -> None:
    """Not that no agent answers; and the exit code is that of access denied."""
    with serving(place):
        place.chmod(mode)
        words = [sys.executable, "-c", COMMAND, str(place), str(STRANGER)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (8, ""), done.stderr
        assert "root may" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.root
def test_strangers_who_say_nothing_hold_up_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many of them: few have a thread, and those not for long."""
    monkeypatch.setattr(api_server, "STRANGER_S", 0.5)
    program = (
        "import socket, sys, time\n"
        "links = [socket.socket(socket.AF_UNIX) for _ in range(100)]\n"
        "[link.connect(sys.argv[1]) for link in links]\n"
        "print('here', flush=True)\n"
        "time.sleep(60)\n"
    )
    with serving(place):
        place.chmod(0o666)
        crowd = subprocess.Popen(
            ["/usr/bin/python3", "-c", program, str(place)],
            user=STRANGER,
            group=STRANGER,
            extra_groups=[],
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == "here\n"
            client = Client(place)
            assert client.attachments() == []
            client.close()
            assert threads() <= MAX_STRANGERS + 2
            wait_until(lambda: threads() == 0, "those who were let in are told to go")
        finally:
            crowd.kill()
            crowd.communicate()


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_of_those_who_may_there_are_so_many_at_most(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that loses its connections does not take all memory; the next one is closed at once."""
    monkeypatch.setattr(api_server, "MAX_GUESTS", 3)
    with serving(place), contextlib.ExitStack() as stack:
        links = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)]
        for link in links:
            link.settimeout(10)
            link.connect(str(place))
        assert links[3].recv(1) == b""
        links[0].close()
        wait_until(lambda: _answers(place), "there is room again")


def _answers(place: Path) -> bool:
    client = Client(place)
    try:
        return client.attachments() == []
    except Exception:  # noqa: BLE001 - there is no room yet
        return False
    finally:
        client.close()


def test_names_that_do_not_exist_are_told(place: Path) -> None:
    with pytest.raises(PermanentError, match="no user 'no-such-user'"):
        Guests.named(("no-such-user",), None)
    assert Guests.named(("root", "12"), None) == Guests(frozenset({0, 12}))


def test_we_ourselves_and_root_are_always_welcome() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        found = peer_of(one)
    assert (found.pid, found.user) == (os.getpid(), os.geteuid())
    assert os.getegid() in found.groups
    assert Guests().welcome(found)
    assert Guests().welcome(Peer(1, 0, frozenset({0})))
    assert not Guests().welcome(Peer(1, STRANGER, frozenset({0})))
