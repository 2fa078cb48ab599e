"""The connection table of a real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from proxypool.adapters import ctnetlink
from proxypool.adapters.conntrack import LIVING_TCP, Conntrack, Flow, TcpState
from tests.contract.connections import DESTINATION, DESTINATION_PORT, TCP, UDP, Entry, make
from tests.contract.netns import own_namespace, run
from tests.contract.timing import best_ms

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

MASK = 0x7FFF0000
ONE = IPv4Address("10.244.1.2")
ICMP, GRE, ESP = 1, 47, 50
LOOPBACK = IPv4Address("127.0.0.1")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_namespace():
        yield


@pytest.fixture
def table() -> Iterator[Conntrack]:
    opened = Conntrack()
    yield opened
    opened.close()


@pytest.fixture
def zones() -> None:
    """Skip where the kernel is built without CONFIG_NF_CONNTRACK_ZONES."""
    entry = ("-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1", "--dport", "2")
    tried = subprocess.run(
        ["conntrack", "-I", *entry, "-t", "9", "--zone", "7"], capture_output=True, text=True, check=False
    )
    if "not supported" in tried.stderr:
        pytest.skip("this kernel has no conntrack zones")
    run("conntrack", "-D", *entry, "--zone", "7")


def several(count: int, mark: int = 0, first: str = "10.244.0.0", protocol: int | None = None) -> list[Entry]:
    """Entries of so many sources, every other one TCP."""
    start = int(IPv4Address(first))
    return [
        Entry(IPv4Address(start + number), protocol or (TCP, UDP)[number % 2], mark=mark) for number in range(count)
    ]


def forwarded(entries: list[Entry]) -> list[Entry]:
    """The same, with the source of their namespace, and a port of that which is free."""
    return [replace(entry, is_nated=True, port=1024 + number) for number, entry in enumerate(entries)]


def everything(table: Conntrack) -> list[Flow]:
    return list(table.flows(0, 0))


def track_loopback() -> None:
    """The kernel tracks connections where a rule needs it."""
    run("iptables-legacy", "-w", "-t", "mangle", "-A", "OUTPUT", "-j", "CONNMARK", "--set-mark", "0x30000/0x7fff0000")


def test_everything_is_forgotten_at_once(table: Conntrack) -> None:
    make(several(50))
    assert len(everything(table)) == 50
    table.forget_all()
    assert everything(table) == []
    table.forget_all()


class TestFlows:
    def test_an_entry_is_read_as_it_was_made(self, table: Conntrack) -> None:
        make([Entry(ONE, TCP, mark=0x30001, tcp_state=4, timeout_s=500)])
        (flow,) = everything(table)
        assert flow.timeout_s is not None
        assert 490 <= flow.timeout_s <= 500
        expected = Flow(
            TCP,
            ONE,
            DESTINATION,
            1000,
            DESTINATION_PORT,
            0x30001,
            flow.timeout_s,
            TcpState.FIN_WAIT,
            True,
            False,
            flow.id,
        )
        assert flow == expected

    def test_real_connections(self, table: Conntrack) -> None:
        track_loopback()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            tcp_port = server.getsockname()[1]
            with socket.socket(type=socket.SOCK_DGRAM) as there, socket.socket(type=socket.SOCK_DGRAM) as back:
                back.bind(("127.0.0.1", 0))
                there.sendto(b"?", back.getsockname())
                udp_port = back.getsockname()[1]
                (asked,) = [flow for flow in everything(table) if flow.protocol == UDP]
                back.sendto(b"!", back.recvfrom(9)[1])
            run("ping", "-c", "1", "127.0.0.1")
            flows = {flow.protocol: flow for flow in table.flows(0x30000, MASK)}
            assert table.count(0, 0) == len(flows) == 3
            assert table.count_living() == 0, "nobody is served by them"
        assert not asked.is_replied
        assert (flows[UDP].destination_port, flows[UDP].is_replied, flows[UDP].tcp_state) == (udp_port, True, None)
        assert flows[TCP].destination_port == tcp_port
        assert flows[TCP].tcp_state is TcpState.ESTABLISHED
        assert (flows[ICMP].source, flows[ICMP].destination) == (LOOPBACK, LOOPBACK)
        assert flows[ICMP].destination_port == 8 * 256
        assert table.delete(flows.values()) == 3
        assert everything(table) == []

    def test_they_are_chosen_by_the_mark_under_the_mask(self, table: Conntrack) -> None:
        make([*several(7, 0x10001), *several(5, 0x20000, "10.245.0.0"), *several(3, 0, "10.246.0.0")])
        for mark, mask, count in ((0x10000, MASK, 7), (0x20000, MASK, 5), (0, MASK, 3), (0, 0, 15), (1, 1, 7)):
            assert sum(1 for _ in table.flows(mark, mask)) == count
            assert table.count(mark, mask) == count

    def test_those_whose_syn_had_no_answer_are_told_from_all_others(self, table: Conntrack) -> None:
        """Whatever else there is: other states, datagrams, protocols whose entries are laid out in another way."""
        make([Entry(ONE, TCP, 0x10001, state, is_replied=False, port=2000 + state) for state in TcpState])
        make([*several(50, 0x10000), Entry(ONE, UDP, 0x10000, is_replied=False)])
        make([Entry(ONE, TCP, 0x20000, TcpState.SYN_SENT, is_replied=False, port=3000)])
        run("conntrack", "-I", "-p", "50", "-s", "10.0.0.1", "-d", "10.0.0.2", "-t", "100", "-m", "65536")
        ports = {mask: [flow.source_port for flow in table.opening(0x10000 & mask, mask)] for mask in (MASK, 0)}
        assert ports[MASK] == [2000 + TcpState.SYN_SENT]
        assert sorted(ports[0]) == [2000 + TcpState.SYN_SENT, 3000]

    @pytest.mark.usefixtures("zones")
    def test_entries_of_other_zones_and_families_are_left_alone(self, table: Conntrack) -> None:
        insert = ("conntrack", "-I", "-p", "udp", "--dport", "2", "-t", "100", "-m", "65536")
        run(*insert, "-s", str(ONE), "-d", "10.0.0.2", "--zone", "7", "--sport", "1")
        run(*insert, "-s", str(ONE), "-d", "10.0.0.2", "--orig-zone", "7", "--sport", "2")
        run(*insert, "-s", "2001:db8::1", "-d", "2001:db8::2", "--sport", "1")
        make([Entry(ONE, mark=0x10000, is_nated=True)])
        assert len(everything(table)) == table.count(0, 0) == table.count_living() == 1
        assert table.delete_marked(0x10000, MASK) == 1
        make([Entry(ONE, mark=0x10000)])
        assert [flow.source for flow in table.flows_of(ONE)] == [ONE]
        assert table.delete_of(ONE, MASK) == 1
        assert len(run("conntrack", "-L", "-f", "ipv4").splitlines()) == 2
        assert len(run("conntrack", "-L", "-f", "ipv6").splitlines()) == 1

    def test_a_table_belongs_to_the_namespace_it_was_opened_in(self, table: Conntrack) -> None:
        make(several(4))
        with own_namespace(), ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(table.count, 0, 0).result() == 4
            other = Conntrack()
            assert other.count(0, 0) == 0
            other.close()


class TestLiving:
    @pytest.mark.parametrize("state", TcpState)
    @pytest.mark.parametrize("is_replied", [True, False])
    def test_tcp_lives_until_it_is_over(self, table: Conntrack, state: TcpState, is_replied: bool) -> None:  # noqa: FBT001 - a parameter of the test
        make([Entry(ONE, TCP, tcp_state=state, is_replied=is_replied, is_nated=True)])
        assert everything(table)[0].tcp_state is state
        assert table.count_living() == (state in LIVING_TCP)

    def test_what_has_no_end_lives_as_long_as_its_timeout(self, table: Conntrack) -> None:
        make(
            [
                Entry(ONE, is_replied=False, timeout_s=30, is_nated=True),
                Entry(IPv4Address("10.244.1.3"), is_replied=True, is_nated=True),
            ]
        )
        run(
            *[
                "conntrack",
                "-I",
                "-p",
                "50",
                "-s",
                "10.0.0.1",
                "-d",
                "10.0.0.2",
                "-t",
                "100",
                "--src-nat",
                "172.16.101.11",
            ]
        )
        assert table.count_living() == 3

    def test_what_the_namespace_sends_itself_is_nobodys_connection(self, table: Conntrack) -> None:
        """Its source is its own. It goes on for ever: to wait for its end would be to drain for ever."""
        make([Entry(ONE, UDP), Entry(ONE, TCP), Entry(IPv4Address("10.244.1.3"), is_nated=True)])
        run(*["conntrack", "-I", "-p", "50", "-s", "10.0.0.1", "-d", "10.0.0.2", "-t", "100"])
        assert (table.count(0, 0), table.count_living()) == (4, 1)

    def test_what_is_over_is_told_from_what_lives_in_a_crowd(self, table: Conntrack) -> None:
        make([replace(entry, tcp_state=7) for entry in forwarded(several(1000, protocol=TCP))])
        make(forwarded(several(1000, first="10.245.0.0", protocol=UDP)))
        assert table.count_living() == 1000
        assert table.count(0, 0) == 2000


class TestDelete:
    def test_by_mark(self, table: Conntrack) -> None:
        make([*several(250, 0x10001), *several(20, 0x20000, "10.245.0.0")])
        assert table.delete_marked(0x10000, MASK) == 250
        assert table.delete_marked(0x10000, MASK) == 0
        assert {flow.mark for flow in everything(table)} == {0x20000}

    def test_without_a_mask_nothing_is_deleted(self, table: Conntrack) -> None:
        make(several(3))
        with pytest.raises(ValueError, match="needs a mask"):
            table.delete_marked(0, 0)
        assert table.count(0, 0) == 3

    def test_of_an_instance(self, table: Conntrack) -> None:
        """What the host itself or somebody else marked for it stays; so do the flows of its neighbours."""
        make([Entry(ONE, UDP, mark=0x10000 * n, port=1000 + n) for n in range(4)])
        make([Entry(ONE, TCP, mark=0x10000), Entry(ONE, mark=1, port=9), *several(5, 0x10000, "10.244.1.3")])
        assert table.delete_of(ONE, MASK) == 4
        assert sorted((flow.source, flow.mark) for flow in everything(table))[:3] == [
            (ONE, 0),
            (ONE, 1),
            (IPv4Address("10.244.1.3"), 0x10000),
        ]
        assert table.count(0, 0) == 7

    def test_a_kernel_that_does_not_know_the_filters_costs_no_other_entry(
        self, table: Conntrack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An older kernel sends every entry, whatever was asked for."""
        monkeypatch.setattr(ctnetlink, "by_mark", lambda mark, mask: b"")
        monkeypatch.setattr(ctnetlink, "by_source", lambda source: b"")
        make([*several(250, 0x10000), *several(20, 0x20000, "10.245.0.0"), Entry(ONE, mark=0x30000)])
        assert table.count(0x20000, MASK) == len(list(table.flows(0x20000, MASK))) == 20
        assert table.delete_of(ONE, MASK) == 1
        assert table.delete_marked(0x10000, MASK) == 250
        assert table.count(0, 0) == 20

    def test_a_successor_with_the_same_addresses_is_left_alone(self, table: Conntrack) -> None:
        make([Entry(ONE)])
        (flow,) = everything(table)
        assert table.delete([replace(flow, id=flow.id ^ 1)]) == 0
        assert table.delete([flow, flow]) == 1
        assert table.delete([flow]) == 0
        assert everything(table) == []

    def test_absent_ones_of_any_number_are_fine(self, table: Conntrack) -> None:
        make(several(1000))
        flows = everything(table)
        assert table.delete(flows[::2]) == 500
        assert table.delete(flows) == 500
        assert table.delete(flows) == 0

    @pytest.mark.parametrize("protocol", [ICMP, TCP, UDP, GRE, ESP, 132])
    def test_of_any_protocol(self, table: Conntrack, protocol: int) -> None:
        layer4 = {
            ICMP: ("--icmp-type", "8", "--icmp-code", "0", "--icmp-id", "77"),
            GRE: ("--srckey", "5", "--dstkey", "6"),
            ESP: (),
        }.get(protocol, ("--sport", "5", "--dport", "6"))
        state = {
            TCP: ("--state", "ESTABLISHED"),
            132: ("--state", "ESTABLISHED", "--orig-vtag", "1", "--reply-vtag", "2"),
        }
        number = {ICMP: "icmp", TCP: "tcp", UDP: "udp", GRE: "gre", ESP: "50", 132: "sctp"}[protocol]
        more = state.get(protocol, ())
        words = f"conntrack -I -p {number} -s {ONE} -d 10.0.0.2 -t 100 -m 65536".split()
        run(*words, *layer4, *more)
        (flow,) = everything(table)
        assert flow.protocol == protocol
        assert table.count(0x10000, MASK) == 1
        assert table.delete([replace(flow, id=flow.id ^ 1)]) == 0
        assert table.delete([flow]) == 1
        run(*words, *layer4, *more)
        assert table.delete_of(ONE, MASK) == 1


@pytest.mark.timed
def test_a_large_table_costs_little(table: Conntrack) -> None:
    """50,000 entries: a third of a second would be felt by whoever waits for the agent's thread."""
    make(forwarded(several(25_000, 0x10000)))
    make(several(25_000, 0x20000, "10.245.0.0"))
    assert (table.count(0, 0), table.count_living()) == (50_000, 25_000)
    assert best_ms(table.count_living, 5) < 150
    assert best_ms(lambda: table.count(0x10000, MASK), 5) < 150
    assert best_ms(lambda: list(table.opening(0, 0)), 5) < 150
    assert best_ms(lambda: table.delete_of(IPv4Address("10.243.0.1"), MASK), 5) < 100
    assert best_ms(lambda: table.delete_marked(0x10000, MASK), 1) < 1000
    assert table.count(0, 0) == 25_000
    assert table.delete(everything(table)) == 25_000
    assert table.count(0, 0) == 0
