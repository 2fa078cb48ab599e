"""What may move a role, and what may not: health, damping, sessions, pauses, mode strict."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from proxypool.lab import processes
from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.lab import Lab
from proxypool.lab.namespaces import in_network_of
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import PAIR, fabric_port, mac_of
from tests.lab.conftest import Keeper, keep
from tests.lab.observe import (
    IN_GUEST,
    PATIENCE,
    PROBE_MS,
    fabric_pid,
    in_namespace,
    master_of,
    masters,
    metrics,
    open_gates,
    other_of,
    said,
    status,
    stays,
    unsettled,
    wait_until,
)

pytestmark = [pytest.mark.root, pytest.mark.failover]

MOVE_LIMIT_MS = 5000.0 if IN_GUEST else 1000.0
PROBED_LIMIT_MS = 8000.0 if IN_GUEST else 3000.0
"""Three probes of half a second, and the change."""
PLANNED_LIMIT_MS = 2000.0 if IN_GUEST else 200.0
RETURNED_LIMIT_S = 4.0 * PATIENCE
Measured = Callable[[str, float], None]


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The one that is watched."""
    return lab.topology.subnet_plans[0]


def prober(lab: Lab, subnet: SubnetPlan) -> Prober:
    """From the first instance."""
    return Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS, answer_timeout_s=10.0 * PATIENCE)


def serves_alone(lab: Lab, subnet: SubnetPlan, node: str) -> bool:
    """Whether a node, and it alone, has the HaVip and an open gate."""
    return masters(lab, subnet) == {node} == open_gates(lab, subnet)


def wait_serves(lab: Lab, subnet: SubnetPlan, node: str, timeout_s: float) -> None:
    """Until `serves_alone`."""
    wait_until(
        lambda: serves_alone(lab, subnet, node),
        timeout_s,
        lambda: f"{node} alone; HaVip on {masters(lab, subnet)}, gate open on {open_gates(lab, subnet)}",
    )


def health(lab: Lab, node: str, subnet: SubnetPlan) -> dict[str, object]:
    """What `proxypool status` says of a member."""
    document = json.loads(lab.proxypool("status", subnet.id, "-o", "json", check=False, timeout=30 * PATIENCE).stdout)
    (one,) = document["subnets"]
    return next(member for member in one["pairs"][0]["members"] if member["node"] == node)


def pair(lab: Lab, verb: str, subnet: SubnetPlan, *options: str, check: bool = True) -> str:
    """`proxypool pair …`; what it prints."""
    node = next(name for name in lab.topology.node_names if lab.machine(name).is_on)
    done = lab.proxypool("pair", verb, subnet.id, PAIR, *options, on=node, check=check, timeout=60 * PATIENCE)
    return done.stdout + done.stderr


def in_fabric(lab: Lab, *command: str) -> None:
    """Run `ip …` where the bridges are."""
    in_network_of(fabric_pid(lab), lambda: subprocess.run(["ip", *command], check=True, capture_output=True))


@contextlib.contextmanager
def unplugged(lab: Lab, ports: dict[str, str]) -> Iterator[None]:
    """Ports that leave their bridges: no frame passes, and no carrier is lost."""
    for port in ports:
        in_fabric(lab, "link", "set", port, "nomaster")
    try:
        yield
    finally:
        for port, bridge in ports.items():
            in_fabric(lab, "link", "set", port, "master", bridge)


def eni_port(subnet: SubnetPlan, node: str) -> dict[str, str]:
    """The fabric's end of a member's ENI, and its bridge."""
    eni = next(member.eni for member in subnet.members if member.node == node)
    return {fabric_port(node, eni): subnet.bridge}


@contextlib.contextmanager
def probing(lab: Lab, subnet: SubnetPlan) -> Iterator[None]:
    """Both members ask the database through their ENIs."""
    pair(lab, "set", subnet, "--probe", subnet.database_ip)
    try:
        for member in subnet.members:
            series = f'proxypool_egress_probe_up{{pair="{PAIR}",subnet="{subnet.id}"}}'
            wait_until(
                lambda node=member.node, series=series: metrics(lab, node).get(series) == 1.0,  # type: ignore[misc]
                5.0,
                f"the probe of {member.node} to be answered",
            )
        yield
    finally:
        pair(lab, "set", subnet, "--probe", "none")


def test_a_switchover_to_a_member_that_has_just_returned(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """Its keepalived claims nothing for two seconds after its start: until then the old master goes on, as ever."""
    master = master_of(lab, subnet)
    backup = other_of(subnet, master)
    lab.fault("power-off", backup)
    lab.fault("power-on", backup)
    wait_until(
        lambda: (now := said(lab, backup, subnet)) and now.fit and now.role == "backup", 10.0, f"{backup} to be well"
    )
    with prober(lab, subnet) as running:
        began = time.monotonic()
        pair(lab, "switchover", subnet, "--to", backup)
        wait_serves(lab, subnet, backup, 3.0)
        took_s = time.monotonic() - began
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    measured("took s", took_s)
    measured("worst gap ms", running.result()["blackout_ms"])
    assert took_s < RETURNED_LIMIT_S
    assert running.result()["blackout_ms"] < PLANNED_LIMIT_MS


def test_the_masters_eni_is_cut(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """The kernel tells of the carrier at once. When it is back the member is a backup, and held back for a moment."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    with prober(lab, subnet) as running:
        lab.fault("cut-eni", master, subnet=subnet.id)
        wait_serves(lab, subnet, survivor, 3.0)
        assert health(lab, master, subnet)["health"] == ["eni-down"]
        time.sleep(0.2)
    measured("blackout ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < MOVE_LIMIT_MS
    with prober(lab, subnet) as running:
        lab.fault("heal-eni", master, subnet=subnet.id)
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
        assert serves_alone(lab, subnet, survivor)
    assert running.result()["lost"] == 0


def test_the_masters_eni_is_removed(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """Its other subnets go on with what they have. A new card of the same name is taken into use; who knew its address
    with the MAC of the old one is told.
    """
    master = master_of(lab, subnet)
    other = lab.topology.subnet_plans[1]
    elsewhere = master_of(lab, other)
    with prober(lab, subnet) as running:
        in_namespace(lab, master, subnet, "ip", "link", "del", "eni0")
        wait_serves(lab, subnet, other_of(subnet, master), 3.0)
        time.sleep(0.2)
    measured("blackout ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < MOVE_LIMIT_MS
    assert master_of(lab, other) == elsewhere
    own = next(member for member in subnet.members if member.node == master)
    database, address = lab.machine(subnet.database), own.address.partition("/")[0]
    database.run(["ip", "neigh", "replace", address, "lladdr", mac_of(master, own.eni), "dev", "eth0", "nud", "stale"])
    eni, new_mac = own.eni, "02:00:00:00:0e:77"
    far = ("peer", "name", eni, "address", new_mac, "netns", str(lab.machine(master).pid))
    in_fabric(lab, "link", "add", fabric_port(master, eni), "up", "master", subnet.bridge, "type", "veth", *far)
    wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
    assert serves_alone(lab, subnet, other_of(subnet, master))
    wait_until(
        lambda: new_mac in database.run(["ip", "neigh", "show", address, "dev", "eth0"]).stdout,
        5.0,
        "a server to know the new card",
    )


def test_a_gateway_that_is_silent_for_the_master_only(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """No carrier is lost; its probes are not answered, the other member's are."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    with probing(lab, subnet):
        with prober(lab, subnet) as running:
            with unplugged(lab, eni_port(subnet, master)):
                wait_serves(lab, subnet, survivor, 6.0)
                assert health(lab, master, subnet)["health"] == ["gateway-unreachable"]
                time.sleep(0.2)
            wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
            assert serves_alone(lab, subnet, survivor)
        measured("blackout ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < PROBED_LIMIT_MS


@pytest.mark.long
def test_a_gateway_that_is_silent_for_both_moves_nothing(lab: Lab, subnet: SubnetPlan) -> None:
    """Neither when it falls silent nor when it is back."""
    master = master_of(lab, subnet)
    gateway = {fabric_port(subnet.database, "eth0"): subnet.bridge}
    with probing(lab, subnet):
        with unplugged(lab, gateway):
            for member in subnet.members:
                wait_until(
                    lambda node=member.node: (seen := said(lab, node, subnet)) is not None and not seen.fit,  # type: ignore[misc]
                    5.0,
                    f"{member.node} to miss the gateway",
                )
                assert serves_alone(lab, subnet, master)
            stays(lambda: serves_alone(lab, subnet, master), 1.5, f"{master} serves")
        stays(lambda: serves_alone(lab, subnet, master), 3.0, f"{master} serves")
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
        assert serves_alone(lab, subnet, master)


def test_a_paused_pair_stays_where_it_is(lab: Lab, subnet: SubnetPlan) -> None:
    """Its master's ENI is cut and nothing moves; `resume` moves it. A switchover is refused meanwhile."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    assert "would pause" in pair(lab, "pause", subnet, "--dry-run")
    pair(lab, "pause", subnet)
    try:
        assert "is paused already" in pair(lab, "pause", subnet)
        time.sleep(0.5)
        lab.fault("cut-eni", master, subnet=subnet.id)
        stays(lambda: serves_alone(lab, subnet, master), 2.0, f"{master} serves")
        assert "is paused: end that first" in pair(lab, "switchover", subnet, check=False)
        assert "PP019 paused" in lab.proxypool("status", check=False, timeout=30 * PATIENCE).stdout
    finally:
        pair(lab, "resume", subnet)
    wait_serves(lab, subnet, survivor, 3.0)
    assert "is not paused" in pair(lab, "resume", subnet)


def damped(lab: Lab, subnet: SubnetPlan) -> list[str]:
    """Members that are held back for what other tests made them do: one of them would not stay master here."""
    pairs = next(one for one in status(lab)["subnets"] if one["id"] == subnet.id)["pairs"]
    return [member["node"] for member in pairs[0]["members"] if member["damped_until"] is not None]


def test_the_masters_keepalived_stands_still(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """Alive, and of no more use than a dead one: the HaVip and the gate that it left are taken away, and it begins anew
    when it goes on.
    """
    wait_until(lambda: not damped(lab, subnet), 60.0, lambda: f"nobody to be held back: {damped(lab, subnet)}")
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    stopped = [found for found in lab.machine(master).processes() if found.service == "keepalived"]
    with prober(lab, subnet) as running:
        for process in stopped:
            processes.send(process, signal.SIGSTOP)
        try:
            wait_serves(lab, subnet, survivor, 5.0)
            time.sleep(0.2)
        finally:
            for process in stopped:
                processes.send(process, signal.SIGCONT)
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
        assert serves_alone(lab, subnet, survivor)
    measured("blackout ms", running.result()["blackout_ms"])
    assert running.result()["blackout_ms"] < MOVE_LIMIT_MS


def daemon_of(lab: Lab, node: str) -> processes.Process:
    """The node daemon's process."""
    found = lab.machine(node).service_process("daemon")
    assert found is not None
    return found


def is_elected(lab: Lab, node: str, subnet: SubnetPlan) -> bool:
    """As the member itself knows."""
    seen = said(lab, node, subnet)
    return seen is not None and seen.elected


@pytest.fixture(scope="module")
def many_keeper() -> Iterator[Keeper]:
    """For the lab with many pairs on two nodes."""
    yield from keep(Keeper(f"many-{os.getpid()}", hosts=1, subnets=4 if IN_GUEST else 20, attach_all=True))


@pytest.mark.long
def test_sessions_that_end_move_nothing(many_keeper: Keeper, measured: Measured) -> None:
    """The daemon of a node stands still for longer than its session lives: all its pairs lose their candidates, and
    none its master. When it goes on, the elections follow the masters.
    """
    lab, _ = many_keeper.get()
    plans = lab.topology.subnet_plans
    before = {plan.id: master_of(lab, plan) for plan in plans}
    frozen = next(iter(before.values()))
    expired = [plan for plan in plans if before[plan.id] == frozen]
    with prober(lab, expired[0]) as running:
        processes.send(daemon_of(lab, frozen), signal.SIGSTOP)
        try:
            other = other_of(expired[0], frozen)
            for plan in expired:
                wait_until(partial(is_elected, lab, other, plan), 15.0, f"{plan.id} elects {other}")
        finally:
            processes.send(daemon_of(lab, frozen), signal.SIGCONT)
        for plan in plans:
            look = partial(unsettled, lab, plan)
            wait_until(lambda look=look: not look(), 20.0, look)  # type: ignore[misc]
    moved = [plan.id for plan in plans if master_of(lab, plan) != before[plan.id]]
    measured("pairs", len(expired))
    measured("moved", len(moved))
    assert len(expired) >= len(plans) // 4
    assert moved == []
    assert running.result()["lost"] == 0


def test_zookeeper_that_forgets_all_sessions_moves_nothing(many_keeper: Keeper) -> None:
    """Both daemons stand still, and all sessions end: afterwards any candidate may be the first."""
    lab, _ = many_keeper.get()
    plans = lab.topology.subnet_plans
    before = {plan.id: master_of(lab, plan) for plan in plans}
    nodes = lab.topology.node_names
    with prober(lab, plans[0]) as running:
        for node in nodes:
            processes.send(daemon_of(lab, node), signal.SIGSTOP)
        try:
            time.sleep(SESSION_TIMEOUT_S * 1.5 + 1.0)
        finally:
            for node in reversed(nodes):
                processes.send(daemon_of(lab, node), signal.SIGCONT)
        for plan in plans:
            look = partial(unsettled, lab, plan)
            wait_until(lambda look=look: not look(), 20.0, look)  # type: ignore[misc]
    assert {plan.id: master_of(lab, plan) for plan in plans} == before
    assert running.result()["lost"] == 0


@contextlib.contextmanager
def strict(lab: Lab, subnet: SubnetPlan) -> Iterator[None]:
    """The pair is in mode strict, and settled in it."""
    pair(lab, "set", subnet, "--mode", "strict")
    try:
        wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
        yield
    finally:
        pair(lab, "set", subnet, "--mode", "fast")


def forwards(lab: Lab, node: str, subnet: SubnetPlan) -> bool:
    """Whether packets get through, as the kernel would decide: the gate is open and the lease has not run out."""
    machine = lab.machine(node)
    if not machine.is_on or node not in open_gates(lab, subnet):
        return False
    return in_namespace(lab, node, subnet, "ipset", "list", "pp-lease").stdout.count(" timeout ") > 1


def watch_forwarding(lab: Lab, subnet: SubnetPlan, until: Callable[[], bool], timeout_s: float) -> float:
    """Look all the time, until something is so; never may both forward. How long that took."""
    began = time.monotonic()
    while not until():
        both = [member.node for member in subnet.members if forwards(lab, member.node, subnet)]
        assert len(both) <= 1, f"both forward after {time.monotonic() - began:.1f} s"
        assert time.monotonic() < began + timeout_s * PATIENCE, f"{both} forward"
    return time.monotonic() - began


@pytest.mark.long
def test_strict_loses_no_packet_while_all_is_well(lab: Lab, subnet: SubnetPlan) -> None:
    """Leases are renewed in time; a switchover comes to its end."""
    with strict(lab, subnet):
        master = master_of(lab, subnet)
        with prober(lab, subnet) as running:
            time.sleep(6.0)
        assert running.result()["lost"] == 0
        pair(lab, "switchover", subnet, "--timeout", "30")
        wait_serves(lab, subnet, other_of(subnet, master), 5.0)


def test_strict_power_off(lab: Lab, subnet: SubnetPlan, measured: Measured) -> None:
    """The backup waits for the election, and then for the lease."""
    with strict(lab, subnet):
        master = master_of(lab, subnet)
        survivor = other_of(subnet, master)
        lab.fault("power-off", master)
        took_s = watch_forwarding(lab, subnet, lambda: forwards(lab, survivor, subnet), 15.0)
        measured("outage ms", took_s * 1e3)


def test_strict_two_that_do_not_hear_each_other_never_both_forward(lab: Lab, subnet: SubnetPlan) -> None:
    """VRRP is filtered, ZooKeeper is not: the one that is not elected stays aside."""
    with strict(lab, subnet):
        master = master_of(lab, subnet)
        rule = ["INPUT", "-p", "112", "-j", "DROP"]
        try:
            for member in subnet.members:
                lab.machine(member.node).run(["iptables-legacy", "-I", *rule])
            end = time.monotonic() + SESSION_TIMEOUT_S + 2.0
            watch_forwarding(lab, subnet, lambda: time.monotonic() > end, 20.0)
            assert serves_alone(lab, subnet, master)
        finally:
            for member in subnet.members:
                lab.machine(member.node).run(["iptables-legacy", "-D", *rule], check=False)


@pytest.mark.long
def test_strict_a_master_that_stands_still_is_closed_by_its_kernel(
    lab: Lab, subnet: SubnetPlan, measured: Measured
) -> None:
    """Daemon and keepalived are stopped: the HaVip and the gate stay as they are, and no packet passes once the other
    member serves.
    """
    with strict(lab, subnet):
        master = master_of(lab, subnet)
        survivor = other_of(subnet, master)
        lab.fault("pause", master)
        try:
            took_s = watch_forwarding(lab, subnet, lambda: forwards(lab, survivor, subnet), 20.0)
            measured("outage ms", took_s * 1e3)
            assert master in open_gates(lab, subnet)
            assert not forwards(lab, master, subnet)
        finally:
            lab.fault("resume", master)
        wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
        assert serves_alone(lab, subnet, survivor)
