"""Several pairs for one subnet: new connections are shared, each stays where it is, and none hangs when a pair goes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any, Self

import pytest

from proxypool.lab.configs import SERVER_TICK_MS, SESSION_TIMEOUT_S
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import PairPlan, SubnetPlan
from proxypool.lab.prober import Connections
from proxypool.lab.topology import RESPONDER_PORT
from tests.lab.instances import (
    REACHED,
    SILENCE,
    by_pair,
    ip_of,
    shares,
    tracked,
    tracked_tunnel_packets,
    try_all,
    try_tcp,
    try_udp,
    tunnel_of,
)
from tests.lab.observe import (
    ACCEPT_ALL,
    INNER_MTU,
    PATIENCE,
    Sniffer,
    connect,
    datagrams,
    inside,
    kill_daemon,
    listen,
    master_of,
    other_of,
    set_sysctl,
    snmp,
    sysctl,
    undone,
    wait_settled,
    wait_until,
)

pytestmark = [pytest.mark.root]

FLOWS = 3000
PORT = 5001
ICMP, FRAGMENTATION_NEEDED = 1, (3, 4)
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
"""Don't fragment, and don't mind what is known of the path."""
SYN_AGAIN_S = 0.9
"""What takes longer has lost its first SYN: it is sent again after a second."""
UNNOTICED_S = 0.25, 0.45
"""After the death of a pair: its HaVip is asked thrice, each 0.2 s, before the host knows. A SYN of that time is sent again
when it does.
"""
DIED_LATEST_S = SESSION_TIMEOUT_S + SERVER_TICK_MS / 1000 + 3.0
"""Until ZooKeeper has ended the session of a dead node, and the host has acted on it."""
DIED_EARLIEST_S = SESSION_TIMEOUT_S * 2 / 3 - 0.5
"""The last sign of life is at most a third of a session old when a machine dies."""


@pytest.fixture
def subnet(wide: Lab) -> SubnetPlan:
    """The one whose pairs change."""
    return wide.topology.subnet_plans[0]


def pair_command(lab: Lab, *words: str) -> None:
    """`proxypool pair …`."""
    lab.proxypool("pair", *words, timeout=60 * PATIENCE)


def assert_even(found: dict[str, int], wanted: dict[str, float], count: int) -> None:
    """Each pair has its share, within five per cent of it."""
    assert found.keys() == wanted.keys(), found
    for pair, share in wanted.items():
        assert found[pair] == pytest.approx(share * count, rel=0.05), found


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_new_connections_are_shared_evenly(wide: Lab, subnet: SubnetPlan, udp: bool) -> None:  # noqa: FBT001
    """The host remembers each of them once: it knows nothing of the tunnels' own packets, of which each flow has others."""
    assert_even(shares(wide, "pod1", subnet, FLOWS, udp=udp), {"p1": 1 / 3, "p2": 1 / 3, "p3": 1 / 3}, FLOWS)
    assert tracked(wide, "host1", ip_of(wide, "pod1"))
    assert tracked_tunnel_packets(wide, "host1") == []


def test_new_connections_are_shared_by_weight(wide: Lab, subnet: SubnetPlan) -> None:
    """And those that were there before stay where they are. The instance's other subnet is shared as ever."""
    other = wide.topology.subnet_plans[1]
    with Connections(wide, "pod1", subnet.database_ip, count=60) as connections:
        pair_command(wide, "set", subnet.id, "p1", "--weight", "2")
        try:
            wait_until(
                lambda: shares(wide, "pod1-2", subnet, 40) == {"p1": 20, "p2": 10, "p3": 10}, 5.0, "the new weights"
            )
            assert_even(shares(wide, "pod1", subnet, 2000), {"p1": 0.5, "p2": 0.25, "p3": 0.25}, 2000)
            assert_even(shares(wide, "pod1", other, 2100), {"p1": 1 / 3, "p2": 1 / 3, "p3": 1 / 3}, 2100)
        finally:
            pair_command(wide, "set", subnet.id, "p1", "--weight", "1")
        result = connections.result()
    assert (result["alive"], result["broken"]) == (60, {})


def test_a_pair_drains_comes_back_goes_and_comes_anew(wide: Lab, subnet: SubnetPlan) -> None:
    """300 connections live through it. Only those of the pair that is removed end, and these at once."""
    with Connections(wide, "pod1", subnet.database_ip, count=300, alive_within_s=1.0) as connections:
        pair_command(wide, "drain", subnet.id, "p2")
        wait_until(lambda: "p2" not in shares(wide, "pod1-2", subnet, 30), 5.0, "no new connection through p2")
        assert_even(shares(wide, "pod1-2", subnet, 600), {"p1": 0.5, "p3": 0.5}, 600)
        pair_command(wide, "undrain", subnet.id, "p2")
        wait_until(lambda: shares(wide, "pod1-2", subnet, 30).get("p2") == 10, 5.0, "p2 to be back")
        began = time.monotonic()
        pair_command(wide, "remove", subnet.id, "p3", "--yes", *ACCEPT_ALL)
        removed = time.monotonic()
        wait_until(lambda: "p3" not in shares(wide, "pod1-2", subnet, 30), 5.0, "no new connection through p3")
        assert_even(shares(wide, "pod1-2", subnet, 600), {"p1": 0.5, "p2": 0.5}, 600)
        wide.apply_pool()
        wait_settled(wide)
        wait_until(lambda: shares(wide, "pod1-2", subnet, 30).get("p3") == 10, 10.0, "p3 to be back")
        result = connections.result()
    found = by_pair(subnet, result)
    assert {pair: len(records) for pair, records in found.items()} == {"p1": 100, "p2": 100, "p3": 100}
    for pair in ("p1", "p2"):
        assert {record["state"] for record in found[pair]} == {"alive"}, pair
    assert {record["state"] for record in found["p3"]} == {"reset"}
    over = [record["over"] for record in found["p3"]]
    assert began <= min(over)
    assert max(over) < removed + 1.0 * PATIENCE


def test_a_pair_that_has_just_been_added_gets_nothing_before_it_answers(wide: Lab, subnet: SubnetPlan) -> None:
    """Its members need a moment to elect one that claims the HaVip: a SYN sent there meanwhile would be lost."""
    pair_command(wide, "remove", subnet.id, "p3", "--yes", *ACCEPT_ALL)
    wait_until(lambda: "p3" not in shares(wide, "pod1", subnet, 30), 5.0, "no new connection through p3")
    wait_until(lambda: wide.holder(subnet.through("p3")) is None, 10.0, "its members to give up the HaVip")
    time.sleep(1.0)
    adding = threading.Thread(target=wide.apply_pool)
    adding.start()
    outcomes = []
    deadline = time.monotonic() + 15.0 * PATIENCE
    while "p3" not in shares(wide, "pod1-2", subnet, 6) and time.monotonic() < deadline:
        outcomes += [try_tcp(wide, "pod1", subnet.database_ip) for _ in range(50)]
    adding.join()
    wait_settled(wide)
    wait_until(lambda: shares(wide, "pod1-2", subnet, 30).get("p3") == 10, 10.0, "an even share for p3")
    assert len(outcomes) > 200
    assert [one for one in outcomes if one.what != REACHED or one.after_s > SYN_AGAIN_S] == []


class Senders:
    """UDP sockets of an instance that send all the time, as a telemetry client does: none of their flows ever ends."""

    def __init__(self, lab: Lab, pod: str, address: str, count: int) -> None:
        self._lab, self._pod, self._place, self._count = lab, pod, (address, RESPONDER_PORT), count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: inside(lab.machine(pod), None, self._run), name="senders")
        self.heard_at: dict[int, float] = {}
        """Number of the socket -> when its last answer came."""

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: len(self.heard_at) == self._count, 5.0, "each to have an answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            links = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(self._count)]
            for link in links:
                link.setblocking(False)
                link.connect(self._place)
            while not self._stop.wait(0.02):
                for number, link in enumerate(links):
                    with contextlib.suppress(OSError):
                        link.send(b"datagram")
                    with contextlib.suppress(OSError):
                        link.recv(64)
                        self.heard_at[number] = time.monotonic()


def test_datagrams_of_a_removed_pair_go_elsewhere(wide: Lab, subnet: SubnetPlan) -> None:
    """Though they go on without a pause: each flow has answers again within a second."""
    with Senders(wide, "pod1", subnet.database_ip, 60) as senders:
        pair_command(wide, "remove", subnet.id, "p3", "--yes", *ACCEPT_ALL)
        removed = time.monotonic()
        wait_until(lambda: min(senders.heard_at.values()) > removed + 0.5, 2.0, "every flow to have answers again")
        wide.apply_pool()
        wait_settled(wide)
    wait_until(lambda: shares(wide, "pod1-2", subnet, 30).get("p3") == 10, 10.0, "p3 to be back")


def power_off(lab: Lab, subnet: SubnetPlan, pair: PairPlan) -> float:
    """Both members; when the last one was off. The backup goes first, so that nothing fails over in between."""
    one = subnet.through(pair.id)
    master = master_of(lab, one)
    lab.fault(Fault.POWER_OFF, other_of(one, master))
    return lab.fault(Fault.POWER_OFF, master)


def opened_between(result: dict[str, Any], begin: float, end: float) -> list[dict[str, Any]]:
    """Records of connections opened in a span of time."""
    return [record for record in result["connections"] if begin <= record["opened"] < end]


@pytest.mark.timed
def test_a_pair_loses_both_members(wide: Lab, subnet: SubnetPlan) -> None:
    """New connections go elsewhere within a second; also those that began in the second before, as soon as their SYN is
    sent again. Its own are cut when ZooKeeper has confirmed the death, not before; nobody hangs; the others' do not
    notice.
    """
    dead = subnet.pairs[0]
    with (
        Connections(wide, "pod1", subnet.database_ip, count=60, alive_within_s=1.0) as old,
        Connections(
            *(wide, "pod1-2", subnet.database_ip), count=400, rate=50.0, lifetime_s=1.0, replace=True, ready=20
        ) as new,
    ):
        began = power_off(wide, subnet, dead)
        wait_until(lambda: time.monotonic() > began + DIED_LATEST_S, DIED_LATEST_S + 1.0, "time to pass")
        lasting, fresh = old.result(), new.result()
    found = by_pair(subnet, lasting)
    assert {pair: len(records) for pair, records in found.items()} == {"p1": 20, "p2": 20, "p3": 20}
    for pair in ("p2", "p3"):
        assert {record["state"] for record in found[pair]} == {"alive"}, pair
        assert max(record["stall_ms"] for record in found[pair]) < 1000 * PATIENCE
    assert {record["state"] for record in found["p1"]} <= {"reset", "unreachable"}, "a connection hangs"
    over = sorted(record["over"] - began for record in found["p1"])
    print(f" [cut after {over[0]:.1f} to {over[-1]:.1f} s]", end="")  # noqa: T201
    assert over[0] > DIED_EARLIEST_S
    assert over[-1] < DIED_LATEST_S
    early = opened_between(fresh, *(began + after_s for after_s in UNNOTICED_S))
    waits = [(one["established"] or float("inf")) - one["opened"] for one in early]
    assert max(waits) > SYN_AGAIN_S, "a third of them went to the dead pair"
    assert max(waits) < 2 * SYN_AGAIN_S, f"a SYN that was sent again went to the dead pair: {waits}"
    late = opened_between(fresh, began + 1.0, began + DIED_LATEST_S - 1.0)
    assert len(late) > 100
    slow = [
        record for record in late if record["established"] is None or record["established"] > record["opened"] + 0.5
    ]
    assert not slow, f"{len(slow)} of {len(late)} connections, first after {slow[0]['opened'] - began:.2f} s"
    assert dead.id not in {subnet.pair_with(record["source"]) for record in late if record["source"]}


def test_daemons_die_and_nothing_is_cut(wide: Lab, subnet: SubnetPlan) -> None:
    """Both daemons of a pair are gone for longer than their sessions, keepalived goes on: so does all that is there,
    and the pair takes its share of what is new.
    """
    pair = subnet.pairs[0]
    with Connections(wide, "pod1", subnet.database_ip, count=60, alive_within_s=1.0) as connections:
        for member in pair.members:
            kill_daemon(wide, member.node)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + DIED_LATEST_S, DIED_LATEST_S + 1.0, "time to pass")
        assert_even(shares(wide, "pod1-2", subnet, 600), {"p1": 1 / 3, "p2": 1 / 3, "p3": 1 / 3}, 600)
        result = connections.result()
    assert (result["alive"], result["broken"], result["hanging"]) == (60, {}, 0)


def test_a_subnet_loses_its_only_pair(lab: Lab) -> None:
    """Nowhere to go: its connections are told so, and whoever tries is told so at once."""
    subnet = lab.topology.subnet_plans[0]
    with Connections(lab, "pod1", subnet.database_ip, count=30) as connections:
        began = power_off(lab, subnet, subnet.pairs[0])
        wait_until(
            lambda: try_tcp(lab, "pod1", subnet.database_ip).is_refusal, DIED_LATEST_S, "an error instead of silence"
        )
        outcomes = try_all(lab, "pod1", subnet.database_ip)
        assert all(one.is_refusal and one.after_s < 0.5 * PATIENCE for one in outcomes.values()), outcomes
        wait_until(lambda: time.monotonic() > began + DIED_LATEST_S, DIED_LATEST_S + 1.0, "time to pass")
        result = connections.result()
    assert (result["alive"], result["hanging"]) == (0, 0), result["broken"]


def test_a_strict_reverse_path_filter_is_no_hindrance(wide: Lab, subnet: SubnetPlan) -> None:
    """Replies come from a tunnel, and the way back to their source is another one by the main table alone."""
    host = wide.machine("host1")
    before = sysctl(host, None, "ipv4/conf/all/rp_filter")
    even = {"p1": 1 / 3, "p2": 1 / 3, "p3": 1 / 3}
    assert_even(shares(wide, "pod1", subnet, 300), even, 300)
    set_sysctl(host, None, "ipv4/conf/all/rp_filter", "1")
    try:
        assert_even(shares(wide, "pod1", subnet, 300), even, 300)
        assert_even(shares(wide, "pod1", subnet, 300, udp=True), even, 300)
        # A tunnel that is made while the filter is strict.
        host.run(["ip", "link", "del", tunnel_of(subnet)])
        wait_until(lambda: try_tcp(wide, "pod1", subnet.database_ip).what == REACHED, 5.0, "the tunnel to be back")
        assert_even(shares(wide, "pod1", subnet, 300), even, 300)
        # The control: without our word for the marks the filter does drop the replies.
        flag = f"net.ipv4.conf.{tunnel_of(subnet)}.src_valid_mark"
        with undone(wide, "host1", ["sysctl", "-qw", f"{flag}=0"], ["sysctl", "-qw", f"{flag}=1"]):
            assert try_udp(wide, "pod1", subnet.database_ip).what == SILENCE
    finally:
        set_sysctl(host, None, "ipv4/conf/all/rp_filter", before)


def echo(link: socket.socket, size: int) -> None:
    """Take so many bytes, give so many back."""
    with link:
        link.settimeout(30 * PATIENCE)
        take(link, size)
        link.sendall(bytes(size))


def take(link: socket.socket, size: int) -> None:
    """So many bytes, and no less."""
    got = 0
    while got < size:
        data = link.recv(1 << 16)
        assert data, f"closed after {got} of {size} bytes"
        got += len(data)


def test_big_transfers_go_through_every_pair(wide: Lab, subnet: SubnetPlan) -> None:
    """Both ways, in segments that fit the tunnel."""
    size, carriers = 2_000_000, set[str]()
    before = snmp(wide, "host1")
    with listen(wide, subnet.database, PORT) as server:
        for _ in subnet.pairs:
            with connect(wide, "pod1", (subnet.database_ip, PORT)) as client:
                accepted, source = server.accept()
                carriers.add(subnet.pair_with(source[0]))
                other_end = threading.Thread(target=echo, args=(accepted, size))
                other_end.start()
                client.settimeout(30 * PATIENCE)
                client.sendall(bytes(size))
                take(client, size)
                other_end.join()
    assert carriers == {"p1", "p2", "p3"}
    after = snmp(wide, "host1")
    assert {key: after[key] - before[key] for key in ("Ip.FragCreates", "Ip.FragFails", "Ip.ReasmReqds")} == {
        "Ip.FragCreates": 0,
        "Ip.FragFails": 0,
        "Ip.ReasmReqds": 0,
    }


def test_a_packet_that_is_too_big_is_answered_with_the_tunnels_mtu(wide: Lab, subnet: SubnetPlan) -> None:
    """1500 bytes with "don't fragment" from an instance: an ICMP error with what fits, whichever pair it was for."""
    mtu = INNER_MTU[wide.topology.tunnel]
    with (
        Sniffer(wide, "pod1", "eth0", is_wanted=lambda frame: frame.protocol == ICMP) as card,
        datagrams(wide, "pod1") as client,
    ):
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        for port in range(RESPONDER_PORT, RESPONDER_PORT + 3):
            client.sendto(bytes(1500 - 28), (subnet.database_ip, port))
        wait_until(lambda: len(card.frames) >= 3, 3.0, lambda: f"three errors: {card.frames}")
    for frame in card.frames:
        assert tuple(frame.inner[:2]) == FRAGMENTATION_NEEDED
        assert int.from_bytes(frame.inner[6:8]) == mtu
        quoted = frame.inner[8:]
        assert int.from_bytes(quoted[2:4]) == 1500
        assert socket.inet_ntoa(quoted[16:20]) == subnet.database_ip
