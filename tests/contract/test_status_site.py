"""The status page of daemons: what it is made of, who may see it, and a port that somebody else has."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool.adapters.zookeeper import PoolHistory, member_status_suffix
from proxypool.core.config import WebConfig
from proxypool.core.documents import encode
from proxypool.core.errors import TransientError
from proxypool.core.history import Record
from proxypool.core.model import Alive, MemberStatus, NodeSpec
from proxypool.core.role import Coordinator
from proxypool.daemons.doors import token_of
from proxypool.daemons.on_demand import OnDemand
from proxypool.daemons.port import RETRY_S
from proxypool.daemons.problems import Problems
from proxypool.daemons.pulse import Pulse
from proxypool.daemons.shown_node import NodeNow, ShownNode
from proxypool.daemons.shown_pool import ShownPool
from proxypool.daemons.status_site import StatusSite
from proxypool.web.page import Documents
from proxypool.web.site import Sight
from tests.contract.conftest import Connect
from tests.contract.controllers import Controller
from tests.contract.test_http_port import free_port
from tests.contract.zk import PoolClient, ZooKeeperServer, pool_request, wait_until
from tests.unit.builders import host

TOKEN = "a token that is long enough"  # noqa: S105 - nobody's
ADDRESS = host().underlay


def fetch(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - http
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def document(port: int, name: str) -> Any:
    status, body = fetch(port, f"/api/v1/{name}")
    assert status == 200, body
    return json.loads(body)


# ---- the token -------------------------------------------------------------------------------------------------------


def token_file(folder: Path, text: str = f"{TOKEN}\n", mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    assert token_of(str(token_file(tmp_path))) == TOKEN
    assert token_of(str(token_file(tmp_path, mode=0o640))) == TOKEN, "a group may be let in"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o601, 0o777])
def test_a_token_that_others_can_read_or_change_is_none(tmp_path: Path, mode: int) -> None:
    with pytest.raises(TransientError, match=r"can be read or written by others .*chmod 600"):
        token_of(str(token_file(tmp_path, mode=mode)))


@pytest.mark.root
def test_a_token_that_another_user_owns_is_none(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    os.chown(path, 65534, 65534)
    with pytest.raises(TransientError, match="owner 65534"):
        token_of(str(path))


@pytest.mark.parametrize(("text", "words"), [("", "0 characters"), ("short", "5 characters")])
def test_a_token_that_can_be_guessed_is_none(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TransientError, match=words):
        token_of(str(token_file(tmp_path, text)))


def test_a_token_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"cannot read the secret in .*No such file"):
        token_of(str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 20)
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(TransientError, match="it is no text"):
        token_of(str(tmp_path / "binary"))


# ---- read while somebody looks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading(read: Any) -> Iterator[OnDemand[Any]]:
    found = OnDemand[Any]("a test", read)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def test_nothing_is_read_while_nobody_asks_and_once_for_all_who_do() -> None:
    reads: list[float] = []
    with reading(lambda: reads.append(time.monotonic())) as found:
        assert reads == []
        threads = [threading.Thread(target=found.latest) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(reads) == 1
        for _ in range(1000):
            found.latest()
        assert len(reads) <= 2


def test_what_cannot_be_read_keeps_what_was_and_says_why() -> None:
    answers = iter(["first"])

    def read() -> str:
        for answer in answers:
            return answer
        raise TransientError("ZooKeeper does not answer.")

    with reading(read) as found:
        last, problem = found.latest()
        assert last is not None
        assert (last.value, problem) == ("first", "")
        wait_until(lambda: found.latest()[1] == "ZooKeeper does not answer.", "the second read fails")
        assert found.latest()[0] is last


def test_a_read_that_hangs_holds_up_those_who_ask_for_a_moment_only() -> None:
    may_end = threading.Event()
    with reading(lambda: may_end.wait(20)) as found:
        began = time.monotonic()
        assert found.latest() == (None, "")
        assert time.monotonic() - began < 3.0
        may_end.set()


def test_a_defect_in_reading_is_told_and_not_the_end() -> None:
    with reading(lambda: 1 / 0) as found:
        wait_until(lambda: found.latest()[1] == "a defect: ZeroDivisionError", "it is told")
        assert found.latest()[0] is None


def test_a_loop_that_does_not_come_by_hangs() -> None:
    pulse = Pulse(dead_after_s=100.0)
    assert pulse.is_alive()
    pulse.beat(time.monotonic() - 99.0)
    assert pulse.is_alive()
    pulse.beat(time.monotonic() - 101.0)
    assert not pulse.is_alive()


# ---- a controller's --------------------------------------------------------------------------------------------------


def publish(client: PoolClient, node: str, role: str) -> None:
    """As a node daemon does."""
    alive = Alive(underlay=ADDRESS, since=1.0, at=time.time(), version="0.1.0")
    status = MemberStatus(
        node=node, role=role, vrrp=role, gate=role == "master", has_havip=role == "master", at=time.time(), conntrack=7
    )
    client.registry.register_node(NodeSpec(id=node, underlay=ADDRESS, metrics=f"{ADDRESS}:9477"), alive)
    client.presence.want(member_status_suffix("s1", "p1", node), encode(status))


@pytest.fixture
def members(operator: PoolClient, connect: Connect) -> PoolClient:
    """Two nodes that serve s1/p1."""
    other = connect()
    publish(operator, "node-a", "master")
    publish(other, "node-b", "backup")
    return operator


def shown_by(daemon: ShownPool | ShownNode) -> Sight:
    """What it shows once it knows something."""
    found: list[Sight] = []

    def look() -> bool:
        found[:] = [daemon.sight()]
        return found[0].documents is not None

    wait_until(look, "something is known")
    return found[0]


def told(daemon: ShownPool | ShownNode) -> Documents:
    documents = shown_by(daemon).documents
    assert documents is not None
    return documents


@contextlib.contextmanager
def pool_of(client: PoolClient) -> Iterator[ShownPool]:
    daemon = ShownPool("ctl1", client.session, lambda: client.mirror.snapshot, "0.0.0.0:9479")
    daemon.reading.start()
    try:
        yield daemon
    finally:
        daemon.reading.stop()


def test_a_controller_shows_what_is_in_zookeeper(members: PoolClient) -> None:

    with pool_of(members) as daemon:
        wait_until(lambda: told(daemon).status.subnets[0].pairs[0].members[1].role == "backup", "all have published")
        found = told(daemon)
        (pair,) = found.status.subnets[0].pairs
        assert [(one.node, one.role, one.conntrack) for one in pair.members] == [
            ("node-a", "master", 7),
            ("node-b", "backup", 7),
        ]
        assert found.scaling is not None
        assert [one.id for one in found.scaling.subnets] == ["s1"]
        assert [one.id for one in found.topology.subnets] == ["s1"]
        assert shown_by(daemon).age_s < 5.0


def test_history_is_read_and_brought_up_to_date(members: PoolClient) -> None:

    log = PoolHistory(members.session)
    record = Record(kind="failover", reason="silent", subnet="s1", pair="p1", to_node="node-a", at=time.time(), epoch=1)
    old = Record(kind="failover", reason="silent", subnet="s1", pair="p1", to_node="node-b", at=time.time() - 900)
    log.write([record, old])
    with pool_of(members) as daemon:
        assert [one.to_node for one in told(daemon).history.items] == ["node-b", "node-a"]
        log.write(
            [Record(kind="failover", reason="silent", subnet="s1", pair="p1", to_node="node-a", at=record.at, epoch=2)]
        )
        wait_until(lambda: told(daemon).history.items[-1].epoch == 2, "the election's confirmation is seen")
        assert len(told(daemon).history.items) == 2


def test_prometheus_is_told_of_all_who_registered_and_of_the_controller_as_it_was_reached(members: PoolClient) -> None:
    daemon = ShownPool("ctl1", members.session, lambda: members.mirror.snapshot, "0.0.0.0:9479")
    wait_until(lambda: len(members.mirror.snapshot.nodes) == 2, "both have registered")
    found = {group["labels"]["node"]: group["targets"] for group in daemon.targets("ctl1.example") or []}
    assert found == {
        "node-a": [f"{ADDRESS}:9477"],
        "node-b": [f"{ADDRESS}:9477"],
        "ctl1": ["ctl1.example:9479"],
    }
    assert ShownPool("ctl1", members.session, lambda: None, "127.0.0.1:9479").targets("x") is None


def test_without_zookeeper_a_controller_shows_what_it_knew_and_says_so(
    own_server: ZooKeeperServer, clients: list[PoolClient]
) -> None:
    client = PoolClient(own_server, "p", timeout_s=2.0)
    clients.append(client)
    client.start()

    client.store.apply(pool_request())
    with pool_of(client) as daemon:
        first = told(daemon)
        assert daemon.unready() == ""
        own_server.stop()
        wait_until(lambda: client.session.state is not Coordinator.CONNECTED, "it is noticed")
        wait_until(lambda: "ZooKeeper does not answer" in daemon.sight().problem, "it is said")
        assert daemon.sight().documents is not None
        assert [one.id for one in first.status.subnets] == ["s1"]
        assert daemon.unready() == "not connected to ZooKeeper"


# ---- a node's --------------------------------------------------------------------------------------------------------


def test_a_node_shows_itself_now_and_the_other_as_it_said_last(members: PoolClient) -> None:
    own = MemberStatus(node="node-a", role="fault", vrrp="backup", gate=False, has_havip=False, at=time.time())
    wait_until(lambda: members.mirror.snapshot.pairs, "the pool is read")

    def now() -> NodeNow:
        snapshot = members.mirror.snapshot
        pairs = snapshot.pairs_on("node-a")
        return NodeNow(snapshot=snapshot, own=[(pairs[0], own)], alive=Alive(underlay=ADDRESS, problems=("a problem",)))

    daemon = ShownNode("node-a", members.session, now, lambda: "")
    assert [one.role for one in told(daemon).status.subnets[0].pairs[0].members] == ["fault", None], (
        "nothing is read yet"
    )
    daemon.reading.start()
    try:
        wait_until(
            lambda: [one.role for one in told(daemon).status.subnets[0].pairs[0].members] == ["fault", "backup"],
            "the other's word is read",
        )
        assert told(daemon).scaling is None
        assert any(check.message == "node-a: a problem" for check in told(daemon).status.checks)
    finally:
        daemon.reading.stop()


def test_a_node_that_knows_no_pool_says_so() -> None:
    class Session:
        state = Coordinator.SUSPENDED
        timeout_s = 4.0

        class layout:  # noqa: N801 - stands for a value
            pool = "p"

            @staticmethod
            def path(suffix: str) -> str:
                return suffix

    daemon = ShownNode("node-a", Session(), lambda: None, lambda: "not yet")  # type: ignore[arg-type]  # what it asks of it
    daemon.reading.start()
    try:
        assert daemon.sight().documents is None
        assert "ZooKeeper does not answer" in daemon.sight().problem
        assert (daemon.unready(), daemon.targets("x")) == ("not yet", None)
    finally:
        daemon.reading.stop()


# ---- the port --------------------------------------------------------------------------------------------------------


def site_on(port: int, client: PoolClient, problems: Problems, **config: str) -> StatusSite:
    daemon = ShownPool("ctl1", client.session, lambda: client.mirror.snapshot, "127.0.0.1:9479")
    web = WebConfig(**config)
    return StatusSite(daemon, "controller", "ctl1", "p", web, f"127.0.0.1:{port}", problems)


def test_a_port_in_use_is_a_problem_until_it_is_free(operator: PoolClient) -> None:
    port, problems = free_port(), Problems()
    site, began = site_on(port, operator, problems), time.monotonic()
    with socket.create_server(("127.0.0.1", port)):
        site.look(began)
        assert list(problems) == [f"cannot serve the status page on 127.0.0.1:{port}: Address already in use"]
    site.look(began + RETRY_S / 2)
    assert "web" in problems, "it is not tried all the time"
    site.look(began + RETRY_S)
    try:
        assert list(problems) == []
        assert fetch(port, "/healthz") == (200, b"ok\n")
    finally:
        site.close()


def test_a_token_is_asked_for_and_one_that_cannot_be_used_opens_no_port(operator: PoolClient, tmp_path: Path) -> None:
    port, problems = free_port(), Problems()
    path = token_file(tmp_path, mode=0o644)
    site, began = site_on(port, operator, problems, token_file=str(path)), time.monotonic()
    site.look(began)
    assert "can be read or written by others" in next(iter(problems))
    with pytest.raises(urllib.error.URLError):
        fetch(port, "/healthz")
    path.chmod(0o600)
    site.look(began + RETRY_S)
    try:
        assert fetch(port, "/api/v1/status")[0] == 401
        assert fetch(port, "/api/v1/status", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert fetch(port, "/healthz")[0] == 200
    finally:
        site.close()


def test_without_an_address_nothing_is_opened(operator: PoolClient) -> None:
    port, problems = free_port(), Problems()
    site = site_on(port, operator, problems, listen="")
    site.look(time.monotonic())
    assert list(problems) == []
    with pytest.raises(urllib.error.URLError):
        fetch(port, "/healthz")
    site.close()


def test_controllers_serve_the_page_whether_they_lead_or_stand_by(
    shared_server: ZooKeeperServer, pool: str, members: PoolClient, tmp_path: Path
) -> None:
    """As processes; the second one's port is in use at first, which ends nothing."""
    ports = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(socket.create_server(("127.0.0.1", ports[1])))
        first, second = (
            Controller(shared_server, pool, tmp_path, f"ctl{at + 1}", free_port(), web=f"127.0.0.1:{ports[at]}")
            for at in range(2)
        )
        stack.callback(second.kill)
        stack.callback(first.kill)
        first.start().wait_to_lead()
        second.start()
        wait_until(lambda: second.said("Address already in use"), "it says so", 20.0)
        wait_until(lambda: fetch(ports[0], "/readyz")[0] == 200, "the leader is ready")
        assert document(ports[0], "status")["kind"] == "PoolStatus"
        groups = document(ports[0], "prometheus/targets")
        assert {group["labels"]["node"] for group in groups} == {"node-a", "node-b", "ctl1"}
        assert b"<h1>" in fetch(ports[0], "/")[1]
        taken.close()
        wait_until(lambda: second.said("web: well again"), "it is open as soon as it can be", 20.0)
        wait_until(lambda: fetch(ports[1], "/readyz")[0] == 200, "the one that stands by is ready, too")
        assert [one["id"] for one in document(ports[1], "status")["subnets"]] == ["s1"]
        assert first.end() == 0
        assert second.end() == 0
