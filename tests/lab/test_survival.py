"""Connections of a pair with an egress address go on through failovers, whatever became of conntrackd before."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool.core.addressing import namespace_of, sync_device_of
from proxypool.core.blocking import Blocked
from proxypool.core.sync_link import SYNC_NETWORK
from proxypool.lab import processes
from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.lab import Lab
from proxypool.lab.machine import Machine
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections
from proxypool.lab.topology import PAIR
from tests.lab.attacker import PORT, SEEN_WITHIN_S, UDP, Place, counted, ipv4, over_the_link, send, udp
from tests.lab.conftest import Keeper, keep, lend
from tests.lab.observe import (
    ACCEPT_ALL,
    IN_GUEST,
    PATIENCE,
    in_namespace,
    kill_daemon,
    master_of,
    metrics,
    other_of,
    picture,
    repairs,
    said,
    unsettled,
    wait_until,
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.failover,
    pytest.mark.skipif(not shutil.which("conntrackd"), reason="needs conntrackd: apt-get install conntrackd"),
]

COUNT = 20 if IN_GUEST else 200
TRAVELS_S = 0.3 * PATIENCE
"""What is established is on the other member within milliseconds; an idle computer needs none of this."""
TALK_S = 2.0
HANGS_S = 30.0
"""Until one that does not answer is replaced: two looks at the most 10 s apart, 5 s of patience each."""


@pytest.fixture(scope="module")
def survival_keeper() -> Iterator[Keeper]:
    """For the lab whose pairs have egress addresses."""
    yield from keep(Keeper(f"survive-{os.getpid()}", hosts=1, subnets=1, egress=True, attach_all=True))


@pytest.fixture
def lab(survival_keeper: Keeper, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two nodes, a host, one subnet whose pair has an egress address: in step with each other."""
    for lab in lend(survival_keeper, request):
        wait_in_step(lab, lab.topology.subnet_plans[0])
        yield lab


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The only one."""
    return lab.topology.subnet_plans[0]


def sync_of(lab: Lab, node: str, what: str, **labels: str) -> float:
    """A metric of the sync of the only pair."""
    wanted = {**labels, "pair": PAIR}
    for series, value in metrics(lab, node).items():
        if series.startswith(f"proxypool_state_sync_{what}") and all(f'{k}="{v}"' in series for k, v in wanted.items()):
            return value
    return 0.0


def conntrackd_of(machine: Machine) -> list[processes.Process]:
    return [process for process in machine.processes() if process.service == "conntrackd"]


def wait_in_step(lab: Lab, subnet: SubnetPlan) -> None:
    """Until both members run conntrackd and hear each other."""
    nodes = [member.node for member in subnet.members]
    wait_until(
        lambda: all(sync_of(lab, node, "up") == 1.0 for node in nodes),
        HANGS_S,
        lambda: f"state sync up: {[sync_of(lab, node, 'up') for node in nodes]}",
        interval_s=0.1,
    )


@contextlib.contextmanager
def talking(lab: Lab, subnet: SubnetPlan) -> Iterator[dict[str, Any]]:
    """Connections that talk all the time; afterwards what became of them, without the list of each."""
    seen: dict[str, Any] = {}
    with Connections(
        lab,
        "pod1",
        subnet.database_ip,
        count=COUNT,
        alive_within_s=TALK_S * PATIENCE,
        answer_timeout_s=10.0 * PATIENCE,
    ) as talks:
        time.sleep(TRAVELS_S)
        yield seen
        # One that has had no answer for longer than this hangs.
        time.sleep(TALK_S * PATIENCE + 0.5)
    seen.update(talks.result())
    seen.pop("connections")


def power_off(lab: Lab, subnet: SubnetPlan) -> str:
    """Of the master; returns its name when the other one is elected, so that its return disturbs nobody."""
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    lab.fault("power-off", master)
    wait_until(
        lambda: (now := said(lab, survivor, subnet)) and now.elected, 2 * SESSION_TIMEOUT_S, f"{survivor} to be elected"
    )
    return master


def power_on(lab: Lab, subnet: SubnetPlan, node: str) -> None:
    """And wait until it is a backup that could take over with all connections."""
    lab.fault("power-on", node)
    wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
    wait_in_step(lab, subnet)


def all_live(seen: dict[str, Any]) -> bool:
    return (seen["alive"], seen["hanging"], seen["broken"]) == (COUNT, 0, {})


def test_connections_go_there_and_back(lab: Lab, subnet: SubnetPlan) -> None:
    """The way back is another matter: the first member meets connections that went on without it."""
    with talking(lab, subnet) as seen:
        first = power_off(lab, subnet)
        survivor = other_of(subnet, first)
        power_on(lab, subnet, first)
        assert power_off(lab, subnet) == survivor
    assert all_live(seen), seen
    assert set(seen["sources"]) == {subnet.pairs[0].egress_address}


@contextlib.contextmanager
def postgres(lab: Lab, subnet: SubnetPlan) -> Iterator[None]:
    """A PostgreSQL of its own on the customer's machine, as a user that is not root; nothing is left of it."""
    tools = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if tools is None or not (tools / "pgbench").exists():
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    machine, place = lab.machine(subnet.database), "/run/test-postgres"
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    machine.run(["install", "-d", "-o", "postgres", "-g", "postgres", "-m", "700", place])
    server = None
    try:
        machine.run([*as_postgres, str(tools / "initdb"), "-D", f"{place}/data", "-N", "-A", "trust"], timeout=120.0)
        machine.run(["sh", "-c", f"echo host all all 0.0.0.0/0 trust >>{place}/data/pg_hba.conf"])
        options = ["-c", "fsync=off", "-c", "listen_addresses=*", "-c", f"unix_socket_directories={place}"]
        small = ["-c", "shared_buffers=16MB", "-c", "dynamic_shared_memory_type=mmap"]
        log = subprocess.DEVNULL
        command = [*as_postgres, str(tools / "postgres"), "-D", f"{place}/data", *options, *small]
        server = machine.popen(command, stdout=log, stderr=log)
        fill = [*as_postgres, str(tools / "pgbench"), "-h", place, "-i", "-q", "postgres"]
        wait_until(lambda: machine.run(fill, check=False).returncode == 0, 20.0, "PostgreSQL", interval_s=0.2)
        yield
    finally:
        if server is not None:
            for pid in processes.descendants(server.pid)[:1]:
                os.kill(pid, signal.SIGQUIT)
            server.wait(timeout=20)
        machine.run(["rm", "-rf", place])


def test_clients_of_a_database_notice_nothing(lab: Lab, subnet: SubnetPlan) -> None:
    """A benchmark of PostgreSQL and one of Redis end without an error, though the master was powered off meanwhile."""
    instance = lab.machine("pod1")
    with postgres(lab, subnet), contextlib.ExitStack() as stack:
        tools = max(Path("/usr/lib/postgresql").glob("*/bin"))
        bench = [str(tools / "pgbench"), "-h", subnet.database_ip, "-U", "postgres", "-n", "-c", "8", "-T", "6"]
        redis = ["redis-benchmark", "-h", subnet.database_ip, "-c", "20", "-t", "incr", "-q", "-l"]
        cli = ["redis-cli", "-h", subnet.database_ip, "-r", "500", "-i", "0.01", "incr", "survived"]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running = [instance.popen(command, **pipes) for command in ([*bench, "postgres"], cli)]
        endless = instance.popen(redis, **pipes)
        stack.callback(endless.kill)
        time.sleep(2.0)
        lab.fault("power-off", master_of(lab, subnet))
        (pg_out, pg_err), (redis_out, redis_err) = (process.communicate(timeout=60 * PATIENCE) for process in running)
        assert endless.poll() is None, "redis-benchmark goes on for ever, unless a connection breaks"
        for pid in processes.descendants(endless.pid):
            os.kill(pid, signal.SIGKILL)
        said_by_benchmark = endless.communicate(timeout=20)
    assert [process.returncode for process in running] == [0, 0], (pg_err, redis_err)
    assert "number of failed transactions: 0 " in pg_out, pg_out
    assert redis_out.split() == [str(number) for number in range(1, 501)]
    assert "rror" not in "".join((pg_err, redis_err, *said_by_benchmark))


def kill(process: processes.Process, number: signal.Signals) -> None:
    assert processes.send(process, number)


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "died"), pytest.param(signal.SIGSTOP, "hung", marks=pytest.mark.long)]
)
def test_a_dead_or_hanging_conntrackd_is_replaced(
    lab: Lab, subnet: SubnetPlan, number: signal.Signals, reason: str
) -> None:
    """On both members at once: counted, in step again, and a failover after it keeps the connections, also those that
    began meanwhile. Nobody is unfit because of it.
    """
    nodes = [member.node for member in subnet.members]
    before = {node: sync_of(lab, node, "restarts", reason=reason) for node in nodes}
    old = {node: conntrackd_of(lab.machine(node)) for node in nodes}
    for found in old.values():
        (process,) = found
        kill(process, number)
    with talking(lab, subnet) as seen:
        wait_until(
            lambda: all(sync_of(lab, node, "restarts", reason=reason) == before[node] + 1 for node in nodes),
            HANGS_S,
            "it to be replaced",
        )
        assert not unsettled(lab, subnet)
        wait_in_step(lab, subnet)
        power_off(lab, subnet)
    assert all_live(seen), seen
    survivor = lab.machine(master_of(lab, subnet))
    # Now and then there is a second one, which only asks the first how it is.
    wait_until(lambda: len(conntrackd_of(survivor)) == 1, 5.0, "one conntrackd")
    assert not any(processes.alive(process) for process in old[survivor.name])


@pytest.mark.long
def test_the_daemons_restart_leaves_conntrackd_alone(lab: Lab, subnet: SubnetPlan) -> None:
    """Also a takeover while no daemon looks: the next one makes the new master's list complete, so that the member
    that returns has all.
    """
    master = master_of(lab, subnet)
    survivor = other_of(subnet, master)
    (before,) = conntrackd_of(lab.machine(survivor))
    kill_daemon(lab, survivor)
    assert processes.alive(before)
    with talking(lab, subnet) as seen:
        lab.fault("power-off", master)
        time.sleep(1.0)
        lab.machine(survivor).start("daemon")
        wait_until(
            lambda: (now := said(lab, survivor, subnet)) and now.elected, 3 * SESSION_TIMEOUT_S, "it to be elected"
        )
        power_on(lab, subnet, master)
        assert [process.pid for process in conntrackd_of(lab.machine(survivor))] == [before.pid]
        power_off(lab, subnet)
    assert all_live(seen), seen


def test_nothing_is_left_without_an_egress_address(lab: Lab, subnet: SubnetPlan) -> None:
    """Neither process, file nor device; and it comes back with it."""
    nodes = [member.node for member in subnet.members]

    def left() -> list[str]:
        found = []
        for node in nodes:
            machine = lab.machine(node)
            found += [f"{node}: pid {process.pid}" for process in conntrackd_of(machine)]
            found += machine.run(["ls", "/run/proxypool/conntrackd"], check=False).stdout.split()
            found += [
                line
                for line in in_namespace(lab, node, subnet, "ip", "-br", "link").stdout.splitlines()
                if "ppts" in line
            ]
        return found

    assert len(left()) >= len(nodes)
    change = ("pair", "set", subnet.id, PAIR, "--accept-risk=drop-connections", "--egress-address")
    try:
        lab.proxypool(*change, "none")
        wait_until(lambda: not left(), 10.0, lambda: f"left: {left()}")
    finally:
        lab.proxypool(*change, str(subnet.pairs[0].egress_address))
    wait_in_step(lab, subnet)


def test_nothing_is_left_of_a_subnet_that_is_removed(lab: Lab, subnet: SubnetPlan) -> None:
    """A process in the namespace would keep it alive, and with it the card and the tunnels' keys."""

    def left() -> list[str]:
        found = []
        for member in subnet.members:
            machine = lab.machine(member.node)
            found += [f"{member.node}: pid {process.pid}" for process in conntrackd_of(machine)]
            found += machine.run(["ls", "/run/proxypool/conntrackd"], check=False).stdout.split()
            found += machine.run(["ip", "netns", "list"]).stdout.split()
            if member.eni not in machine.run(["ip", "-br", "link"]).stdout:
                found.append(f"{member.node}: no {member.eni}")
        return found

    try:
        lab.proxypool("pair", "remove", subnet.id, PAIR, "--yes", *ACCEPT_ALL)
        wait_until(lambda: not left(), 10.0, lambda: f"left: {left()}")
    finally:
        lab.proxypool("pool", "apply", "-", input=json.dumps(lab.topology.pool_document()))
        wait_until(lambda: not unsettled(lab, subnet), 20.0, lambda: unsettled(lab, subnet))
    wait_in_step(lab, subnet)


DAMAGES = (
    "ip link del {device}",
    "ip addr flush dev {device}",
    "ip link set {device} down",
    "ip neigh flush dev {device} nud permanent",
    "iptables-legacy -F PP-INPUT",
)


def repairs_at_rest(lab: Lab, node: str) -> float:
    """When what was damaged before is done with: a repair of it must not be taken for another's."""
    before = -1.0
    while before != (now := repairs(lab, node)):
        before = now
        time.sleep(1.2)
    return now


def test_what_is_damaged_of_the_link_is_put_right(lab: Lab, subnet: SubnetPlan) -> None:
    """conntrackd goes on over a link that was made anew, and need not be started again."""
    master = master_of(lab, subnet)
    backup = other_of(subnet, master)
    before = conntrackd_of(lab.machine(backup))
    wanted = picture(lab.machine(backup), namespace_of(subnet.id), with_identity=False)
    for damage in DAMAGES:
        count = repairs_at_rest(lab, backup)
        in_namespace(lab, backup, subnet, "sh", "-c", damage.format(device=sync_device_of(subnet.id)))
        wait_until(lambda: repairs(lab, backup) > count, 5.0, f"a repair of: {damage}")  # noqa: B023 - used at once
        wait_until(
            lambda: picture(lab.machine(backup), namespace_of(subnet.id), with_identity=False) == wanted,
            5.0,
            f"all as before: {damage}",
        )
    lab.machine(backup).run(["ipset", "flush", "pp-nodes"])
    wait_until(
        lambda: lab.machine(master).spec.ip in lab.machine(backup).run(["ipset", "list", "pp-nodes"]).stdout,
        5.0,
        "the set of nodes",
    )
    with talking(lab, subnet) as seen:
        power_off(lab, subnet)
    assert all_live(seen), seen
    assert conntrackd_of(lab.machine(backup)) == before


def test_a_function_host_cannot_tell_a_node_of_connections(lab: Lab, subnet: SubnetPlan) -> None:
    """What it sends into the tunnel between the members is right in all but the sender. To an instance, the addresses
    in there do not exist.
    """
    master = master_of(lab, subnet)
    node, peer, host = (lab.machine(name) for name in (master, other_of(subnet, master), "host1"))
    own, other = (str(SYNC_NETWORK[1 if one.name == min(node.name, peer.name) else 2]) for one in (node, peer))
    inner = ipv4(other, own, UDP, udp(PORT, PORT))

    def send_from(machine: Machine, destination: str) -> None:
        send(lab, machine.name, [over_the_link(subnet.key, inner, (machine.spec.ip, destination), own)])

    inside, outside = Place(node.name, subnet), Place(node.name)
    with counted(lab, inside, Blocked.LINK, 0):
        with counted(lab, outside, Blocked.SYNC, 1):
            send_from(host, node.spec.ip)
        send_from(host, subnet.havip)
        time.sleep(SEEN_WITHIN_S * PATIENCE)
    # The control: from the other member it comes in, though for no port that is open.
    with counted(lab, inside, Blocked.LINK, 1), counted(lab, outside, Blocked.SYNC, 0):
        send_from(peer, node.spec.ip)
    table = in_namespace(lab, node.name, subnet, "iptables-legacy", "-S", "PP-INPUT").stdout.splitlines()
    first = next(rule for rule in table if rule.startswith("-A"))
    assert f"-i {sync_device_of(subnet.id)}" in first
