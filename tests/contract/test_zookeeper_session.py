"""One session: found, lost, resumed, left. Against a real server."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from proxypool.adapters.zookeeper import PoolSession, ZooKeeperUnreachable
from proxypool.adapters.zookeeper.handler import PoolHandler
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.errors import InvalidInput, TransientError
from proxypool.core.role import Coordinator
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, ZooKeeperServer, free_port, pool_request, wait_until

CONNECTED, SUSPENDED, LOST = Coordinator.CONNECTED, Coordinator.SUSPENDED, Coordinator.LOST


def test_a_daemon_that_starts_before_zookeeper_connects_when_it_comes(
    own_server: ZooKeeperServer, clients: list[PoolClient]
) -> None:
    """Absent at start: lost after the session timeout, connected and loaded soon after the server is there."""
    own_server.stop()
    client = PoolClient(own_server, "p", timeout_s=1.0)
    clients.append(client)
    client.start(connect=False)
    assert client.session.state is SUSPENDED
    assert client.session.last_seen is None
    wait_until(lambda: client.session.state is LOST, "lost")
    own_server.start()
    wait_until(lambda: client.session.state is CONNECTED, "connected")
    wait_until(client.mirror.loaded.is_set, "loaded, though there is no pool yet")
    assert client.states == [LOST, CONNECTED]
    client.store.apply(pool_request())
    wait_until(lambda: "s1" in client.mirror.snapshot.subnets, "a pool that was made later is seen")


def test_the_command_line_is_told_soon_that_nobody_answers() -> None:
    """`connect` has a deadline, and its error says where it looked."""
    port = free_port()
    session = PoolSession(ZooKeeperConfig(hosts=(f"127.0.0.1:{port}",)), "p")
    with pytest.raises(ZooKeeperUnreachable, match=rf"127\.0\.0\.1:{port}"):
        session.connect(0.3)
    session.stop(close_session=False)


def test_a_server_name_that_does_not_resolve_is_tried_again(
    shared_server: ZooKeeperServer, clients: list[PoolClient]
) -> None:
    """An unknown host beside a good one does no harm; alone it is unreachable, not a crash."""
    hosts = ("no-such-host.invalid:2181", shared_server.address)
    session = PoolSession(ZooKeeperConfig(hosts=hosts), "p")
    session.connect(10)
    session.stop(close_session=True)
    alone = PoolSession(ZooKeeperConfig(hosts=hosts[:1]), "p")
    with pytest.raises(ZooKeeperUnreachable):
        alone.connect(0.5)
    alone.stop(close_session=False)


def test_a_server_name_that_cannot_be_one_is_refused() -> None:
    """The idna codec raises in kazoo's thread otherwise."""
    with pytest.raises(InvalidInput, match=r"a\.\.b"):
        PoolSession(ZooKeeperConfig(hosts=("a..b:2181",)), "p")


def test_a_silent_server_suspends_then_loses_and_the_session_comes_back(
    own_server: ZooKeeperServer, clients: list[PoolClient]
) -> None:
    """A paused server: kazoo alone would never say LOST."""
    client = PoolClient(own_server, "p", timeout_s=1.0)
    clients.append(client)
    client.start()
    own_server.pause()
    wait_until(lambda: client.states[-1] is LOST, "lost while nobody answers")
    assert client.states == [CONNECTED, SUSPENDED, LOST]
    with pytest.raises(TransientError):
        client.store.read_snapshot()
    own_server.resume()
    wait_until(lambda: client.states[-1] is CONNECTED, "connected again")


def test_a_short_outage_keeps_the_session(own_server: ZooKeeperServer, clients: list[PoolClient]) -> None:
    """Killed and restarted within the session timeout: suspended, then connected, ephemerals untouched."""
    client = PoolClient(own_server, "p", timeout_s=20.0)
    clients.append(client)
    client.start()
    client.store.apply(pool_request())
    client.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: client.elected() == "node-a", "elected")
    number, before = client.session.session_id, client.mirror.snapshot
    own_server.stop()
    wait_until(lambda: client.session.state is SUSPENDED, "suspended")
    assert client.mirror.snapshot == before, "the last snapshot stays"
    own_server.start()
    # A server that has just begun to listen may leave a connect request unanswered: half the session until the next try.
    wait_until(lambda: client.session.state is CONNECTED, "connected", 15.0)
    wait_until(lambda: client.presence.is_settled, "settled")
    assert client.session.session_id == number
    assert client.elected() == "node-a"
    client.store.apply(pool_request(2))
    wait_until(lambda: "s2" in client.mirror.snapshot.subnets, "watches work after a reconnect")
    assert client.mirror.snapshot.elections["s1/p1"] == before.elections["s1/p1"], "same candidate, same epoch"


def test_a_server_that_swallows_packets_does_not_cost_the_session(
    shared_server: ZooKeeperServer, clients: list[PoolClient]
) -> None:
    """One of two servers was powered off: a connect to it gets no answer at all, as with a full backlog."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        hosts = (f"127.0.0.1:{hole.getsockname()[1]}", shared_server.address)
        for _ in range(4):  # kazoo tries the servers in a random order
            session = PoolSession(ZooKeeperConfig(hosts=hosts, session_timeout_s=4), "p")
            began = time.monotonic()
            session.connect(10)
            assert time.monotonic() - began < 2.5
            session.stop(close_session=True)
        for filler in fillers:
            filler.close()


def test_a_server_that_accepts_and_says_nothing_does_not_cost_the_session(shared_server: ZooKeeperServer) -> None:
    """It listens already, or still, but does not serve."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(16)
        hosts = (f"127.0.0.1:{mute.getsockname()[1]}", shared_server.address)
        for _ in range(4):  # kazoo tries the servers in a random order
            session = PoolSession(ZooKeeperConfig(hosts=hosts, session_timeout_s=12), "p")
            began = time.monotonic()
            session.connect(10)
            assert time.monotonic() - began < 5.0, "a third of the session, not half of it"
            session.stop(close_session=True)


def test_a_callback_that_fails_does_not_end_the_session(
    own_server: ZooKeeperServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The next change is told all the same."""
    told: list[Coordinator] = []

    def fail(state: Coordinator) -> None:
        told.append(state)
        raise RuntimeError("deliberate")

    session = PoolSession(ZooKeeperConfig(hosts=(own_server.address,), session_timeout_s=1), "p", on_state=fail)
    session.connect(10)
    own_server.pause()
    wait_until(lambda: told == [CONNECTED, SUSPENDED, LOST], "told of every state")
    assert "deliberate" in caplog.text
    own_server.resume()
    session.stop(close_session=False)


def test_a_thread_of_the_client_that_ends_by_an_error_is_replaced(
    shared_server: ZooKeeperServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With all of the client, and told of in the log; nothing reaches whoever ends the process for a thread's end."""
    told: list[Coordinator] = []
    session = PoolSession(
        ZooKeeperConfig(hosts=(shared_server.address,), session_timeout_s=2), "p", on_state=told.append
    )
    session.connect(10)
    real, wrong = PoolHandler.select, iter([ValueError("deliberate")])

    def select(self: PoolHandler, *arguments: Any) -> object:
        for error in wrong:
            raise error
        return real(self, *arguments)

    monkeypatch.setattr(PoolHandler, "select", select)
    wait_until(lambda: told == [CONNECTED, LOST, CONNECTED], "another connection")
    assert "a thread of the ZooKeeper client has ended" in caplog.text
    session.stop(close_session=True)


def test_a_server_that_is_killed_again_and_again_leaves_no_doubles(
    own_server: ZooKeeperServer, clients: list[PoolClient]
) -> None:
    """A create whose answer was lost may have happened: after the storm each member stands exactly once."""
    client = PoolClient(own_server, "p", timeout_s=30.0)
    clients.append(client)
    client.start()
    client.store.apply(pool_request(20))
    names = [f"s{number}/p1" for number in range(1, 21)]
    for turn in range(2):
        for name in names:
            subnet = name.partition("/")[0]
            client.presence.contend(subnet, "p1", f"node-{turn % 2}")
            client.presence.withdraw(subnet, "p1", f"node-{(turn + 1) % 2}")
            client.presence.want(f"subnets/{subnet}/hosts/h{turn}", str(turn).encode())
        time.sleep(random.uniform(0, 0.02))  # the moment is the point: anywhere in the work that was just asked for
        own_server.stop()
        own_server.start()
    wait_until(lambda: client.session.state is CONNECTED, "connected", 20)
    wait_until(lambda: client.presence.is_settled, "settled", 20)
    wait_until(lambda: all(client.nodes_of(name) == ["node-1"] for name in names), "each stands once", 20)
    assert all(hosts == {"h0", "h1"} for hosts in client.store.read_snapshot().subnet_hosts.values())


def test_last_seen_follows_the_pings_of_an_idle_session(connect: Connect) -> None:
    """No call is made, and yet we know that the server is there."""
    client = connect(timeout_s=2.0)
    wait_until(client.mirror.loaded.is_set, "loaded")
    seen = client.session.last_seen
    assert seen is not None
    wait_until(lambda: (client.session.last_seen or 0) > seen + 0.2, "a ping was answered")


def test_a_restarted_daemon_resumes_its_session(connect: Connect, operator: PoolClient, tmp_path: Path) -> None:
    """Same session file: the ephemeral nodes, the place in the queue and the epoch stay as they were."""
    file = tmp_path / "run" / "session"
    first = connect(session_file=file, identity="node-a")
    first.presence.contend("s1", "p1", "node-a")
    first.presence.want("nodes/node-a/alive-test", b"x")
    operator.make("nodes/node-a")
    other = connect()
    wait_until(lambda: operator.elected() == "node-a", "elected")
    other.presence.contend("s1", "p1", "node-b")
    wait_until(lambda: operator.nodes_of() == ["node-a", "node-b"], "both stand")
    wait_until(lambda: first.presence.is_settled, "settled")
    number, before = first.session.session_id, operator.mirror.snapshot.elections
    changes = len(operator.snapshots)
    first.end(close_session=False)

    second = connect(session_file=file, identity="node-a")
    second.presence.contend("s1", "p1", "node-a")
    second.presence.want("nodes/node-a/alive-test", b"x")
    wait_until(lambda: second.presence.is_settled, "settled")
    assert second.session.session_id == number
    assert operator.mirror.snapshot.elections == before
    assert len(operator.snapshots) == changes, "nobody noticed the restart"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_session_file_is_removed_with_the_session(connect: Connect, tmp_path: Path) -> None:
    """A closed session cannot be resumed."""
    client = connect(session_file=tmp_path / "session")
    wait_until((tmp_path / "session").exists, "saved")
    client.end(close_session=True)
    assert not (tmp_path / "session").exists()
    assert list(tmp_path.iterdir()) == [], "no temporary file stays"


def test_an_expired_session_is_replaced_and_the_member_stands_again(
    connect: Connect, operator: PoolClient, tmp_path: Path
) -> None:
    """The daemon was down for longer than the session timeout: the server refuses the old session."""
    file = tmp_path / "session"
    first = connect(session_file=file, timeout_s=1.0)
    first.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: operator.elected() == "node-a", "elected")
    epoch = operator.mirror.snapshot.elections["s1/p1"][0].epoch
    number = first.session.session_id
    first.end(close_session=False)
    wait_until(lambda: operator.elected() is None, "the server ended the session")

    second = connect(session_file=file, timeout_s=1.0)
    second.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: operator.elected() == "node-a", "stands again")
    assert second.session.session_id != number
    assert json.loads(file.read_bytes())["session"] == second.session.session_id
    assert operator.mirror.snapshot.elections["s1/p1"][0].epoch > epoch


@pytest.mark.parametrize("content", [b"", b"{", b'{"pool":"p","identity":"","session":1,"password":"xyz"}', b"[1]"])
def test_a_damaged_session_file_costs_the_session_only(
    connect: Connect, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A new session is made, and the file written anew."""
    file = tmp_path / "session"
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        client = connect(session_file=file)
    assert "cannot read the saved ZooKeeper session" in caplog.text
    wait_until(lambda: json.loads(file.read_bytes())["session"] == client.session.session_id, "saved anew")


def test_a_password_that_is_wrong_means_a_new_session(connect: Connect, pool: str, tmp_path: Path) -> None:
    """The server refuses it as if it had expired."""
    file = tmp_path / "session"
    first = connect(session_file=file)
    first.end(close_session=False)
    saved = json.loads(file.read_bytes())
    file.write_text(json.dumps({**saved, "password": "00" * 16}))
    second = connect(session_file=file)
    assert second.session.session_id != first.session.session_id


def test_a_session_of_another_name_is_not_resumed(connect: Connect, tmp_path: Path) -> None:
    """Its ephemeral nodes say the old name; they must go with it."""
    file = tmp_path / "session"
    first = connect(session_file=file, identity="node-a")
    first.end(close_session=False)
    second = connect(session_file=file, identity="node-x")
    assert second.session.session_id != first.session.session_id


def test_ctrl_c_is_never_taken_for_a_lost_connection(operator: PoolClient) -> None:
    """At any moment of a request. kazoo's own client loses one in sixteen, and the caller asks again."""

    def interrupted_once() -> None:
        interrupt = threading.Timer(random.random() * 0.002, os.kill, (os.getpid(), signal.SIGINT))
        interrupt.start()
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            operator.exists("subnets")

    for _ in range(200):
        with pytest.raises(KeyboardInterrupt):
            interrupted_once()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert operator.exists("subnets")
