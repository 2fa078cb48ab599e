"""Packets between instances and customers' databases: what gets through, with which addresses, and what never does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from proxypool.core.addressing import mac_of, namespace_of, tunnel_device_of
from proxypool.lab.lab import Lab
from proxypool.lab.machine import Machine
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.topology import FABRIC, RESPONDER_PORT, Tunnel
from proxypool.lab.topology import mac_of as mac_of_card
from tests.lab.observe import (
    INNER_MTU,
    PATIENCE,
    Sniffer,
    address_of,
    connect,
    datagrams,
    gate,
    in_namespace,
    inside,
    kill_daemon,
    listen,
    master_of,
    open_gates,
    other_of,
    picture,
    set_sysctl,
    snmp,
    sysctl,
    undone,
    wait_until,
)

pytestmark = [pytest.mark.root, pytest.mark.datapath]

PORT = 5001
ICMP = 1
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU, IP_RECVERR = 10, 2, 14, 11
SILENCE_S = 1.0
"""How long to wait for what must not come."""


def exchange_udp(lab: Lab, pod: str, subnet: SubnetPlan, payload: bytes = b"ping") -> str:
    """A datagram and its answer; the source that the database saw."""
    with datagrams(lab, subnet.database, PORT) as server, datagrams(lab, pod) as client:
        client.sendto(payload, (subnet.database_ip, PORT))
        data, source = server.recvfrom(65536)
        assert data == payload
        server.sendto(payload[::-1], source)
        assert client.recv(65536) == payload[::-1]
        return str(source[0])


def exchange_tcp(lab: Lab, pod: str, subnet: SubnetPlan) -> str:
    """A connection with a word each way; the source that the database saw."""
    with listen(lab, subnet.database, PORT) as server, connect(lab, pod, (subnet.database_ip, PORT)) as client:
        accepted, source = server.accept()
        with accepted:
            client.sendall(b"question")
            assert accepted.recv(64) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(64) == b"answer"
        return str(source[0])


def test_every_instance_reaches_every_database_from_the_masters_own_address(lab: Lab) -> None:
    """TCP and UDP; the customer sees the ENI of the master, and nothing of the function network."""
    for pod, subnet in lab.topology.paths():
        own = address_of(subnet, master_of(lab, subnet))
        assert exchange_udp(lab, pod, subnet) == own
        assert exchange_tcp(lab, pod, subnet) == own


def test_an_error_of_the_customers_server_reaches_the_instance(lab: Lab) -> None:
    """A closed UDP port answers with ICMP, a closed TCP port with a reset: the application learns of both at once."""
    subnet = lab.topology.subnet_plans[0]
    place = (subnet.database_ip, 9)
    with pytest.raises(ConnectionRefusedError):
        connect(lab, "pod1", place)
    with datagrams(lab, "pod1") as client:
        client.connect(place)
        client.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(64)


def test_nothing_leaves_the_eni_with_another_source(lab: Lab) -> None:
    """Not even ICMP errors, the instance's own or the node's. (The fixture watches for the same in every test.)"""
    subnet = lab.topology.subnet_plans[0]
    own = address_of(subnet, master_of(lab, subnet))
    with Sniffer(lab, FABRIC, subnet.bridge) as wire:
        exchange_tcp(lab, "pod1", subnet)
        # An ICMP error that the instance sends: its socket is gone when the answer comes.
        with datagrams(lab, subnet.database, PORT) as server:
            with datagrams(lab, "pod1") as client:
                client.sendto(b"ask", (subnet.database_ip, PORT))
                _, source = server.recvfrom(64)
            server.connect(source)
            server.send(b"too late")
            with pytest.raises(ConnectionRefusedError):
                server.recv(64)
        # ICMP errors that the node sends: an answer that is too big for the tunnel, and one whose time is up.
        with datagrams(lab, subnet.database, PORT) as server, datagrams(lab, "pod1") as client:
            client.sendto(b"ask", (subnet.database_ip, PORT))
            _, source = server.recvfrom(64)
            server.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            server.connect(source)
            server.send(bytes(1472))
            mtu = INNER_MTU[lab.topology.tunnel]
            wait_until(lambda: server.getsockopt(socket.IPPROTO_IP, IP_MTU) == mtu, 3.0, "the path's MTU")
            server.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)

            def has_answer() -> bool:
                with contextlib.suppress(OSError):  # an error that is still waiting on the socket comes first
                    server.send(b"short-lived")
                return {(3, 3), (3, 4), (11, 0)} <= {tuple(f.inner[:2]) for f in wire.frames if f.protocol == ICMP}

            wait_until(has_answer, 3.0, "ICMP: port unreachable, fragmentation needed, time exceeded")
    cards = {frame.source_mac for frame in wire.frames if frame.source == own}
    assert len(cards) == 1
    assert {frame.source for frame in wire.frames if frame.source_mac in cards} == {own}
    assert {subnet.database_ip, own} >= {frame.source for frame in wire.frames if frame.kind == 0x0800}


def receive_all(server: socket.socket, size: int, sums: list[int]) -> None:
    """Take so many bytes, give so many back."""
    link, _ = server.accept()
    with link:
        link.settimeout(30 * PATIENCE)
        got = 0
        while got < size and (data := link.recv(1 << 16)):
            got += len(data)
        sums.append(got)
        link.sendall(bytes(size))


def test_big_transfers_fit_the_tunnel_without_a_fragment(lab: Lab) -> None:
    """The MSS of both ends is clamped to the inner MTU, and the underlay never sees a fragment."""
    subnet = lab.topology.subnet_plans[0]
    master, mtu, size = master_of(lab, subnet), INNER_MTU[lab.topology.tunnel], 4_000_000
    device = tunnel_device_of(subnet.id)
    assert inside(lab.machine("host1"), None, lambda: mtu_of(device)) == mtu
    assert inside(lab.machine(master), namespace_of(subnet.id), lambda: mtu_of(device)) == mtu
    places = [
        ("host1", None),
        (master, None),
        (master, namespace_of(subnet.id)),
        ("pod1", None),
        (subnet.database, None),
    ]
    before = [snmp(lab, *place) for place in places]
    received: list[int] = []
    with (
        Sniffer(lab, FABRIC, subnet.bridge, is_wanted=lambda frame: frame.mss is not None) as at_database,
        Sniffer(lab, "pod1", "eth0", is_wanted=lambda frame: frame.mss is not None) as at_instance,
        Sniffer(lab, FABRIC, "underlay", is_wanted=lambda frame: frame.is_fragment) as underlay,
        listen(lab, subnet.database, PORT) as server,
        connect(lab, "pod1", (subnet.database_ip, PORT)) as client,
    ):
        taker = threading.Thread(target=receive_all, args=(server, size, received))
        taker.start()
        client.settimeout(30 * PATIENCE)
        client.sendall(bytes(size))
        back = 0
        while back < size and (data := client.recv(1 << 16)):
            back += len(data)
        taker.join()
        assert (received, back) == ([size], size)
        own = address_of(subnet, master)
        offered = wait_until(lambda: [f.mss for f in at_database.frames if f.source == own], 3.0, "a SYN")
        accepted = wait_until(
            lambda: [f.mss for f in at_instance.frames if f.source == subnet.database_ip], 3.0, "SYN+ACK"
        )
        assert {*offered, *accepted} == {mtu - 40}
        assert not underlay.frames
    for place, old in zip(places, before, strict=True):
        new = snmp(lab, *place)
        assert {key: new[key] - old[key] for key in ("Ip.FragCreates", "Ip.FragFails", "Ip.ReasmReqds")} == {
            "Ip.FragCreates": 0,
            "Ip.FragFails": 0,
            "Ip.ReasmReqds": 0,
        }, place


def mtu_of(device: str) -> int:
    """Of an interface in the calling thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        answer = fcntl.ioctl(link, 0x8921, struct.pack("16sI12x", device.encode(), 0))
    return int(struct.unpack("16xI12x", answer)[0])


def test_a_datagram_that_is_too_big_is_answered_with_the_paths_mtu(lab: Lab) -> None:
    """With "don't fragment" the largest datagram passes whole, and one byte more is refused with the MTU to use."""
    subnet = lab.topology.subnet_plans[0]
    largest = INNER_MTU[lab.topology.tunnel] - 28
    assert exchange_udp(lab, "pod1", subnet, bytes(largest)) == address_of(subnet, master_of(lab, subnet))
    with datagrams(lab, "pod1") as client:
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        client.connect((subnet.database_ip, RESPONDER_PORT))
        client.send(bytes(largest + 1))

        def is_refused() -> bool:
            try:
                client.send(bytes(largest + 1))
            except OSError as error:
                return error.errno == errno.EMSGSIZE
            return False

        wait_until(is_refused, 3.0, "EMSGSIZE")
        assert client.getsockopt(socket.IPPROTO_IP, IP_MTU) == largest + 28


def comparable(lab: Lab, node: str, subnet: SubnetPlan) -> list[str]:
    """A subnet's namespace without what must differ between two members: the ENI's address and MAC."""
    lines = picture(lab.machine(node), namespace_of(subnet.id), with_identity=False)
    own = address_of(subnet, node)
    mac = next(mac_of_card(member.node, member.eni) for member in subnet.members if member.node == node)
    return sorted({line.replace(own, "OWN").replace(mac, "MAC") for line in lines})


SYSCTLS = (
    "netfilter/nf_conntrack_tcp_loose",
    *(
        f"ipv4/conf/eni0/{name}"
        for name in ("rp_filter", "send_redirects", "accept_source_route", "arp_ignore", "arp_announce")
    ),
)


def test_the_backup_is_programmed_like_the_master_with_the_gate_closed(lab: Lab) -> None:
    """So a takeover is one write. The same devices, routes, neighbours, tables and sysctls; ip_forward differs."""
    for subnet in lab.topology.subnet_plans:
        master = master_of(lab, subnet)
        backup = other_of(subnet, master)
        assert comparable(lab, master, subnet) == comparable(lab, backup, subnet)
        for path in SYSCTLS:
            values = {sysctl(lab.machine(node), namespace_of(subnet.id), path) for node in (master, backup)}
            assert len(values) == 1, f"{path}: {values}"
        assert (gate(lab, master, subnet), gate(lab, backup, subnet)) == (True, False)


def reaches(lab: Lab, machine: str, place: tuple[str, int]) -> bool:
    """Whether a TCP connection can be opened."""
    try:
        inside(lab.machine(machine), None, lambda: socket.create_connection(place, timeout=SILENCE_S)).close()
    except OSError:
        return False
    return True


def test_the_customer_cannot_open_a_connection_to_anybody(lab: Lab) -> None:
    """Through the ENI of the master, with routes as an attacker would set them: no instance, host, tunnel address or
    node is reached, and nothing of it comes out anywhere, though all of them would answer.
    """
    subnet = lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    own = address_of(subnet, master)
    exchange_udp(lab, "pod1", subnet)
    host = lab.machine("host1")
    tunnel_address = host.run(["sh", "-c", "ip -o addr | grep -m1 -o '100[.0-9]*'"]).stdout.strip()
    targets = {
        "10.244.1.2": "pod1",
        "10.244.1.1": "host1",
        "192.168.80.1": "host1",
        tunnel_address: "host1",
        lab.machine(master).spec.ip: master,
        subnet.havip: master,
        own: master,
    }
    routes = [f"{address}/32 via {own}" for address in targets if address != own]
    is_theirs = lambda frame: subnet.database_ip in (frame.source, frame.destination)  # noqa: E731
    with contextlib.ExitStack() as stack:
        for route in routes:
            words = ["ip", "route", "add", *route.split()]
            stack.enter_context(undone(lab, subnet.database, words, ["ip", "route", "del", *route.split()]))
        for machine in {*targets.values()}:
            stack.enter_context(listen(lab, machine, PORT))
        pod = stack.enter_context(Sniffer(lab, "pod1", "eth0", is_wanted=is_theirs))
        device = tunnel_device_of(subnet.id)
        tunnel = stack.enter_context(Sniffer(lab, "host1", device, is_wanted=is_theirs))
        attacker = stack.enter_context(datagrams(lab, subnet.database, PORT))
        for address in targets:
            attacker.sendto(b"let me in", (address, PORT))
            assert not reaches(lab, subnet.database, (address, PORT)), address
        assert not reaches(lab, subnet.database, (own, 9477))
        assert not pod.frames
        assert not tunnel.frames
    # The listeners are real: from where one may, they are reached.
    with listen(lab, "pod1", PORT):
        assert reaches(lab, "host1", ("10.244.1.2", PORT))


@contextlib.contextmanager
def stranger(lab: Lab, subnet: SubnetPlan) -> Iterator[Machine]:
    """zk1 with a tunnel to the HaVip: the right key, and everything else as on a host; only it is not registered."""
    machine = lab.machine("zk1")
    here = machine.spec.ip
    if lab.topology.tunnel is Tunnel.GRE:
        make = f"ip link add bad type gre local {here} key {subnet.key}"
        know = f"ip neigh add {subnet.havip} lladdr {subnet.havip} dev bad nud permanent"
    else:
        make = f"ip link add bad type vxlan id {subnet.key} local {here} dstport 4789 nolearning"
        mac = mac_of(IPv4Address(subnet.havip))
        know = (
            f"ip neigh add {subnet.havip} lladdr {mac} dev bad nud permanent; "
            f"bridge fdb append {mac} dev bad dst {subnet.havip}"
        )
    machine.run(
        [
            "sh",
            "-ec",
            (
                f"{make}; ip addr add 100.127.255.254/32 dev bad; ip link set bad up; {know}; "
                f"ip route add {subnet.cidr} via {subnet.havip} dev bad onlink src 100.127.255.254"
            ),
        ]
    )
    try:
        yield machine
    finally:
        machine.run(["ip", "link", "del", "bad"], check=False)


def dropped(lab: Lab, node: str) -> int:
    """Packets of strangers that a node's guard has dropped."""
    rules = lab.machine(node).run(["iptables-legacy", "-t", "raw", "-vxnL", "PP-NO-STRANGER"]).stdout
    return sum(int(line.split()[0]) for line in rules.splitlines() if " DROP " in line)


def test_tunnel_packets_of_a_stranger_are_dropped_and_counted(lab: Lab) -> None:
    """Somebody on the underlay who knows the HaVip and the key gets nothing through."""
    subnet = lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    before = dropped(lab, master)
    with stranger(lab, subnet), datagrams(lab, subnet.database, PORT, SILENCE_S / PATIENCE) as server:
        with datagrams(lab, "zk1") as client:
            for _ in range(5):
                client.sendto(b"hello", (subnet.database_ip, PORT))
        with pytest.raises(TimeoutError):
            server.recv(64)
    assert dropped(lab, master) == before + 5


def test_instance_traffic_never_leaves_by_the_hosts_default_route(lab: Lab) -> None:
    """The tunnel is gone (and the agent, which would bring it back): instances are told so, and nothing leaks."""
    subnet = lab.topology.subnet_plans[0]
    host = lab.machine("host1")
    kill_daemon(lab, "host1")
    is_theirs = lambda frame: subnet.database_ip in (frame.source, frame.destination)  # noqa: E731
    default = ["default", "via", "192.168.2.1"]
    with (
        undone(lab, "host1", ["ip", "route", "add", *default], ["ip", "route", "del", *default]),
        Sniffer(lab, "host1", "eth0", is_wanted=is_theirs) as wire,
        datagrams(lab, "pod1") as client,
    ):
        host.run(["ip", "link", "del", tunnel_device_of(subnet.id)])
        client.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        client.connect((subnet.database_ip, RESPONDER_PORT))
        with pytest.raises(OSError) as refused:  # noqa: PT011, PT012 - which one depends on who is faster
            for _ in range(3):
                client.send(b"ping")
                client.recv(64)
        assert refused.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
        time.sleep(0.2)  # what leaves, leaves at once
        assert not wire.frames
        # The control: to elsewhere, this host's default route does carry the instance's packets.
        with datagrams(lab, "pod1") as other, Sniffer(lab, "host1", "eth0") as everything:
            other.sendto(b"x", ("203.0.113.1", 9))
            wait_until(
                lambda: any(f.destination == "203.0.113.1" for f in everything.frames), 3.0, "the control packet"
            )


def test_a_connection_without_state_is_reset_at_once(lab: Lab) -> None:
    """After the state is lost, the next packet of either end is answered with a reset: nobody hangs."""
    subnet = lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    for speaker in ("instance", "server"):
        with listen(lab, subnet.database, PORT) as server, connect(lab, "pod1", (subnet.database_ip, PORT)) as client:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(5.0 * PATIENCE)
                client.sendall(b"one")
                assert accepted.recv(64) == b"one"
                in_namespace(lab, master, subnet, "conntrack", "-F")
                end = client if speaker == "instance" else accepted
                began = time.monotonic()
                end.sendall(b"two")
                with pytest.raises(ConnectionResetError):
                    end.recv(64)
                took_s = time.monotonic() - began
        assert took_s < 0.5 * PATIENCE, f"the {speaker} waited {took_s:.3f} s"


def test_packets_do_not_pass_a_closed_gate(lab: Lab) -> None:
    """The gate alone decides: closed by hand for a moment it stops everything (until the daemon opens it again)."""
    subnet = lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    kill_daemon(lab, master)
    with datagrams(lab, "pod1", timeout_s=SILENCE_S / PATIENCE) as client:
        client.connect((subnet.database_ip, RESPONDER_PORT))
        client.send(b"open")
        assert client.recv(64) == b"open"
        set_sysctl(lab.machine(master), namespace_of(subnet.id), "ipv4/ip_forward", "0")
        client.send(b"closed")
        with pytest.raises(TimeoutError):
            client.recv(64)
        lab.fault("power-on", master)
        wait_until(lambda: open_gates(lab, subnet) == {master}, 15.0, "the daemon to open the gate again")


def test_customers_with_the_same_addresses_are_kept_apart(overlap_lab: Lab) -> None:
    """Each instance reaches its own customer's server at the address that both have, and the other's never."""
    lab = overlap_lab
    paths = dict(lab.topology.paths())
    assert {subnet.cidr for subnet in paths.values()} == {"172.16.101.0/24"}
    for pod, subnet in paths.items():
        assert exchange_tcp(lab, pod, subnet) == address_of(subnet, master_of(lab, subnet))
    with contextlib.ExitStack() as stack:
        servers = {s.id: stack.enter_context(datagrams(lab, s.database, PORT)) for s in lab.topology.subnet_plans}
        for pod, subnet in paths.items():
            with datagrams(lab, pod) as client:
                for number in range(20):
                    client.sendto(f"{pod} {number}".encode(), (subnet.database_ip, PORT))
        for pod, subnet in paths.items():
            own = address_of(subnet, master_of(lab, subnet))
            got = [servers[subnet.id].recvfrom(64) for _ in range(20)]
            assert sorted(data for data, _ in got) == sorted(f"{pod} {number}".encode() for number in range(20))
            assert {source for _, (source, _) in got} == {own}
            assert select.select([servers[subnet.id]], [], [], SILENCE_S / 4)[0] == [], "another customer's packet"
