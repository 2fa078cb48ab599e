"""Counting the connections of pairs that drain: real namespaces, the real dataplane thread, no other daemon."""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest

from proxypool.adapters import netlink
from proxypool.adapters.havip_loan import HavipLoan
from proxypool.core.addressing import namespace_of
from proxypool.core.model import PairSpec, PairState
from proxypool.core.node_scene import SubnetScenes
from proxypool.core.role import Role, Timers
from proxypool.daemons.counting import Counting
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.member import COUNT_HOLDS_S, Member
from proxypool.daemons.member_status import status_of
from proxypool.daemons.messages import ConnectionsCounted, Message
from proxypool.daemons.publisher import DRAINING_INTERVAL_S, NUMBERS_INTERVAL_S, Publisher
from proxypool.daemons.table_reader import TableReader
from proxypool.telemetry.failovers import FailoverClock
from tests.contract.connections import TCP, Entry, make
from tests.unit.builders import node_facts, pair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

SUBNET = f"count{os.getpid()}"
DRAINING = pair(subnet=SUBNET, state=PairState.DRAINING, since=1.0)


@dataclass
class Node:
    """A node with one member, as far as counting goes."""

    member: Member
    dataplane: Dataplane
    tables: TableReader
    counting: Counting
    inbox: queue.SimpleQueue[Message] = field(default_factory=queue.SimpleQueue)

    def next_count(self) -> ConnectionsCounted:
        """The next result that reaches the main loop; it is handled."""
        message = self.inbox.get(timeout=10)
        assert isinstance(message, ConnectionsCounted)
        self.counting.counted(message, time.monotonic())
        return message


def new_member(run_dir: Path, spec: PairSpec) -> Member:
    """A master."""
    member = Member(
        node="n1",
        pair=spec,
        timers=Timers(),
        run_dir=run_dir,
        set_contending=lambda _pair, _contend: None,
        clock=FailoverClock("n1", lambda _record: None, time.monotonic, time.time),
        wall=time.time,
        loan=HavipLoan("lo"),
        monotonic=lambda: 0.0,
        scenes=SubnetScenes(node_facts()),
    )
    become(member, Role.MASTER)
    return member


def become(member: Member, role: Role) -> None:
    """As if the machine had said so."""
    member.state = replace(member.state, role=role)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """The node, and a namespace of the subnet with nothing in it."""
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    member = new_member(tmp_path, DRAINING)
    dataplane = Dataplane(on_result=inbox.put)
    dataplane.start()
    tables = TableReader(dataplane, inbox.put)
    counting = Counting({SUBNET: member}, tables)
    home = netlink.Home()
    netlink.create_namespace(home, namespace_of(SUBNET))
    try:
        yield Node(member, dataplane, tables, counting, inbox)
    finally:
        tables.stop()
        dataplane.stop()
        netlink.remove_namespace(namespace_of(SUBNET))


def fill(count: int) -> None:
    """That many connections, and as many that are over."""
    start = IPv4Address("10.244.0.0")
    living = [Entry(start + number, TCP, port=1024 + number, is_nated=True) for number in range(count)]
    over = [Entry(start + number, TCP, port=30_000 + number, is_nated=True, tcp_state=7) for number in range(count)]
    with netlink.Home().inside(namespace_of(SUBNET)):
        make([*living, *over])


def test_a_master_whose_pair_drains_is_counted(node: Node) -> None:
    """Every time it is asked for, in the subnet's namespace; what is over does not count."""
    node.counting.second_passed(1.0)
    assert node.next_count().count == 0
    assert status_of(node.member).connections == 0
    fill(30)
    node.counting.second_passed(2.0)
    assert node.next_count().count == 30
    assert status_of(node.member).connections == 30


@pytest.mark.parametrize(
    ("spec", "role"),
    [
        (pair(subnet=SUBNET), Role.MASTER),
        (DRAINING, Role.BACKUP),
        (DRAINING, Role.FAULT),
    ],
)
def test_nobody_else_is_counted(node: Node, spec: PairSpec, role: Role) -> None:
    """No thread is started for them."""
    node.member.pair = spec
    become(node.member, role)
    node.counting.second_passed(1.0)
    with pytest.raises(queue.Empty):
        node.inbox.get(timeout=0.1)
    assert node.tables.thread is None


def test_counts_do_not_pile_up(node: Node) -> None:
    """While one is under way no other is asked for."""
    for second in range(5):
        node.counting.second_passed(float(second))
    node.next_count()
    with pytest.raises(queue.Empty):
        node.inbox.get(timeout=0.2)


def test_nothing_is_held_of_the_namespace(node: Node) -> None:
    """It could not go, and its tunnel's key would stay taken."""
    node.counting.second_passed(1.0)
    node.next_count()
    before = len(os.listdir("/proc/self/fd"))
    for second in range(2, 7):
        node.counting.second_passed(float(second))
        node.next_count()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_cannot_be_counted_is_not_known(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Said once, not every second; and it goes on when it can be."""
    node.counting.second_passed(1.0)
    node.next_count()
    netlink.remove_namespace(namespace_of(SUBNET))
    with caplog.at_level(logging.WARNING):
        for second in (2.0, 3.0):
            node.counting.second_passed(second)
            assert node.next_count().count is None
    assert status_of(node.member).connections is None
    assert len([record for record in caplog.records if "cannot count" in record.message]) == 1
    netlink.create_namespace(netlink.Home(), namespace_of(SUBNET))
    node.counting.second_passed(4.0)
    assert node.next_count().count == 0


@pytest.mark.timed
def test_counting_many_does_not_stop_the_main_loop(node: Node) -> None:
    """50,000 entries take some 0.1 s, on another thread."""
    fill(25_000)
    started = time.perf_counter()
    node.counting.second_passed(1.0)
    took_s = time.perf_counter() - started
    assert node.next_count().count == 25_000
    assert took_s < 0.02


# ---- what a number is worth ------------------------------------------------------------------------------------------


def test_a_number_expires(tmp_path: Path) -> None:
    """If the thread hangs, the last number must not stand for ever."""
    member = new_member(tmp_path, DRAINING)
    member.saw_connections(5, 100.0)
    member.expire_connections(100.0 + COUNT_HOLDS_S)
    assert member.connections == 5
    member.expire_connections(100.1 + COUNT_HOLDS_S)
    assert member.connections is None


def test_a_number_goes_with_the_role_and_the_drain(tmp_path: Path) -> None:
    """And a result that comes late is not taken."""
    for spec, role in ((pair(subnet=SUBNET), Role.MASTER), (DRAINING, Role.BACKUP)):
        member = new_member(tmp_path, DRAINING)
        member.saw_connections(5, 100.0)
        member.pair = spec
        become(member, role)
        member.expire_connections(100.1)
        assert member.connections is None
        member.saw_connections(5, 100.2)
        assert member.connections is None


class Shown:
    """A presence that remembers how often something was published."""

    def __init__(self) -> None:
        self.published: list[object] = []

    def want(self, _suffix: str, data: bytes) -> None:
        """Published."""
        self.published.append(msgspec.json.decode(data)["connections"])


def test_numbers_of_a_drain_are_published_every_second(tmp_path: Path) -> None:
    """Also when nothing changed: they must be seen to be fresh. That there is one is told at once, and that none is."""
    member, shown = new_member(tmp_path, DRAINING), Shown()
    publisher, members = Publisher("n1", shown), {SUBNET: member}  # type: ignore[arg-type]  # what it needs of one
    publisher.publish_changes(members, 100.0)
    member.saw_connections(5, 100.1)
    publisher.publish_changes(members, 100.1)
    member.saw_connections(5, 100.2)
    publisher.publish_changes(members, 100.2)
    assert shown.published == [None, 5]
    publisher.publish_numbers(members, 100.2)
    publisher.publish_numbers(members, 100.1 + DRAINING_INTERVAL_S)
    publisher.publish_numbers(members, 100.2 + 2 * DRAINING_INTERVAL_S)
    assert shown.published == [None, 5, 5, 5]
    member.pair = pair(subnet=SUBNET)
    member.expire_connections(102.0)
    publisher.publish_changes(members, 102.0)
    publisher.publish_numbers(members, 102.1 + NUMBERS_INTERVAL_S)
    assert shown.published == [None, 5, 5, 5, None], "and then rarely, and only when something changed"
