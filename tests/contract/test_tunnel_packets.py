"""A host's tunnel packets in a real kernel: who may send them, and that its connection table does not know them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.adapters import iptables
from proxypool.adapters.conntrack import Conntrack
from proxypool.adapters.iptables import BlockedCounts, tables
from proxypool.core.blocking import Blocked
from proxypool.core.host_firewall import HostRules, host_tables
from proxypool.core.model import TunnelKind
from proxypool.core.steering import MarkLayout
from tests.contract.netns import enter_new_namespace, own_namespace, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

HOST, HAVIP, STRANGER = "192.168.80.8", "192.168.4.100", "192.168.4.66"
PROTOCOLS = {TunnelKind.GRE: socket.IPPROTO_GRE, TunnelKind.VXLAN: socket.IPPROTO_UDP}
FLOWS = range(5)
"""Numbers of packets, each of another flow."""
GIVE_UP_S = 20.0
OWNERS_RULES = (
    "-P INPUT DROP",
    "-P OUTPUT DROP",
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A OUTPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
)
"""As many machines have them."""


@dataclass(frozen=True)
class Wire:
    """The host's end of a cable, and the end of all others, who send as whoever they want to be."""

    kind: TunnelKind
    here: socket.socket
    there: socket.socket

    def _packet(self, number: int, first_port: int) -> bytes:
        """The head of a tunnel packet with its number: the source port tells the flow in VXLAN, nothing does in GRE."""
        if self.kind is TunnelKind.GRE:
            return struct.pack("!HHI", 0x2000, 0x0800, number)
        return struct.pack("!HHHHI", first_port + number, 4789, 12, 0, number)

    def send_out(self, *numbers: int) -> None:
        """The host to the HaVip."""
        for number in numbers:
            self.here.sendto(self._packet(number, 40_000), (HAVIP, 0))

    def send_in(self, sender: str, *numbers: int) -> None:
        """Somebody to the host."""
        ends = (socket.inet_aton(sender), socket.inet_aton(HOST))
        header = struct.pack("!BBHIBBH4s4s", 0x45, 0, 0, 0, 64, PROTOCOLS[self.kind], 0, *ends)
        for number in numbers:
            self.there.sendto(header + self._packet(number, 50_000), (HOST, 0))

    @staticmethod
    def came(end: socket.socket, last: int) -> list[int]:
        """The numbers of what has come to an end, up to the last."""
        found: list[int] = []
        while last not in found:
            found.append(int(struct.unpack("!I", end.recv(2048)[-4:])[0]))
        return found

    def ask_and_answer(self) -> None:
        """Every flow there and back, and all of it comes."""
        self.send_out(*FLOWS)
        assert self.came(self.there, FLOWS[-1]) == list(FLOWS)
        self.send_in(HAVIP, *FLOWS)
        assert self.came(self.here, FLOWS[-1]) == list(FLOWS)


@pytest.fixture(params=list(TunnelKind))
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """The test's thread is on the host. The packets are made here, so that a kernel needs no tunnels of either kind."""
    kind = TunnelKind(request.param)
    tables._proven.clear()
    with own_namespace(), ThreadPoolExecutor(1, initializer=enter_new_namespace) as others:
        tid = others.submit(lambda: os.readlink("/proc/thread-self")).result().rpartition("/")[2]
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", tid)
        for on, address in (
            (run, HOST),
            (lambda *words: others.submit(run, *words).result(), HAVIP),
        ):
            on("ip", "address", "add", f"{address}/16", "dev", "eth0")
            on("ip", "link", "set", "eth0", "up")
        with open_socket(kind) as here, others.submit(open_socket, kind).result() as there:
            there.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
            yield Wire(kind, here, there)
    tables._proven.clear()


def open_socket(kind: TunnelKind) -> socket.socket:
    """For what iptables lets in."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOLS[kind])
    opened.settimeout(GIVE_UP_S)
    return opened


@pytest.fixture
def ruled(wire: Wire) -> Wire:
    """With our tables in front of the owner's."""
    run("ipset", "create", "pp-attached", "hash:net", "skbinfo")
    for name in ("pp-havips", "pp-platform"):
        run("ipset", "create", name, "hash:ip")
    run("ipset", "add", "pp-havips", HAVIP)
    for rule in OWNERS_RULES:
        run("iptables-legacy", *rule.split())
    instances = (IPv4Network("10.244.1.0/24"),)
    rules = HostRules(instances, IPv4Address("100.64.0.1"), MarkLayout(16), {}, tunnel=wire.kind)
    for table in host_tables(rules):
        iptables.apply_table(table)
    return wire


def tracked(kind: TunnelKind) -> int:
    """How many entries there are of tunnel packets."""
    with closing(Conntrack()) as table:
        return sum(flow.protocol == PROTOCOLS[kind] for flow in table.flows(0, 0))


def test_tunnel_packets_pass_the_owners_rules_and_are_not_remembered(ruled: Wire) -> None:
    """Though the owner accepts only what is established, or begins here. The control: without the raw table there are
    entries, with VXLAN two for each flow.
    """
    ruled.ask_and_answer()
    assert tracked(ruled.kind) == 0
    iptables.remove_table("raw")
    ruled.ask_and_answer()
    assert tracked(ruled.kind) == {TunnelKind.GRE: 1, TunnelKind.VXLAN: 2 * len(FLOWS)}[ruled.kind]


def test_those_of_strangers_are_dropped_counted_and_not_remembered(ruled: Wire) -> None:
    """With the HaVip's flows open, too."""
    ruled.ask_and_answer()
    with closing(BlockedCounts(("mangle", "filter"))) as counts:
        ruled.send_in(STRANGER, *FLOWS)
        ruled.send_in(HAVIP, 77)
        assert ruled.came(ruled.here, 77) == [77]
        assert counts.read()[Blocked.STRANGER] == len(FLOWS)
    assert tracked(ruled.kind) == 0


def test_a_havip_that_is_no_longer_one_is_a_stranger(ruled: Wire) -> None:
    """And has been one of old: no entry speaks for it."""
    ruled.ask_and_answer()
    run("ipset", "del", "pp-havips", HAVIP)
    run("ipset", "add", "pp-havips", STRANGER)
    ruled.send_in(HAVIP, *FLOWS)
    ruled.send_in(STRANGER, 77)
    assert ruled.came(ruled.here, 77) == [77]
