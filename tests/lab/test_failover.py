"""A member is lost, or changed on purpose, while packets flow."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections, Prober
from proxypool.lab.topology import PAIR
from tests.lab.observe import (
    IN_GUEST,
    PATIENCE,
    PROBE_MS,
    GateSampler,
    connect,
    epoch_of,
    gate,
    kill_daemon,
    listen,
    master_of,
    masters,
    open_gates,
    other_of,
    said,
    stays,
    unsettled,
    wait_until,
)

pytestmark = [pytest.mark.root, pytest.mark.failover]

POWER_OFF_LIMIT_MS = 5000.0 if IN_GUEST else 1000.0
"""Of the blackout: 50 ms adverts make some 130 ms on an idle computer."""
PLANNED_LIMIT_MS = 2000.0 if IN_GUEST else 200.0
RETURN_LIMIT_MS = 2000.0 if IN_GUEST else 200.0
OVERLAP_LIMIT_S = 1.0 * PATIENCE
"""Two open gates at once: for as long as it takes to notice, where nobody says goodbye."""
CONNECTIONS = 20 if IN_GUEST else 50
PORTS = (5003, 5004)
RESET_WITHIN_S = 1.0 * PATIENCE
FORGOTTEN_AFTER_S = 2.0
"""A member that is no longer master looks once a second whether it is to forget."""


Measured = Callable[[str, float], None]


def prober(lab: Lab, subnet: SubnetPlan, **options: Any) -> Prober:
    """From the first instance; 1 ms natively."""
    options.setdefault("answer_timeout_s", 10.0 * PATIENCE)
    return Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS, **options)


@contextlib.contextmanager
def recovering(lab: Lab, subnet: SubnetPlan) -> Iterator[Prober]:
    """A prober that ends when answers have come for a while after a gap; the block breaks something."""
    with prober(lab, subnet, until_recovered_s=0.5) as running:
        yield running
        running.wait(30.0 * PATIENCE)


def has_taken_over(lab: Lab, subnet: SubnetPlan, node: str) -> bool:
    """Whether a node, and it alone, has the HaVip and an open gate."""
    return masters(lab, subnet) == {node} == open_gates(lab, subnet)


def wait_takeover(lab: Lab, subnet: SubnetPlan, node: str, timeout_s: float = 3.0) -> None:
    """Until `has_taken_over`."""
    wait_until(
        lambda: has_taken_over(lab, subnet, node),
        timeout_s,
        lambda: f"{node} alone; HaVip on {masters(lab, subnet)}, gate open on {open_gates(lab, subnet)}",
    )


def test_power_off_of_the_master(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """Traffic is back within a second through the other member. Connections, whose state is lost with MASQUERADE, end
    with a reset; none hangs. The election confirms the new master, with a higher epoch.
    """
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    epoch = epoch_of(lab, subnet)
    with Connections(
        lab, "pod1", subnet.database_ip, count=CONNECTIONS, alive_within_s=2.0, answer_timeout_s=10.0 * PATIENCE
    ) as talks:
        with recovering(lab, subnet) as running:
            lab.fault("power-off", master)
        blackout_ms = running.result()["blackout_ms"]
        measured("blackout ms", blackout_ms)
        assert masters(lab, subnet) == open_gates(lab, subnet) == {survivor}
        time.sleep(2.5)  # a connection that has had no answer for longer than two seconds hangs
    seen = talks.result()
    assert blackout_ms < POWER_OFF_LIMIT_MS
    assert seen["established"] == CONNECTIONS
    assert (seen["alive"], seen["hanging"], seen["broken"]) == (0, 0, {"reset": CONNECTIONS})
    for other in lab.topology.subnet_plans:
        assert masters(lab, other) == open_gates(lab, other) == {survivor}

    def is_confirmed() -> bool:
        now = said(lab, survivor, subnet)
        return now is not None and now.elected and now.epoch > epoch

    wait_until(is_confirmed, 2 * SESSION_TIMEOUT_S, "the election to confirm the new master")


@contextlib.contextmanager
def talk(lab: Lab, subnet: SubnetPlan, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """An established connection: the instance's end and the server's."""
    with listen(lab, subnet.database, port) as server, connect(lab, "pod1", (subnet.database_ip, port)) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"one")
            assert accepted.recv(64) == b"one"
            for end in (client, accepted):
                end.settimeout(20.0 * PATIENCE)
            yield client, accepted


def wait_for_reset(end: socket.socket) -> float:
    """Send a word on a connection that is lost; how long the reset took, in seconds."""
    began = time.monotonic()
    end.sendall(b"two")
    with pytest.raises(ConnectionResetError):
        end.recv(64)
    return time.monotonic() - began


def test_lost_connections_are_reset_whoever_speaks_after_a_planned_change(lab: Lab, subnet: SubnetPlan) -> None:
    """Without an egress address. The instance's packet comes to the new master, the server's to the old one, which is
    alive and has forgotten the connection.
    """
    with talk(lab, subnet, PORTS[0]) as (client, _), talk(lab, subnet, PORTS[1]) as (_, server):
        lab.proxypool("pair", "switchover", subnet.id, PAIR, "--timeout", "60", timeout=60.0 * PATIENCE)
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
        assert wait_for_reset(client) < RESET_WITHIN_S
        time.sleep(FORGOTTEN_AFTER_S)
        assert wait_for_reset(server) < RESET_WITHIN_S


def test_lost_connections_are_reset_after_a_power_off(lab: Lab, subnet: SubnetPlan) -> None:
    """Without an egress address. Instances are told with their next packet. What the server sends goes to a card that is
    gone, and nobody else may speak with its address: it is told when the member is back.
    """
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    with talk(lab, subnet, PORTS[0]) as (client, _), talk(lab, subnet, PORTS[1]) as (_, server):
        lab.fault("power-off", master)
        wait_takeover(lab, subnet, survivor)
        assert wait_for_reset(client) < RESET_WITHIN_S
        server.sendall(b"two")
        lab.fault("power-on", master)
        with pytest.raises(ConnectionResetError):
            server.recv(64)


def test_a_member_that_returns_disturbs_nobody(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """It becomes backup; the new master stays. It is programmed again from nothing, and ready to take over. Its keepalived
    finds its directories, so nobody has it read its files again before it has listened for a while.
    """
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    said_before = len(lab.machine(master).log("keepalived"))
    with recovering(lab, subnet):
        lab.fault("power-off", master)
    wait_until(
        lambda: (now := said(lab, survivor, subnet)) and now.elected, 2 * SESSION_TIMEOUT_S, f"{survivor} to be elected"
    )
    with prober(lab, subnet) as running, GateSampler(lab, subnet, only=survivor) as gates:
        lab.fault("power-on", master)
        wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
        assert has_taken_over(lab, subnet, survivor)
    result = running.result()
    measured("worst gap ms", result["blackout_ms"])
    assert result["blackout_ms"] < RETURN_LIMIT_MS
    assert gates.longest_closed_s < 0.1
    words = lab.machine(master).log("keepalived")[said_before:]
    assert "Starting Keepalived" in words
    assert "Entering MASTER" not in words
    assert "Reloading" not in words


def test_a_member_that_returns_before_it_is_missed_disturbs_nobody(
    lab: Lab, subnet: SubnetPlan, measured: Measured
) -> None:
    """Its session is still there when it is back, and it is still elected: it may take the HaVip back, once it can
    serve, with no more of a gap than a planned change.
    """
    master = master_of(lab, subnet)
    with recovering(lab, subnet):
        lab.fault("power-off", master)
    with prober(lab, subnet) as running:
        lab.fault("power-on", master)
        wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
    measured("worst gap ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < PLANNED_LIMIT_MS


def test_switchover_back_and_forth(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """Each is over in milliseconds; each has a higher epoch; the other subnet's pair stays where it is."""
    first = master_of(lab, subnet)
    other_subnet = lab.topology.subnet_plans[1]
    elsewhere = master_of(lab, other_subnet)
    for wanted in (other_of(subnet, first), first):
        epoch = epoch_of(lab, subnet)
        with prober(lab, subnet) as running, GateSampler(lab, subnet) as gates:
            lab.proxypool("pair", "switchover", subnet.id, PAIR, "--timeout", "60", timeout=60.0 * PATIENCE)
            wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
            assert has_taken_over(lab, subnet, wanted)
        blackout_ms = running.result()["blackout_ms"]
        measured("blackout ms", blackout_ms)
        measured("two gates ms", gates.longest_overlap_s * 1e3)
        assert blackout_ms < PLANNED_LIMIT_MS
        assert gates.longest_overlap_s < 0.1 * PATIENCE
        assert epoch_of(lab, subnet) > epoch
    assert master_of(lab, other_subnet) == elsewhere


def test_takeover_with_the_survivors_daemon_dead(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """keepalived's notify line opens the gate. The daemon finds all in order when it is back, and closes nothing."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    kill_daemon(lab, survivor)
    with recovering(lab, subnet) as running:
        lab.fault("power-off", master)
    measured("blackout ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < POWER_OFF_LIMIT_MS
    assert has_taken_over(lab, subnet, survivor)
    with prober(lab, subnet) as again:
        lab.fault("power-on", survivor)
        wait_until(lambda: said(lab, survivor, subnet), 15.0, "the daemon to be back")
        wait_until(lambda: (now := said(lab, survivor, subnet)) and now.role == "master", 10.0, "it to say so")
    assert again.result()["lost"] == 0


@pytest.mark.parametrize("outage", ["pause", "power-off"])
def test_an_outage_of_zookeeper_stops_nothing(lab: Lab, subnet: SubnetPlan, outage: str, measured: Measured) -> None:
    """No packet is lost for longer than a session lives; a master that is lost meanwhile is replaced all the same."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    with prober(lab, subnet) as running:
        lab.fault(outage, "zk1")
        stays(lambda: has_taken_over(lab, subnet, master), SESSION_TIMEOUT_S + 1.5, f"{master} serves alone")
    assert running.result()["lost"] == 0
    with recovering(lab, subnet) as running:
        lab.fault("power-off", master)
    measured("blackout ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < POWER_OFF_LIMIT_MS
    assert has_taken_over(lab, subnet, survivor)


def test_the_masters_keepalived_is_killed(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """The backup takes over; what the dead keepalived left, HaVip and open gate, its daemon takes away."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    with GateSampler(lab, subnet) as gates, prober(lab, subnet) as running:
        lab.fault("kill-keepalived", master)
        wait_takeover(lab, subnet, survivor, 5.0)
    measured("blackout ms", running.result()["blackout_ms"])
    measured("two gates ms", gates.longest_overlap_s * 1e3)
    assert running.result()["blackout_ms"] < POWER_OFF_LIMIT_MS
    assert gates.longest_overlap_s < OVERLAP_LIMIT_S
    wait_until(
        lambda: (seen := said(lab, master, subnet)) is not None and (seen.role, seen.fit) == ("fault", False),
        3.0,
        f"{master} to say that it cannot serve",
    )


def test_the_masters_underlay_is_cut_for_long_and_healed(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """The other member takes over and is elected; after the cable is back it stays, and it alone is master."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    with recovering(lab, subnet) as running:
        lab.fault("cut-underlay", master)
    measured("blackout ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < POWER_OFF_LIMIT_MS
    wait_takeover(lab, subnet, survivor)
    wait_until(
        lambda: (now := said(lab, survivor, subnet)) and now.elected, 2 * SESSION_TIMEOUT_S, f"{survivor} to be elected"
    )
    with prober(lab, subnet) as running:
        lab.fault("heal-underlay", master)
        wait_until(lambda: not unsettled(lab, subnet), 15.0, lambda: unsettled(lab, subnet))
        assert has_taken_over(lab, subnet, survivor)
    measured("worst gap ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < RETURN_LIMIT_MS


def test_the_masters_underlay_is_cut_for_a_moment(lab: Lab, subnet: SubnetPlan) -> None:
    """Its session survives, so it is still elected: in the end there is one master, the elected one."""
    master = master_of(lab, subnet)
    with recovering(lab, subnet):
        lab.fault("cut-underlay", master)
    lab.fault("heal-underlay", master)
    wait_until(lambda: not unsettled(lab, subnet), 15.0, lambda: unsettled(lab, subnet))


def test_two_members_that_do_not_hear_each_other(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """VRRP is filtered both ways, ZooKeeper is not: both claim the HaVip, and the one that is not elected stands aside
    within the session timeout (and a second). When they hear each other again all is as before.
    """
    master = master_of(lab, subnet)
    deaf = ["iptables-legacy", "-I", "INPUT", "-p", "112", "-j", "DROP"]
    hearing = ["iptables-legacy", "-D", "INPUT", "-p", "112", "-j", "DROP"]
    try:
        with GateSampler(lab, subnet) as gates:
            for member in subnet.members:
                lab.machine(member.node).run(deaf)
            wait_until(lambda: len(open_gates(lab, subnet)) == 2, 5.0, "both to be master")
            wait_takeover(lab, subnet, master, SESSION_TIMEOUT_S + 3.0)
            stays(lambda: has_taken_over(lab, subnet, master), 1.0, "one master")
    finally:
        for member in subnet.members:
            lab.machine(member.node).run(hearing, check=False)
    measured("two gates ms", gates.longest_overlap_s * 1e3)
    assert gates.longest_overlap_s < SESSION_TIMEOUT_S + 1.0 * PATIENCE
    with prober(lab, subnet) as running:
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    assert running.result()["blackout_ms"] < RETURN_LIMIT_MS
    assert has_taken_over(lab, subnet, master)


def test_both_members_are_powered_off_and_on(lab: Lab, subnet: SubnetPlan) -> None:
    """Nothing is served, then everything is again, by one of them."""
    for member in subnet.members:
        lab.fault("power-off", member.node)
    assert not open_gates(lab, subnet)
    for member in subnet.members:
        lab.fault("power-on", member.node)
    lab.wait_ready(20.0 * PATIENCE)
    for each in lab.topology.subnet_plans:
        wait_until(lambda each=each: not unsettled(lab, each), 15.0, lambda each=each: unsettled(lab, each))  # type: ignore[misc]


def test_power_off_of_the_backup_is_not_noticed(lab: Lab, subnet: SubnetPlan) -> None:
    """Not one packet is lost, and the gate stays open."""
    master = master_of(lab, subnet)
    with prober(lab, subnet) as running:
        lab.fault("power-off", other_of(subnet, master))
        stays(lambda: bool(gate(lab, master, subnet)), 1.0, "the gate is open")
    assert running.result()["lost"] == 0
