"""What a node reads of its kernel for the controller: a real kernel, in namespaces of the test's own."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from proxypool.adapters import netlink
from proxypool.adapters.conntrack import Conntrack
from proxypool.adapters.counters import NamespaceCounters, link_bytes_per_s
from proxypool.core.addressing import namespace_of
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.messages import Message, PortsCounted
from proxypool.daemons.port_sampling import PortSampling
from proxypool.daemons.table_reader import TableReader
from tests.contract.connections import TCP, Entry, make
from tests.contract.netns import enter_new_namespace, own_namespace, run
from tests.contract.timing import best_ms

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

CLIENT, SERVER = "100.64.0.1", "172.16.101.4"
TUNNEL, ENI = "ppt0", "eni0"
MASQUERADE = ("-s", "100.64.0.0/10", "-o", ENI, "-j", "MASQUERADE", "--random-fully")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_namespace():
        yield


def nat(*words: str) -> None:
    run("iptables-legacy", "-w", "-t", "nat", *words)


def like_a_subnet() -> None:
    """A card and a tunnel, and connections from one to the other that get the card's address."""
    for device, address in ((ENI, "172.16.101.11/24"), (TUNNEL, f"{CLIENT}/10")):
        run("ip", "link", "add", device, "type", "veth", "peer", "name", f"{device}far")
        run("ip", "address", "add", address, "dev", device)
        run("ip", "link", "set", device, "up")
        run("ip", "link", "set", f"{device}far", "up")
    run("ip", "neigh", "add", SERVER, "lladdr", "02:00:00:00:00:01", "dev", ENI, "nud", "permanent")
    nat("-A", "POSTROUTING", *MASQUERADE)


def ask(count: int, port: int = 53) -> None:
    """So many connections to the server: each has a port of its own, and sends twice.

    All are open at once: a port that is given back may be given to the next, which then is no new connection.
    """
    with ExitStack() as opened:
        links = [opened.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(count)]
        for link in links:
            link.bind((CLIENT, 0))
        for link in links:
            link.sendto(b"?", (SERVER, port))
            link.sendto(b"?", (SERVER, port))


@pytest.fixture
def counters() -> Iterator[NamespaceCounters]:
    like_a_subnet()
    opened = NamespaceCounters(TUNNEL, ENI)
    yield opened
    opened.close()


def test_connections_are_counted_once(counters: NamespaceCounters) -> None:
    """Each new one, not each packet."""
    assert counters.read(is_master=True).new_connections == 0
    ask(7)
    seen = counters.read(is_master=True)
    assert seen.new_connections == 7
    assert seen.conntrack == 7
    assert seen.eni is not None
    assert seen.eni.tx_packets >= 14


def test_without_the_rule_nobody_knows_how_many_connections_began(counters: NamespaceCounters) -> None:
    """Not zero; and it begins anew with a new rule."""
    ask(3)
    nat("-D", "POSTROUTING", *MASQUERADE)
    assert counters.read(is_master=True).new_connections is None
    nat("-A", "POSTROUTING", *MASQUERADE)
    assert counters.read(is_master=True).new_connections == 0


def test_the_columns_for_new_connections_stay_zero(counters: NamespaceCounters) -> None:
    """Why they are not what is read. Should a kernel count there again, this is the place to take it from."""
    ask(5)
    text = Path("/proc/thread-self/net/stat/nf_conntrack").read_text()
    names, *rows = (line.split() for line in text.splitlines())
    assert {sum(int(row[names.index(name)], 16) for row in rows) for name in ("new", "insert")} == {0}


def test_a_device_that_is_not_there_has_no_numbers(counters: NamespaceCounters) -> None:
    run("ip", "link", "del", TUNNEL)
    seen = counters.read(is_master=True)
    assert seen.tunnel is None
    assert seen.eni is not None


def test_of_a_backup_less_is_read(counters: NamespaceCounters) -> None:
    """What nobody needs of it costs as much as all the rest."""
    seen = counters.read(is_master=False)
    assert (seen.new_connections, seen.drops) == (None, None)
    assert seen.conntrack == 0
    assert seen.tunnel is not None


def test_a_reader_speaks_of_its_own_namespace(counters: NamespaceCounters) -> None:
    """From whichever thread, wherever that is."""
    ask(2)
    found = []

    def read_elsewhere() -> None:
        enter_new_namespace()
        found.append(counters.read(is_master=True))

    thread = threading.Thread(target=read_elsewhere)
    thread.start()
    thread.join()
    assert found[0].eni is not None
    assert (found[0].conntrack, found[0].new_connections) == (2, 2)


def test_an_entry_that_is_there_already_is_counted(counters: NamespaceCounters) -> None:
    """Two connections that must have the same port: the second one's packet is dropped, and shows."""
    drops = counters.read(is_master=True).drops
    assert drops is not None
    assert (drops.table_full, drops.early, drops.insert_failed) == (0, 0, 0)
    nat("-F", "POSTROUTING")
    nat("-A", "POSTROUTING", "-p", "udp", "-o", ENI, "-j", "SNAT", "--to-source", "172.16.101.11:5000")
    ask(1)
    with pytest.raises(PermissionError):
        ask(1)
    after = counters.read(is_master=True)
    assert after.drops is not None
    assert after.drops.insert_failed == 1
    assert after.conntrack == 1


def test_the_speed_of_a_link(counters: NamespaceCounters) -> None:
    """As the driver says; a kind of device that has none says nothing."""
    assert counters.read(is_master=True).eni_bytes_per_s == link_bytes_per_s(ENI) == 10e9 / 8, (
        "what veth says, whatever is true"
    )
    assert link_bytes_per_s("nobody") is None
    assert link_bytes_per_s("lo") is None


class TestPorts:
    def test_those_toward_the_busiest_destination(self, counters: NamespaceCounters) -> None:
        """Address, protocol and port; what keeps its own source takes none of them."""
        ask(5, port=53)
        ask(8, port=443)
        make([Entry(IPv4Address("10.244.0.1"), TCP, port=number) for number in range(1000, 1020)])
        table = Conntrack()
        assert table.busiest_ports() == 8
        assert table.count(0, 0) == 33, "the socket is free for the next question"
        table.close()

    def test_none_of_an_empty_table(self) -> None:
        table = Conntrack()
        assert table.busiest_ports() == 0
        table.close()

    def test_other_entries_among_them(self, counters: NamespaceCounters) -> None:
        """ICMP has no ports, and is laid out in another way."""
        ask(3)
        subprocess.run(["ping", "-c1", "-W1", "-I", CLIENT, SERVER], check=False, capture_output=True)
        table = Conntrack()
        assert table.count(0, 0) == 4
        assert table.busiest_ports() == 3
        table.close()


def test_tables_are_read_on_a_thread_of_their_own() -> None:
    """In the subnet's namespace, which nothing holds afterwards; one that is not there is told, not waited for."""
    subnet, inbox = f"signals{os.getpid()}", queue.SimpleQueue[Message]()
    dataplane = Dataplane(on_result=inbox.put)
    dataplane.start()
    tables = TableReader(dataplane, inbox.put)
    sampling = PortSampling({}, tables)
    netlink.create_namespace(netlink.Home(), namespace_of(subnet))
    try:
        with netlink.Home().inside(namespace_of(subnet)):
            make(
                [Entry(IPv4Address("10.0.0.0") + number, TCP, port=2000 + number, is_nated=True) for number in range(9)]
            )
        sampling._ask(subnet, 1.0)
        counted = inbox.get(timeout=10)
        assert isinstance(counted, PortsCounted)
        assert (counted.ports, counted.problem) == (9, None)
        assert 0 < counted.cpu_s < 0.1
        assert counted.at <= time.monotonic()
    finally:
        netlink.remove_namespace(namespace_of(subnet))
    sampling._ask(subnet, 2.0)
    missing = inbox.get(timeout=10)
    assert isinstance(missing, PortsCounted)
    assert missing.ports is None
    assert missing.problem
    tables.stop()
    dataplane.stop()


@pytest.mark.timed
class TestCost:
    """Upper bounds with room for a busy machine; what was measured is in docs/scaling.md."""

    def test_a_look_at_the_counters(self, counters: NamespaceCounters) -> None:
        master = best_ms(lambda: counters.read(is_master=True), 200)
        backup = best_ms(lambda: counters.read(is_master=False), 200)
        assert backup < master < 0.3

    def test_the_ports_of_many(self, counters: NamespaceCounters) -> None:
        start = IPv4Address("10.0.0.0")
        make([Entry(start + number, TCP, port=1024 + number, is_nated=True) for number in range(50_000)])
        table = Conntrack()
        took_ms = best_ms(table.busiest_ports, 3)
        assert table.busiest_ports() == 50_000
        table.close()
        assert took_ms < 1000
