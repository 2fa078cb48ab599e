"""SYNs without an answer are forgotten in a real connection table, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.attachment_log import AttachmentLog
from proxypool.adapters.conntrack import Conntrack, TcpState
from proxypool.adapters.iptables import tables
from proxypool.core.host_firewall import ATTACHED_SET
from proxypool.core.scene import Scene
from proxypool.core.steering import MarkLayout
from proxypool.daemons.attachments import Attachments
from proxypool.daemons.beginning import FEW, forget_unanswered
from proxypool.daemons.dataplane import Dataplane, Reconciled
from proxypool.daemons.executor import KernelDriver
from proxypool.daemons.steerer import Steerer
from tests.contract.connections import DESTINATION, TCP, UDP, Entry, make
from tests.contract.netns import own_namespace
from tests.unit import builders as build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

MARKS = MarkLayout(16)
SILENT, ANSWERING = 0x100, 0x101
FOREIGN_BITS = 0x80000001
CUSTOMER = (IPv4Network(f"{DESTINATION}/24", strict=False),)
PAIRS = (build.pair(), build.pair("p2", havip="192.168.4.101", vrid=2))
SYN_SENT, ESTABLISHED = TcpState.SYN_SENT.value, TcpState.ESTABLISHED.value


@pytest.fixture
def table() -> Iterator[Conntrack]:
    with own_namespace(), closing(Conntrack()) as opened:
        yield opened


def instance(number: int) -> IPv4Address:
    return IPv4Address("10.244.1.0") + number


def begun(number: int, path: int, port: int = 1000) -> Entry:
    """A connection of the instance with this number that has had no answer."""
    mark = MARKS.of_path(path) | FOREIGN_BITS
    return Entry(instance(number), TCP, mark=mark, tcp_state=SYN_SENT, is_replied=False, port=port)


def left(table: Conntrack) -> set[IPv4Address]:
    return {flow.source for flow in table.flows(0, 0)}


@pytest.mark.parametrize("others", [0, 2 * FEW], ids=["few", "many"])
def test_only_syns_without_an_answer_of_the_path_are_forgotten(table: Conntrack, others: int) -> None:
    """Whoever else's bits are in the mark. Those of an established connection, an answered SYN, a datagram stay."""
    mark = MARKS.of_path(SILENT)
    make(
        [
            begun(1, SILENT),
            begun(2, SILENT, port=1001),
            begun(3, ANSWERING),
            Entry(instance(4), TCP, mark=mark, tcp_state=ESTABLISHED),
            Entry(instance(5), TCP, mark=mark, tcp_state=TcpState.SYN_RECV.value),
            Entry(instance(6), UDP, mark=mark, is_replied=False),
            Entry(instance(7), TCP, tcp_state=SYN_SENT, is_replied=False),
        ]
    )
    paths = {SILENT + 16 * number: CUSTOMER for number in range(others + 1)}
    assert forget_unanswered(table, MARKS, paths) == 2
    assert left(table) == {instance(number) for number in range(3, 8)}


def test_those_to_another_subnet_of_the_path_stay(table: Conntrack) -> None:
    make([begun(1, SILENT)])
    assert forget_unanswered(table, MARKS, {SILENT: (IPv4Network("172.17.0.0/16"),)}) == 0
    assert left(table) == {instance(1)}


A, B = (pair.havip for pair in PAIRS)


class Agent:
    """The part of a host's agent that steers, with the real kernel and nobody to ask."""

    def __init__(self, table: Conntrack, attached: netlink.MarkedSetHandle, log: Path) -> None:
        home, results = netlink.Home(), list[Reconciled]()
        self._results = results
        self._dataplane = Dataplane(results.append, home, KernelDriver(home))
        attachments = Attachments(AttachmentLog(log), MARKS, lambda: None)
        attachments.use(attached)
        nobody = cast("Any", SimpleNamespace(want=lambda *_: None, joined=frozenset({"s1"}), problem=None))
        self.steerer = Steerer(("*",), True, 0.0, self._dataplane, attachments, nobody, nobody, table, lambda: True)
        self.steerer.facts, self.steerer.found = build.host_facts(), Scene(None)
        # None is dead, whatever its HaVip says: what is cut of a dead pair is another matter.
        elections = {"s1/p1": build.candidates("n1"), "s1/p2": build.candidates("n2")}
        self.steerer.snapshot = build.snapshot(spec=build.VXLAN, pairs=PAIRS, elections=elections)
        self.steerer.proven = frozenset({A, B})

    def hear(self, *silent: IPv4Address) -> None:
        """These HaVips do not answer; what follows from it is programmed."""
        self.steerer.silent = frozenset(silent)
        self.steerer.refresh(0.0)
        self._dataplane.work()
        while self._results:
            result = self._results.pop()
            assert result.problems == ()
            self.steerer.reconciled(result)

    def path(self, havip: IPv4Address) -> int:
        """The number of the path through this pair."""
        assert self.steerer.book is not None
        (number,) = (n for n, legs in self.steerer.book.paths.items() if legs[0].havip == havip)
        return number


@pytest.fixture
def agent(table: Conntrack, tmp_path: Path) -> Iterator[Agent]:
    tables._proven.clear()
    with closing(netlink.MarkedSetHandle(ATTACHED_SET, MARKS.mask)) as attached:
        made = Agent(table, attached, tmp_path / "attachments.jsonl")
        made.hear()
        yield made
    tables._proven.clear()


def test_a_pair_that_falls_silent_loses_its_unanswered_syns_once(agent: Agent, table: Conntrack) -> None:
    """Each time it falls silent: what is left afterwards was sent elsewhere, or is no SYN."""
    for _ in range(2):
        make([begun(1, agent.path(A)), begun(2, agent.path(B))])
        agent.hear(A)
        assert left(table) == {instance(2)}
        make([begun(3, agent.path(A))])
        agent.steerer.second_passed(0.0)
        assert left(table) == {instance(2), instance(3)}
        agent.hear()
        table.forget_all()


def test_where_all_pairs_are_silent_none_loses_anything(agent: Agent, table: Conntrack) -> None:
    """The silence is the host's own: what is sent again has nowhere else to go."""
    make([begun(1, agent.path(A)), begun(2, agent.path(B))])
    agent.hear(A, B)
    agent.steerer.second_passed(0.0)
    assert left(table) == {instance(1), instance(2)}
    agent.hear(A)
    assert left(table) == {instance(2)}
