"""A pair with an egress address: servers see that one, whichever member is master; and what happens without one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from proxypool.core.addressing import namespace_of, tunnel_device_of
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import FABRIC, PAIR, RESPONDER_PORT, mac_of
from tests.lab.conftest import Keeper, keep, lend
from tests.lab.observe import (
    ACCEPT_ALL,
    IN_GUEST,
    PATIENCE,
    PROBE_MS,
    Sniffer,
    address_of,
    connect,
    datagrams,
    in_namespace,
    kill_daemon,
    listen,
    master_of,
    masters,
    metrics,
    open_gates,
    other_of,
    repairs,
    set_sysctl,
    status,
    unsettled,
    wait_until,
)

pytestmark = [pytest.mark.root, pytest.mark.failover]

Measured = Callable[[str, float], None]

PORT = 5002
POWER_OFF_LIMIT_MS = 5000.0 if IN_GUEST else 1000.0
RESET_WITHIN_S = 1.0 * PATIENCE
SILENCE_S = 0.5


@pytest.fixture(scope="module")
def egress_keeper() -> Iterator[Keeper]:
    """For the lab whose pairs have egress addresses."""
    yield from keep(Keeper(f"egress-{os.getpid()}", hosts=1, subnets=1, egress=True))


@pytest.fixture
def egress_lab(egress_keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two nodes, a host, one subnet whose pair has an egress address."""
    yield from lend(egress_keeper, request)


def egress_of(subnet: SubnetPlan) -> str:
    address = subnet.pairs[0].egress_address
    assert address is not None
    return address


def card_of(subnet: SubnetPlan, node: str) -> str:
    """The MAC of a member's ENI."""
    return mac_of(node, next(member.eni for member in subnet.members if member.node == node))


def known_to(lab: Lab, subnet: SubnetPlan) -> str:
    """The MAC under which the customer's server knows the egress address; empty if it does not."""
    words = ["ip", "neigh", "show", egress_of(subnet), "dev", "eth0"]
    found = lab.machine(subnet.database).run(words).stdout.split()
    return found[found.index("lladdr") + 1] if "lladdr" in found else ""


def forget(lab: Lab, subnet: SubnetPlan) -> None:
    """Have the customer's server ask for the egress address anew."""
    lab.machine(subnet.database).run(["ip", "neigh", "flush", "dev", "eth0"])


def source_seen(lab: Lab, subnet: SubnetPlan) -> str:
    """A connection with a word each way; the source that the server saw."""
    with listen(lab, subnet.database, PORT) as server, connect(lab, "pod1", (subnet.database_ip, PORT)) as client:
        accepted, source = server.accept()
        with accepted:
            client.sendall(b"question")
            assert accepted.recv(64) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(64) == b"answer"
    return str(source[0])


def who_answers(lab: Lab, subnet: SubnetPlan) -> list[str]:
    """Ask for the egress address on the wire: MACs of all that answer."""
    wire = Sniffer(lab, FABRIC, subnet.bridge, is_wanted=lambda frame: frame.kind == 0x0806)
    with wire:
        took_s = asking(lab, subnet)
        time.sleep(0.1)
    found = [
        frame.source_mac
        for frame in wire.frames
        if frame.payload[7] == 2 and frame.source == egress_of(subnet) and frame.destination == subnet.database_ip
    ]
    assert not found or took_s < 0.3 * PATIENCE, f"the answer took {took_s:.3f} s"
    return found


def asking(lab: Lab, subnet: SubnetPlan) -> float:
    """Ask once; how long it took until there was an answer, or none had come for a second."""
    began = time.monotonic()
    words = ["arping", "-q", "-f", "-w", "1", "-I", "eth0", egress_of(subnet)]
    lab.machine(subnet.database).run(words, check=False)
    return time.monotonic() - began


def power_off(lab: Lab, subnet: SubnetPlan, node: str) -> float:
    """Switch a master off while packets flow; the blackout in milliseconds."""
    prober = Prober(
        lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS, until_recovered_s=0.5, answer_timeout_s=10 * PATIENCE
    )
    with prober as running:
        lab.fault("power-off", node)
        running.wait(30.0 * PATIENCE)
    return float(running.result()["blackout_ms"])


def test_servers_see_the_egress_address_whoever_is_master(egress_lab: Lab) -> None:
    """TCP and UDP, before and after a planned change; status says who answers for it."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    for _ in range(2):
        master = master_of(lab, subnet)
        assert source_seen(lab, subnet) == egress_of(subnet)
        with datagrams(lab, subnet.database, PORT) as server, datagrams(lab, "pod1") as client:
            client.sendto(b"ping", (subnet.database_ip, PORT))
            assert server.recvfrom(64)[1][0] == egress_of(subnet)
        assert known_to(lab, subnet) == card_of(subnet, master)
        wait_until(
            lambda master=master: status(lab)["subnets"][0]["pairs"][0]["egress_holders"] == [master],  # type: ignore[misc]
            5.0,
            f"status to say that {master} answers",
        )
        lab.proxypool("pair", "switchover", subnet.id, PAIR, "--timeout", "60", timeout=60 * PATIENCE)
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))


def test_the_gate_decides_who_answers(egress_lab: Lab) -> None:
    """The master at once; nobody while its gate is closed, daemon or no daemon; the backup never."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    assert who_answers(lab, subnet) == [card_of(subnet, master)]
    kill_daemon(lab, master)
    set_sysctl(lab.machine(master), namespace_of(subnet.id), "ipv4/ip_forward", "0")
    assert who_answers(lab, subnet) == []
    set_sysctl(lab.machine(master), namespace_of(subnet.id), "ipv4/ip_forward", "1")
    assert who_answers(lab, subnet) == [card_of(subnet, master)]


@pytest.mark.parametrize("daemon", ["alive", "dead"])
def test_power_off_of_the_master(egress_lab: Lab, daemon: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The server knows the new master at once, also one whose daemon is dead; the one that returns does not answer."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    assert source_seen(lab, subnet) == egress_of(subnet)
    if daemon == "dead":
        kill_daemon(lab, survivor)
    blackout_ms = power_off(lab, subnet, master)
    with capsys.disabled():
        print(f" [blackout ms: {blackout_ms:.0f}]", end="")  # noqa: T201
    assert blackout_ms < POWER_OFF_LIMIT_MS
    assert open_gates(lab, subnet) == {survivor}
    assert known_to(lab, subnet) == card_of(subnet, survivor)
    assert source_seen(lab, subnet) == egress_of(subnet)
    lab.fault("power-on", master)
    if daemon == "dead":
        lab.fault("power-on", survivor)
    wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
    assert who_answers(lab, subnet) == [card_of(subnet, survivor)]
    assert known_to(lab, subnet) == card_of(subnet, survivor)


@pytest.mark.parametrize(
    "command",
    [
        "ip neigh del proxy {egress} dev eni0",
        "ip route del {egress}/32 dev {tunnel}",
        "sysctl -qw net.ipv4.neigh.eni0.proxy_delay=80; ip neigh del proxy {egress} dev eni0",
        "ip link set eni0 down",
    ],
)
def test_drift_of_the_egress_address_is_repaired(egress_lab: Lab, command: str) -> None:
    """Within two seconds, and counted."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    before = repairs(lab, master)
    script = command.format(egress=egress_of(subnet), tunnel=tunnel_device_of(subnet.id))
    in_namespace(lab, master, subnet, "sh", "-ec", script)
    wait_until(lambda: repairs(lab, master) > before, 3.0, "the repair")
    forget(lab, subnet)
    assert source_seen(lab, subnet) == egress_of(subnet)
    delay = in_namespace(lab, master, subnet, "sysctl", "-n", "net.ipv4.neigh.eni0.proxy_delay").stdout
    assert delay.strip() == "0"


def test_entries_of_others_stay(egress_lab: Lab) -> None:
    """Another proxied address, of whoever made it, is neither answered for nor removed by us."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    backup = other_of(subnet, master_of(lab, subnet))
    before = repairs(lab, backup)
    in_namespace(lab, backup, subnet, "ip", "neigh", "add", "proxy", "172.16.101.250", "dev", "eni0")
    try:
        in_namespace(lab, backup, subnet, "ip", "neigh", "del", "proxy", egress_of(subnet), "dev", "eni0")
        wait_until(lambda: repairs(lab, backup) > before, 3.0, "the repair of ours")
        assert "172.16.101.250" in in_namespace(lab, backup, subnet, "ip", "neigh", "show", "proxy").stdout
    finally:
        in_namespace(lab, backup, subnet, "ip", "neigh", "del", "proxy", "172.16.101.250", "dev", "eni0")


def test_what_has_no_state_is_reset_and_what_is_new_is_dropped(egress_lab: Lab) -> None:
    """Both ends of a connection that was lost; from the customer's side nothing new gets in; the RST that the server
    gets comes from the egress address (the watch of the lab looks at every source).
    """
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
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
                assert time.monotonic() - began < RESET_WITHIN_S
    with pytest.raises(TimeoutError):
        connect(lab, subnet.database, (egress_of(subnet), RESPONDER_PORT), timeout_s=SILENCE_S / PATIENCE)


def test_the_egress_address_of_a_living_pair_is_changed_at_ones_own_risk(egress_lab: Lab) -> None:
    """Taken away and given again, with the risk named; new connections follow, and nothing answers for the old one."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    egress, master = egress_of(subnet), master_of(lab, subnet)
    words = ("pair", "set", subnet.id, PAIR, "--egress-address")
    refused = lab.proxypool(*words, "none", check=False, timeout=60 * PATIENCE)
    assert refused.returncode != 0
    assert "--accept-risk=drop-connections" in refused.stderr
    lab.proxypool(*words, "none", *ACCEPT_ALL[:1], timeout=60 * PATIENCE)
    try:
        wait_until(lambda: source_seen(lab, subnet) == address_of(subnet, master), 10.0, "the ENI's own address")
        assert who_answers(lab, subnet) == []
    finally:
        lab.proxypool(*words, egress, *ACCEPT_ALL[:1], timeout=60 * PATIENCE)
    wait_until(lambda: source_seen(lab, subnet) == egress, 10.0, "the egress address")
    # NAT comes first and the delay of answers last: between them the link to the other member is made.
    wait_until(lambda: asking(lab, subnet) < 0.3 * PATIENCE, 5.0, "an answer without delay", interval_s=0.2)
    assert who_answers(lab, subnet) == [card_of(subnet, master)]


FALSE_CLAIM = """
import socket, sys
from ipaddress import IPv4Address
from proxypool.adapters.announcer import frames
device, address = sys.argv[1:]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
    link.bind((device, 0))
    for frame in frames(link.getsockname()[4], IPv4Address(address)):
        link.send(frame)
"""
BELIEVED_FOR_MS = 30.0 + (220.0 if not IN_GUEST else 1000.0)
"""What the master waits before it answers a claim, and what a busy computer adds. Without an answer it is 2 s at worst: see
`garp_master_refresh`.
"""


def defences(lab: Lab, node: str) -> float:
    """How often a node has said whose a HaVip is."""
    return metrics(lab, node)["proxypool_havip_defences_total"]


def test_a_claim_of_a_member_that_is_not_master_is_answered(egress_lab: Lab, measured: Measured) -> None:
    """A word of the backup, on both sides, and hosts and servers send to it, whose gate is closed: for a moment only."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    backup, before = other_of(subnet, master), defences(lab, master)
    for _ in range(3):
        with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
            time.sleep(0.2)
            program = [sys.executable, "-c", FALSE_CLAIM]
            in_namespace(lab, backup, subnet, *program, "eni0", egress_of(subnet))
            lab.machine(backup).run([*program, "eth0", subnet.havip])
            time.sleep(0.5)
        result = prober.result()
        assert result["lost"] > 0, "nobody believed it: the test proves nothing"
        measured("blackout ms", result["blackout_ms"])
        assert result["blackout_ms"] < BELIEVED_FOR_MS
        time.sleep(1.5)
    assert known_to(lab, subnet) == card_of(subnet, master)
    assert defences(lab, master) == before + 3
    assert master_of(lab, subnet) == master


def test_a_false_alarm_is_no_outage(egress_lab: Lab, measured: Measured) -> None:
    """The backup misses the master and claims the HaVip, and the master does not hear it. Then the backup hears it again."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    master = master_of(lab, subnet)
    backup, before = other_of(subnet, master), defences(lab, master)
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        for node in (master, backup):
            lab.fault("cut-vrrp-in", node)
        wait_until(lambda: masters(lab, subnet) == {master, backup}, 2.0, "both to have the HaVip", interval_s=0.005)
        lab.fault("heal-underlay", backup)
        wait_until(lambda: masters(lab, subnet) == {master}, 2.0, f"{backup} to yield", interval_s=0.005)
        time.sleep(2.5)
        lab.fault("heal-underlay", master)
    measured("blackout ms", prober.result()["blackout_ms"])
    assert prober.result()["blackout_ms"] < BELIEVED_FOR_MS
    assert defences(lab, master) == before + 1
    assert known_to(lab, subnet) == card_of(subnet, master)


def left(lab: Lab) -> int | None:
    """Connections that the pair has, while it drains."""
    found: int | None = status(lab)["subnets"][0]["pairs"][0]["connections_left"]
    return found


def test_a_drain_comes_to_its_end(egress_lab: Lab) -> None:
    """The connection counts that the other member began, and what the members tell each other of it does not."""
    lab, subnet = egress_lab, egress_lab.topology.subnet_plans[0]
    with listen(lab, subnet.database, PORT) as server, connect(lab, "pod1", (subnet.database_ip, PORT)) as client:
        accepted, _ = server.accept()
        with accepted:
            # The members may have met a moment ago, when the egress address was set; then it is told again after a while.
            backup = other_of(subnet, master_of(lab, subnet))
            mine = accepted.getpeername()[1]  # Tests before this one left connections to the same port.
            known = ("sh", "-c", f"conntrack -L -p tcp --reply-port-dst {mine} 2>/dev/null; true")
            wait_until(lambda: in_namespace(lab, backup, subnet, *known).stdout, 60.0, "the other member to know it")
            lab.proxypool("pair", "switchover", subnet.id, PAIR, "--timeout", "60", timeout=60 * PATIENCE)
            wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
            lab.proxypool("pair", "drain", subnet.id, PAIR, *ACCEPT_ALL, timeout=60 * PATIENCE)
            try:
                # What others asked by UDP lives for as long as its timeout.
                forgotten = f"conntrack -D -p udp -d {subnet.database_ip}; true"
                in_namespace(lab, master_of(lab, subnet), subnet, "sh", "-c", forgotten)
                wait_until(lambda: left(lab) == 1, 10.0, lambda: f"one connection; there are {left(lab)}")
                client.close()
                accepted.close()
                wait_until(lambda: left(lab) == 0, 10.0, lambda: f"none; there are {left(lab)}")
            finally:
                lab.proxypool("pair", "undrain", subnet.id, PAIR, timeout=60 * PATIENCE)
