"""Isolation, attacked: each test is an attack; it gets nothing through, is counted, and nobody else notices.

All share one lab of two customers with the same addresses. Through the other customer's subnet a prober asks all the
time: what happens to it is looked at after each test. What is tried, and what blocks it: docs/isolation.md.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from proxypool.core.addressing import tunnel_device_of
from proxypool.core.blocking import Blocked
from proxypool.core.config import HostConfig
from proxypool.core.host_firewall import BURST_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import FABRIC, RESPONDER_PORT
from proxypool.lab.topology import mac_of as mac_of_card
from tests.lab import attacker as bad
from tests.lab.attacker import GRE, ICMP, PORT, TCP, UDP, Place, blocked, counted, seen, send, send_frames, unseen
from tests.lab.conftest import Keeper, keep, show_logs
from tests.lab.instances import REACHED, SILENCE, detached, ip_of, tracked, try_tcp, try_udp
from tests.lab.observe import (
    IN_GUEST,
    PATIENCE,
    Frame,
    Sniffer,
    address_of,
    datagrams,
    in_namespace,
    inside,
    listen,
    master_of,
    masters,
    metrics,
    other_of,
    repairs,
    set_sysctl,
    undone,
    wait_until,
)

pytestmark = [pytest.mark.root]

MINE, THEIRS = "pod1", "pod1-2"
"""An instance of the customer who attacks, and one of the other, on the same host. The second one's prober runs on."""
FLAT = "10.244.0.0/16"
STRANGER = "zk1"
SOURCE_ROUTE = b"\x83\x07\x04" + socket.inet_aton("192.168.2.1") + b"\x00"
"""Loose source and record route (RFC 791) through one machine, padded."""
ALLOWED_GAP_MS = 500.0 * PATIENCE
"""Of the other customer's prober: far below what an attack that works would do, far above a busy machine's stalls."""


@dataclass
class Arena:
    """The lab, and who is who in it."""

    lab: Lab
    victim: Prober

    @property
    def mine(self) -> SubnetPlan:
        """The attacker's subnet."""
        return self.lab.topology.subnet_plans[0]

    @property
    def theirs(self) -> SubnetPlan:
        """The other customer's, with the same addresses."""
        return self.lab.topology.subnet_plans[1]

    @property
    def master(self) -> str:
        """Of the attacker's subnet."""
        return master_of(self.lab, self.mine)

    @property
    def gateway(self) -> Place:
        """The attacker's subnet, as its master has it."""
        return Place(self.master, self.mine)

    @property
    def everywhere_else(self) -> tuple[tuple[str, str], ...]:
        """Every wire that is not the attacker's own customer's."""
        return ((FABRIC, self.theirs.bridge), (THEIRS, "eth0"), (FABRIC, "underlay"))

    def tunnel_address(self, host: str = "host1") -> str:
        """By which nodes know a host."""
        return self.lab.machine(host).run(["sh", "-c", "ip -o addr | grep -m1 -o '100[.0-9]*'"]).stdout.strip()

    def eni_mac(self, node: str) -> str:
        """Of the attacker's customer's card on a node."""
        return next(mac_of_card(member.node, member.eni) for member in self.mine.members if member.node == node)

    def from_customer(self, *packets: bytes) -> None:
        """The customer's server puts packets on its wire for the master's card, whatever their addresses."""
        mac = mac_of_card(self.mine.database, "eth0")
        frames = [bad.ethernet(self.eni_mac(self.master), mac, 0x0800, packet) for packet in packets]
        send_frames(self.lab, self.mine.database, frames)

    def from_host(self, *packets: bytes, key: int | None = None) -> None:
        """A function host that somebody has taken over sends into the attacker's tunnel."""
        host = self.lab.machine("host1").spec.ip
        key = self.mine.key if key is None else key
        send(self.lab, "host1", [bad.tunnelled(key, packet, (host, self.mine.havip)) for packet in packets])


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    """Up once. At the end nothing strange has left an ENI, and the daemons export what the kernel has counted."""
    hosts = 1 if IN_GUEST else 2
    for keeper in keep(Keeper(f"attack-{os.getpid()}", hosts=hosts, pods=2, overlap=True)):
        lab, watch = keeper.get()
        interval_ms = 20.0 if IN_GUEST else 5.0
        with Prober(lab, THEIRS, lab.topology.subnet_plans[1].database_ip, interval_ms=interval_ms) as victim:
            yield Arena(lab, victim)
            result = victim.result()
        strange = watch.seen()
        assert not strange, f"frames left an ENI with a source that is not its own: {strange[:20]}"
        assert result["blackout_ms"] < ALLOWED_GAP_MS, result["longest"]
        assert result["lost"] <= result["sent"] // 500, f"{result['lost']} of {result['sent']} requests of the other"


@pytest.fixture(autouse=True)
def still_whole(arena: Arena, request: pytest.FixtureRequest) -> Iterator[None]:
    """After each attack the same members are masters, and both customers' instances reach their servers."""
    before = [masters(arena.lab, subnet) for subnet in (arena.mine, arena.theirs)]
    yield
    try:
        assert [masters(arena.lab, subnet) for subnet in (arena.mine, arena.theirs)] == before
        for pod in (MINE, THEIRS):
            assert try_udp(arena.lab, pod, arena.mine.database_ip).what == REACHED, pod
    except BaseException:
        show_logs(arena.lab)
        raise


@contextlib.contextmanager
def masquerading(arena: Arena) -> Iterator[None]:
    """The attacker's host gives what instances send the host's own address, as most clusters do."""
    words = ["iptables-legacy", "-t", "nat", "-{}", "POSTROUTING", "-s", FLAT, "-o", "eth0", "-j", "MASQUERADE"]
    add, delete = ([word.format(letter) for word in words] for letter in "AD")
    with undone(arena.lab, "host1", add, delete):
        yield


# ---- an instance -----------------------------------------------------------------------------------------------------


def test_an_instance_reaches_its_own_customer_and_not_the_one_with_the_same_addresses(arena: Arena) -> None:
    """With any protocol: the mark of its attachment decides, not the address."""
    mine, other = ip_of(arena.lab, MINE), arena.mine.database_ip
    with unseen(arena.lab, *arena.everywhere_else[:2]), seen(arena.lab, (FABRIC, arena.mine.bridge), 3):
        send(arena.lab, MINE, bad.three_kinds(mine, other))


def test_an_instance_without_attachment_is_refused(arena: Arena) -> None:
    """With an error at once, and counted."""
    wires = ((FABRIC, arena.mine.bridge), *arena.everywhere_else)
    with detached(arena.lab, MINE), unseen(arena.lab, *wires), counted(arena.lab, Place("host1"), Blocked.REFUSED, 3):
        send(arena.lab, MINE, bad.three_kinds(ip_of(arena.lab, MINE), arena.mine.database_ip))


def test_an_instance_does_not_reach_the_platform(arena: Arena) -> None:
    """Nodes, HaVips and ZooKeeper, though its host has routes to them and would give it an address to come back to."""
    lab = arena.lab
    targets = [lab.machine(name).spec.ip for name in (*lab.topology.node_names, STRANGER)]
    targets += [subnet.havip for subnet in lab.topology.subnet_plans]
    packets = [packet for target in targets for packet in bad.three_kinds(ip_of(lab, MINE), target)]
    with masquerading(arena):
        with unseen(lab, (FABRIC, "underlay")), counted(lab, Place("host1"), Blocked.PLATFORM, len(packets)):
            send(lab, MINE, packets)
        for name, port in (("zk1", 2181), ("node-a", 9477)):
            assert try_tcp(lab, MINE, lab.machine(name).spec.ip, port).what == SILENCE
        # The control: an address that is not the platform's is reached by the same way.
        with seen(lab, (FABRIC, "underlay"), 3):
            send(lab, MINE, bad.three_kinds(ip_of(lab, MINE), "192.168.99.99" if IN_GUEST else "192.168.80.2"))


def test_an_instance_makes_no_tunnel_packets_of_its_own(arena: Arena) -> None:
    """With its host's address they would open every customer's network: the other customer's key, and a host's source.

    The same to another host, with the HaVip for a sender.
    """
    lab, theirs = arena.lab, arena.theirs
    mine, other_host = ip_of(lab, MINE), "192.168.80.2"
    inner = bad.ipv4(arena.tunnel_address(), theirs.database_ip, UDP, bad.udp(4000, PORT))
    answer = bad.ipv4(theirs.database_ip, "100.64.0.1", UDP, bad.udp(PORT, 4000))
    packets = [
        bad.tunnelled(theirs.key, inner, (mine, theirs.havip)),
        bad.tunnelled(theirs.key, answer, (theirs.havip, other_host)),
        bad.tunnelled(theirs.key, answer, (mine, other_host)),
    ]
    with (
        masquerading(arena),
        unseen(lab, *arena.everywhere_else),
        counted(lab, Place("host1"), Blocked.TUNNEL, len(packets)),
    ):
        send(lab, MINE, packets)


def test_an_instance_cannot_speak_for_another_one_where_its_card_is_checked(arena: Arena) -> None:
    """As CNI plug-ins do it, with the reverse path filter on the card. Its packets would take the other's attachment."""
    lab, path = arena.lab, f"ipv4/conf/{MINE}/rp_filter"
    host = Place("host1")
    set_sysctl(lab.machine("host1"), None, path, "1")
    try:
        before = bad.netstat(lab, host, "IPReversePathFilter")
        with unseen(lab, (FABRIC, arena.theirs.bridge), (FABRIC, arena.mine.bridge)):
            send(lab, MINE, bad.three_kinds(ip_of(lab, THEIRS), arena.theirs.database_ip))
        assert bad.netstat(lab, host, "IPReversePathFilter") == before + 3
    finally:
        set_sysctl(lab.machine("host1"), None, path, "0")


def test_an_instance_that_floods_takes_no_more_than_its_share_of_the_connection_table(arena: Arena) -> None:
    """The table is the whole host's. What begins too fast is dropped and counted; who sits beside it goes on."""
    lab, mine, sent = arena.lab, ip_of(arena.lab, MINE), 20_000
    share = HostConfig(underlay="eth0", instance_cidrs=()).new_connections_per_s_per_instance
    packets = (bad.ipv4(mine, arena.mine.database_ip, UDP, bad.udp(port, 9)) for port in range(10_000, 10_000 + sent))
    before = blocked(lab, Place("host1"))[Blocked.FLOOD]
    try:
        began = time.monotonic()
        send(lab, MINE, packets)
        allowed = share * (BURST_S + time.monotonic() - began)
        tracked_now = len(tracked(lab, "host1", mine))
        dropped = blocked(lab, Place("host1"))[Blocked.FLOOD] - before
        assert tracked_now <= 1.05 * allowed
        assert dropped >= sent - 1.05 * allowed
        assert dropped > 0, f"{sent} packets took {time.monotonic() - began:.1f} s: no flood"
        for attempt in (try_udp, try_tcp):
            assert attempt(lab, THEIRS, arena.theirs.database_ip).what == REACHED
    finally:
        lab.machine("host1").run(["conntrack", "-D", "-s", mine], check=False)
    wait_until(lambda: try_udp(lab, MINE, arena.mine.database_ip).what == REACHED, 10.0, "the attacker's own again")


# ---- somebody on the underlay ----------------------------------------------------------------------------------------


def test_tunnel_packets_of_a_stranger_are_dropped_by_nodes(arena: Arena) -> None:
    """Whatever is inside, whole or in fragments, with the right key or a wrong one."""
    lab, mine = arena.lab, arena.mine
    here = lab.machine(STRANGER).spec.ip
    inner = bad.ipv4(arena.tunnel_address(), mine.database_ip, UDP, bad.udp(4000, PORT))
    nested = bad.tunnelled(mine.key, inner, (arena.tunnel_address(), mine.havip))
    whole = [
        bad.tunnelled(mine.key, inner, (here, mine.havip)),
        bad.tunnelled(mine.key + 7777, inner, (here, mine.havip)),
        bad.tunnelled(mine.key, nested, (here, mine.havip)),
    ]
    wires = ((FABRIC, mine.bridge), *arena.everywhere_else[:2])
    with unseen(lab, *wires), counted(lab, Place(arena.master), Blocked.STRANGER, len(whole)):
        send(lab, STRANGER, whole)
    with unseen(lab, *wires):
        before = blocked(lab, Place(arena.master))[Blocked.STRANGER]
        send(lab, STRANGER, bad.fragments(whole[0]))
        wait_until(
            lambda: blocked(lab, Place(arena.master))[Blocked.STRANGER] > before, 3.0, "a fragment to be counted"
        )


def test_tunnel_packets_of_a_stranger_are_dropped_by_hosts(arena: Arena) -> None:
    """Even one that answers a flow which is open, with everything right but the sender."""
    lab, mine = arena.lab, arena.mine
    here, host = lab.machine(STRANGER).spec.ip, lab.machine("host1").spec.ip
    tunnel_address = arena.tunnel_address()
    with datagrams(lab, mine.database, PORT) as server, datagrams(lab, MINE) as client:
        client.sendto(b"ask", (mine.database_ip, PORT))
        server.recvfrom(64)
        port = int(host_port(arena, client.getsockname()[1]))
        answer = bad.ipv4(mine.database_ip, tunnel_address, UDP, bad.udp(PORT, port))
        packet = bad.tunnelled(mine.key, answer, (here, host), end=tunnel_address)
        with unseen(lab, (MINE, "eth0"), (THEIRS, "eth0")), counted(lab, Place("host1"), Blocked.STRANGER, 1):
            send(lab, STRANGER, [packet])
        # The control: from the HaVip it is the answer.
        with seen(lab, (MINE, "eth0")):
            send(lab, arena.master, [bad.tunnelled(mine.key, answer, (mine.havip, host), end=tunnel_address)])


def host_port(arena: Arena, port: int) -> str:
    """The port that the host gave to a flow of the attacker's instance."""
    words = ["conntrack", "-L", "-p", "udp", "-s", ip_of(arena.lab, MINE), "--sport", str(port)]
    line = arena.lab.machine("host1").run(words).stdout
    return line.split("dport=")[2].split()[0]


def test_what_a_tunnel_brings_that_nobody_asked_for_is_dropped_by_hosts(arena: Arena) -> None:
    """A node that somebody has taken over reaches no instance, by whatever address."""
    lab, mine = arena.lab, arena.mine
    host, tunnel_address = lab.machine("host1").spec.ip, arena.tunnel_address()
    packets = [
        bad.tunnelled(mine.key, packet, (mine.havip, host), end=tunnel_address)
        for target in (ip_of(lab, MINE), ip_of(lab, THEIRS))
        for packet in bad.three_kinds(mine.database_ip, target)
    ]
    wires = ((MINE, "eth0"), (THEIRS, "eth0"))
    with unseen(lab, *wires), counted(lab, Place("host1"), Blocked.UNASKED, len(packets)):
        send(lab, arena.master, packets)


def test_nobody_but_nodes_says_who_is_master(arena: Arena) -> None:
    """Advertisements of the highest priority, by a stranger and by a function host, to both members."""
    lab, mine = arena.lab, arena.mine
    for sender in (STRANGER, "host1"):
        here = lab.machine(sender).spec.ip
        for member in mine.members:
            there = lab.machine(member.node).spec.ip
            packets = [bad.advertisement(vrid, here, there, mine.havip) for vrid in range(1, 6)]
            with counted(lab, Place(member.node), Blocked.VRRP, len(packets)):
                send(lab, sender, packets)


# ---- a function host that was taken over ------------------------------------------------------------------------------


def test_a_hosts_tunnel_leads_to_its_customers_addresses_only(arena: Arena) -> None:
    """To the node itself, the other member, HaVips, other hosts and the world: dropped and counted, by hosts."""
    lab, mine, source = arena.lab, arena.mine, arena.tunnel_address()
    own, other = (address_of(mine, node) for node in (arena.master, other_of(mine, arena.master)))
    targets = [own, "203.0.113.1"]
    packets = [packet for target in targets for packet in bad.three_kinds(source, target)]
    nested = bad.tunnelled(arena.theirs.key, packets[0], (source, own))
    wires = ((FABRIC, mine.bridge), *arena.everywhere_else[:2])
    forward = Place(arena.master, mine)
    # 203.0.113.1 has no route in the namespace: the kernel itself drops that.
    with unseen(lab, *wires), counted(lab, forward, Blocked.HOST, 4):
        arena.from_host(*packets, nested)
    assert other != own


def test_a_hosts_tunnel_brings_hosts_sources_only(arena: Arena) -> None:
    """Instances', the customer's own, the underlay's; in fragments, nested, source-routed, IPv6. Nothing leaves the ENI."""
    lab, mine = arena.lab, arena.mine
    wires = ((FABRIC, mine.bridge), *arena.everywhere_else[:2])
    forged = [ip_of(lab, THEIRS), "172.16.101.66", "192.168.80.1"]
    packets = [bad.ipv4(source, mine.database_ip, UDP, bad.udp(4000, PORT)) for source in forged]
    packets += [
        bad.ipv4(source, mine.database_ip, TCP, bad.tcp(source, mine.database_ip, 4000, PORT, 2)) for source in forged
    ]
    with unseen(lab, *wires), counted(lab, arena.gateway, Blocked.HOST, len(packets)):
        arena.from_host(*packets)
    # A segment of no connection would be answered with a RST, and that one would leave by the ENI.
    segment = bad.tcp("172.16.101.66", mine.database_ip, 4000, PORT, 16)
    whole = bad.ipv4(forged[0], mine.database_ip, UDP, bad.udp(4000, PORT))
    with unseen(lab, *wires), counted(lab, arena.gateway, Blocked.HOST, 2):
        arena.from_host(bad.ipv4("172.16.101.66", mine.database_ip, TCP, segment), *bad.fragments(whole))
    routed = bad.ipv4(arena.tunnel_address(), mine.database_ip, UDP, bad.udp(4000, PORT), options=SOURCE_ROUTE)
    with unseen(lab, *wires):
        arena.from_host(routed)
        host = lab.machine("host1").spec.ip
        send(lab, "host1", [bad.tunnelled(mine.key, ipv6(), (host, mine.havip), kind=0x86DD)])
        arena.from_host(whole, key=7777)


def ipv6() -> bytes:
    """A datagram from anywhere to all nodes of the link."""
    payload = bad.udp(4000, PORT)
    addresses = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "ff02::1")
    return struct.pack("!IHBB", 6 << 28, len(payload), UDP, 64) + addresses + payload


# ---- a customer's server ----------------------------------------------------------------------------------------------


def test_a_customers_server_reaches_nobody(arena: Arena) -> None:
    """Instances, hosts, nodes, the HaVip, ZooKeeper, the other customer, the card itself and the other member's: all of
    it straight to the master's card, so that no route of the customer's own holds it back.
    """
    lab, mine, source = arena.lab, arena.mine, arena.mine.database_ip
    routed = [ip_of(lab, MINE), ip_of(lab, THEIRS), arena.tunnel_address(), "192.168.80.1", "192.168.2.1", mine.havip]
    routed += [lab.machine(name).spec.ip for name in lab.topology.node_names]
    own, other = (address_of(mine, node) for node in (arena.master, other_of(mine, arena.master)))
    wires = ((MINE, "eth0"), *arena.everywhere_else)
    # The namespace has routes to the hosts' tunnel addresses and to the customer's own network; the rest leads nowhere.
    counted_targets = [arena.tunnel_address(), own]
    uncounted = [target for target in routed if target not in counted_targets]
    packets = [packet for target in counted_targets for packet in bad.three_kinds(source, target)]
    with unseen(lab, *wires), counted(lab, arena.gateway, Blocked.CUSTOMER, len(packets)):
        arena.from_customer(*packets)
    with unseen(lab, *wires):
        arena.from_customer(*(packet for target in uncounted for packet in bad.three_kinds(source, target)))
    with listen(lab, arena.master, PORT), unseen(lab, *wires):
        arena.from_customer(*bad.three_kinds(source, other))
        assert try_tcp(lab, mine.database, own, PORT).what != REACHED


def test_a_customers_server_with_forged_sources_reaches_nobody(arena: Arena) -> None:
    """A host's tunnel address, an instance's, the HaVip's, the member's own; a tunnel packet to the card; fragments."""
    lab, mine = arena.lab, arena.mine
    target, own = arena.tunnel_address(), address_of(arena.mine, arena.master)
    wires = ((MINE, "eth0"), *arena.everywhere_else)
    sources = [ip_of(lab, MINE), mine.havip, "169.254.77.2", "172.16.101.66"]
    packets = [bad.ipv4(source, target, UDP, bad.udp(4000, PORT)) for source in sources]
    packets.append(bad.tunnelled(mine.key, packets[0], (mine.database_ip, own), end=mine.havip))
    packets.append(bad.ipv4(mine.database_ip, own, GRE, struct.pack("!HHI", 0x2000, 0x0800, mine.key) + packets[0]))
    with unseen(lab, *wires), counted(lab, arena.gateway, Blocked.CUSTOMER, len(packets) + 1):
        arena.from_customer(*packets, *bad.fragments(packets[-3]))
    with unseen(lab, *wires):
        # The kernel's own: a packet from an address of the machine itself, or with a route in its header.
        arena.from_customer(bad.ipv4(own, target, UDP, bad.udp(4000, PORT)))
        arena.from_customer(bad.ipv4(mine.database_ip, target, UDP, bad.udp(4000, PORT), options=SOURCE_ROUTE))
        mac = mac_of_card(mine.database, "eth0")
        send_frames(lab, mine.database, [bad.ethernet(arena.eni_mac(arena.master), mac, 0x86DD, ipv6())])


def test_only_the_server_that_was_asked_answers(arena: Arena) -> None:
    """From another address or port of the customer's, to the very port of an open flow: dropped; and a redirect, which
    the instance's kernel might believe, too.
    """
    lab, mine = arena.lab, arena.mine
    with datagrams(lab, mine.database, PORT) as server, datagrams(lab, MINE) as client:
        client.sendto(b"ask", (mine.database_ip, PORT))
        _, (own, port) = server.recvfrom(64)
        forged = [
            bad.ipv4("172.16.101.66", own, UDP, bad.udp(PORT, port)),
            bad.ipv4(mine.database_ip, own, UDP, bad.udp(PORT + 1, port)),
        ]
        wire = (MINE, "eth0")
        with unseen(lab, wire), counted(lab, arena.gateway, Blocked.CUSTOMER, len(forged)):
            arena.from_customer(*forged)
        asked = bad.ipv4(own, mine.database_ip, UDP, bad.udp(port, PORT))
        redirects = [
            bad.ipv4(source, own, ICMP, bad.icmp(5, 1, socket.inet_aton("10.244.1.66"), asked))
            for source in (mine.database_ip, "10.244.1.1")
        ]
        # Dropped by the kernel's NAT itself, which counts nothing.
        with unseen(lab, wire):
            arena.from_customer(*redirects)
        # The control: the same sender, an error that is one.
        with seen(lab, wire):
            arena.from_customer(bad.ipv4(mine.database_ip, own, ICMP, bad.icmp(3, 13, bytes(4), asked)))


def test_a_redirect_about_a_members_own_probe_is_dropped(arena: Arena) -> None:
    """What a member itself asks is not translated, so the kernel would believe it: on the backup, which is a router only
    when it is master.
    """
    lab, mine = arena.lab, arena.mine
    place = Place(other_of(mine, arena.master), mine)
    own = address_of(mine, place.machine)

    def ask() -> socket.socket:
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.sendto(b"ask", (mine.database_ip, RESPONDER_PORT))
        return link

    with inside(lab.machine(place.machine), place.namespace, ask) as link:
        asked = bad.ipv4(own, mine.database_ip, UDP, bad.udp(link.getsockname()[1], RESPONDER_PORT))
        redirect = bad.icmp(5, 1, socket.inet_aton("172.16.101.66"), asked)
        mac = mac_of_card(mine.database, "eth0")
        packet = bad.ipv4(mine.database_ip, own, ICMP, redirect)
        with counted(lab, place, Blocked.REDIRECT, 1):
            frame = bad.ethernet(arena.eni_mac(place.machine), mac, 0x0800, packet)
            send_frames(lab, mine.database, [frame])
    assert "redirected" not in in_namespace(lab, place.machine, mine, "ip", "route", "get", mine.database_ip).stdout


def test_arp_on_a_customers_wire_says_nothing_of_anything_behind_the_card(arena: Arena) -> None:
    """Asked for hosts, nodes, HaVips, instances: no answer. Told that the member's address, or the HaVip, is somebody
    else's: nothing is learnt, in the namespace or outside of it. That of the customer's own gateway is its own affair.
    """
    lab, mine = arena.lab, arena.mine
    mac, own = mac_of_card(mine.database, "eth0"), address_of(arena.mine, arena.master)
    hidden = [arena.tunnel_address(), mine.havip, lab.machine(arena.master).spec.ip, ip_of(lab, MINE), "169.254.77.1"]
    asker = (mac, mine.database_ip)
    answers: list[Frame] = []
    cards = {arena.eni_mac(member.node) for member in mine.members}
    is_answer = lambda frame: frame.kind == 0x0806 and frame.source_mac in cards and frame.payload[7] == 2  # noqa: E731
    with Sniffer(lab, FABRIC, mine.bridge, is_wanted=is_answer) as wire:
        asked = [
            bad.ethernet(bad.BROADCAST, mac, 0x0806, bad.arp(1, asker, ("00:" * 5 + "00", ip))) for ip in (*hidden, own)
        ]
        send_frames(lab, mine.database, asked)
        wait_until(
            lambda: any(frame.source == own for frame in wire.frames), 3.0, "the control: the card's own address"
        )
        time.sleep(bad.SEEN_WITHIN_S * PATIENCE)
        answers = [frame for frame in wire.frames if frame.source != own]
    assert not answers
    stolen = [own, address_of(mine, other_of(mine, arena.master)), mine.havip, lab.machine("node-b").spec.ip]
    claims = [
        bad.ethernet(bad.BROADCAST, mac, 0x0806, bad.arp(operation, (mac, ip), (bad.BROADCAST, ip)))
        for ip in stolen
        for operation in (1, 2)
    ]
    send_frames(lab, mine.database, claims)
    time.sleep(bad.SEEN_WITHIN_S * PATIENCE)
    for member in mine.members:
        known = (
            in_namespace(lab, member.node, mine, "ip", "neigh").stdout
            + lab.machine(member.node).run(["ip", "neigh"]).stdout
        )
        assert mac not in {word for line in known.splitlines() for word in line.split() if line.split()[0] in stolen}
    for host in ("host1",):
        assert mac not in lab.machine(host).run(["ip", "neigh"]).stdout


def test_arp_in_a_tunnel_moves_no_havip(arena: Arena) -> None:
    """A host's neighbours on its tunnels are permanent, and nothing is learnt from what comes."""
    lab, mine = arena.lab, arena.mine
    host, tunnel_address = lab.machine("host1").spec.ip, arena.tunnel_address()
    look = ["sh", "-c", f"ip neigh show dev {tunnel_device_of(mine.id)}; bridge fdb show 2>/dev/null || true"]
    before = lab.machine("host1").run(look).stdout
    claim = bad.arp(2, ("02:00:00:00:00:01", mine.havip), ("02:00:00:00:00:01", mine.havip))
    send(lab, arena.master, [bad.tunnelled(mine.key, claim, (mine.havip, host), end=tunnel_address, kind=0x0806)])
    time.sleep(bad.SEEN_WITHIN_S * PATIENCE)
    assert lab.machine("host1").run(look).stdout == before


# ---- floods -----------------------------------------------------------------------------------------------------------


def test_a_customers_connections_are_counted_in_its_own_namespace_alone(arena: Arena) -> None:
    """The kernel compares each namespace's own number with the limit: a table that is full is one customer's."""
    lab, mine, theirs, count = arena.lab, arena.mine, arena.theirs, 3000
    source = arena.tunnel_address()

    def entries(subnet: SubnetPlan) -> int:
        words = ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]
        return int(in_namespace(lab, master_of(lab, subnet), subnet, *words).stdout)

    before = entries(theirs)
    arena.from_host(
        *(bad.ipv4(source, mine.database_ip, UDP, bad.udp(port, 9)) for port in range(20_000, 20_000 + count))
    )
    assert entries(mine) >= count
    assert entries(theirs) <= before + 5
    in_namespace(lab, arena.master, mine, "conntrack", "-F")


@pytest.mark.long
def test_flooded_tables_of_one_customer_are_nobody_elses(arena: Arena) -> None:
    """Its namespace's table is full to the last entry: the other customer's new connections begin as ever."""
    lab, mine = arena.lab, arena.mine
    master = arena.master
    lab.fault("fill-conntrack", other_of(mine, master), subnet=mine.id)
    try:
        for _ in range(5):
            assert try_tcp(lab, THEIRS, arena.theirs.database_ip, RESPONDER_PORT).what == REACHED
    finally:
        lab.fault("empty-conntrack", other_of(mine, master), subnet=mine.id)


# ---- the counters -----------------------------------------------------------------------------------------------


def test_what_was_blocked_is_in_the_metrics(arena: Arena) -> None:
    """Of hosts, nodes and subnets, what the kernel has counted; a second late at most."""
    lab = arena.lab
    places = [Place("host1"), *(Place(member.node) for member in arena.mine.members), arena.gateway]
    for place in places:
        name = place.subnet.id if place.subnet is not None else ""

        def told(place: Place = place, name: str = name) -> bool:
            found = metrics(lab, place.machine)
            series = 'proxypool_blocked_packets_total{{reason="{}",subnet="{}"}}'
            wanted = {why: float(count) for why, count in blocked(lab, place).items()}
            return bool(wanted) and all(
                found.get(series.format(why.value, name)) == count for why, count in wanted.items()
            )

        wait_until(told, 6.0, f"the counters of {place.machine} {name}", interval_s=0.2)
    assert sum(blocked(lab, Place("host1")).values()) > 0


# ---- somebody else's script --------------------------------------------------------------------------------------------


def test_nothing_leaves_without_nat_while_all_rules_are_flushed(arena: Arena) -> None:
    """The rules and policies of the attacker's subnet are gone from its master, until the daemon has noticed: what leaves
    the ENI has its address all the same, or does not leave, and is counted then.
    """
    lab, mine, master = arena.lab, arena.mine, arena.master
    place = (mine.database_ip, RESPONDER_PORT)
    flush = "for t in filter nat; do iptables-legacy -t $t -F; iptables-legacy -t $t -X; done; iptables-legacy -P FORWARD ACCEPT"
    before = repairs(lab, master)
    series = f'proxypool_blocked_packets_total{{reason="source",subnet="{mine.id}"}}'
    dropped = metrics(lab, master)[series]
    forged: list[Frame] = []
    inner = lambda frame: frame.source.startswith("100.")  # noqa: E731
    with Sniffer(lab, FABRIC, mine.bridge, is_wanted=inner) as wire, datagrams(lab, MINE) as link:
        in_namespace(lab, master, mine, "sh", "-c", flush)
        sent = 0
        while repairs(lab, master) == before and sent < 2000:
            for _ in range(20):
                link.sendto(b"anybody there?", place)
                with datagrams(lab, MINE) as fresh:
                    fresh.sendto(b"anybody there?", place)
                sent += 1
        forged = list(wire.frames)
    assert sent >= 20
    assert not forged, [str(frame) for frame in forged[:5]]
    wait_until(lambda: metrics(lab, master).get(series, 0) > dropped, 20.0, "what the filter dropped, in the metrics")
    wait_until(lambda: try_tcp(lab, MINE, mine.database_ip).what == REACHED, 5.0, "traffic after the repair")
