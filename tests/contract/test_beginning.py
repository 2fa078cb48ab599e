"""SYNs without an answer are forgotten in a real connection table, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.adapters.conntrack import Conntrack, TcpState
from proxypool.core.steering import MarkLayout
from proxypool.daemons.beginning import FEW, forget_unanswered
from tests.contract.connections import DESTINATION, TCP, UDP, Entry, make
from tests.contract.netns import own_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

MARKS = MarkLayout(16)
SILENT, ANSWERING = 0x100, 0x101
FOREIGN_BITS = 0x80000001
CUSTOMER = (IPv4Network(f"{DESTINATION}/24", strict=False),)
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
