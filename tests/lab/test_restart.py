"""A daemon ends, however it ends, and starts again: traffic does not notice, and nothing is made anew."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxypool.core.addressing import namespace_of
from proxypool.lab import processes
from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.errors import LabError
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober
from proxypool.lab.topology import PAIR
from tests.lab.observe import (
    ACCEPT_ALL,
    CLIENT_CONFIG,
    PATIENCE,
    PROBE_MS,
    difference,
    fingerprint,
    gate,
    kill_daemon,
    master_of,
    masters,
    metrics,
    open_gates,
    other_of,
    said,
    settled_said,
    spare_cards,
    unsettled,
    wait_gone,
    wait_until,
)

pytestmark = [pytest.mark.root]

KILLS = 12
"""Rounds of the loop that kills daemons at random moments."""


@pytest.fixture
def subnet(lab: Lab) -> SubnetPlan:
    """The one that is watched."""
    return lab.topology.subnet_plans[0]


def started_at(lab: Lab, machine: str) -> float:
    """When the daemon that now answers was started; 0 if none does."""
    return metrics(lab, machine).get("process_start_time_seconds", 0.0)


def session_of(lab: Lab, machine: str) -> str:
    """The ZooKeeper session that its daemon connected with last."""
    return str(re.findall(r"connected to ZooKeeper, session (0x\w+)", lab.machine(machine).log("daemon"))[-1])


def stop_daemon(lab: Lab, machine: str, number: signal.Signals) -> None:
    """Send a signal to the daemon and wait until it has ended."""
    process = lab.machine(machine).service_process("daemon")
    assert process is not None
    processes.send(process, number)
    wait_until(lambda: not processes.alive(process), 10.0, f"the daemon of {machine} to end")
    wait_until(
        lambda: not any(p.service == "daemon" for p in lab.machine(machine).processes()), 10.0, "its children to end"
    )


def start_daemon(lab: Lab, machine: str) -> None:
    """Start it and wait until it has looked at everything: at this moment it would have repaired what it dislikes."""
    began = time.time()
    lab.machine(machine).start("daemon")
    wait_until(lambda: started_at(lab, machine), 15.0, f"the daemon of {machine} to answer")
    scopes = 1 if machine.startswith("host") else 1 + len(lab.topology.subnet_plans)

    def looked() -> bool:
        said = metrics(lab, machine)
        done = [s for s in said if s.startswith("proxypool_reconcile_last_success_timestamp_seconds")]
        return len(done) >= scopes and said.get("proxypool_ready_timestamp_seconds", 0.0) >= began

    wait_until(looked, 15.0, f"the daemon of {machine} to be ready, with {scopes} namespaces looked at")


@contextlib.contextmanager
def nothing_changes(lab: Lab, subnet: SubnetPlan) -> Iterator[None]:
    """Not one packet is lost, no object of any machine is made anew or changed, nobody is elected."""
    machines = [*lab.topology.node_names, "host1", "host2"]
    before = {name: fingerprint(lab, name) for name in machines}
    roles = settled_said(lab)
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        yield
        # The session is resumed or lost within this time: an election would show.
        wait_until(
            lambda: settled_said(lab) == roles, 10.0, lambda: f"roles and epochs {roles}; now {settled_said(lab)}"
        )
    for name in machines:
        assert difference(before[name], fingerprint(lab, name)) == [], name
    assert prober.result()["lost"] == 0, prober.result()["gaps"]
    assert settled_said(lab) == roles


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("who", ["master", "backup", "host1"])
def test_a_restart_is_not_noticed(lab: Lab, subnet: SubnetPlan, who: str, number: signal.Signals) -> None:
    """The daemon adopts what it finds: the same devices, namespaces, rules, election and epoch as before."""
    master = master_of(lab, subnet)
    machine = {"master": master, "backup": other_of(subnet, master)}.get(who, who)
    session = session_of(lab, machine)
    with nothing_changes(lab, subnet):
        stop_daemon(lab, machine, number)
        start_daemon(lab, machine)
    assert session_of(lab, machine) == session
    operations = {
        s: v for s, v in metrics(lab, machine).items() if s.startswith("proxypool_kernel_operations_total") and v
    }
    assert operations == {}
    if who != "host1":
        assert metrics(lab, machine)["proxypool_keepalived_reloads_total"] == 0


def test_sigterm_ends_a_daemon_quickly_and_with_success(lab: Lab, subnet: SubnetPlan) -> None:
    """Whoever stops the unit does not wait, and does not see a failure."""
    for machine in (*lab.topology.node_names, "host1"):
        began = time.monotonic()
        stop_daemon(lab, machine, signal.SIGTERM)
        assert time.monotonic() - began < 3.0 * PATIENCE
        log = lab.machine(machine).log("daemon")
        assert "stopping; traffic goes on" in log.splitlines()[-1]
        assert "Traceback" not in log


def test_an_absence_longer_than_the_session(lab: Lab, subnet: SubnetPlan) -> None:
    """The election passes to the other member, and the HaVip with it, as in a planned change. The daemon that comes
    back finds another one elected, stands in line, and changes nothing in the kernel.
    """
    master = master_of(lab, subnet)
    heir = other_of(subnet, master)
    before = {name: fingerprint(lab, name)[namespace_of(subnet.id)] for name in (master, heir)}
    with Prober(lab, "pod1", subnet.database_ip, interval_ms=PROBE_MS) as prober:
        stop_daemon(lab, master, signal.SIGKILL)
        wait_until(
            lambda: (seen := said(lab, heir, subnet)) and seen.elected, 2 * SESSION_TIMEOUT_S, f"{heir} to be elected"
        )
        start_daemon(lab, master)
        wait_until(lambda: not unsettled(lab, subnet), 10.0, lambda: unsettled(lab, subnet))
    assert prober.result()["blackout_ms"] < 300.0 * PATIENCE
    assert {name: fingerprint(lab, name)[namespace_of(subnet.id)] for name in (master, heir)} == before


def change_pool(lab: Lab, churn: SubnetPlan, stop: threading.Event, seen: set[str], failures: list[str]) -> None:
    """Add and remove a subnet with its pair, again and again; ends with it removed. `seen`: nodes that served it."""
    members = [
        f"--member={node},eni=spare0,address=172.20.0.{i}/24" for i, node in enumerate(lab.topology.node_names, 11)
    ]
    commands = (
        ("subnet", "add", "churn", "--cidr", "172.20.0.0/24", "--tenant", "churn"),
        ("pair", "add", "churn", PAIR, "--havip", "192.168.4.200", *members),
        ("pair", "remove", "churn", PAIR, "--yes", *ACCEPT_ALL),
        ("subnet", "remove", "churn", "--yes"),
    )
    while not stop.is_set():
        for command in commands:
            done = lab.proxypool(*command, on="zk1", check=False, timeout=60 * PATIENCE)
            if done.returncode:
                failures.append(f"{' '.join(command)}: {done.returncode} {done.stderr}")
                return
            end = time.monotonic() + random.uniform(0.0, 2.0 if command[:2] == ("pair", "add") else 0.5)
            while time.monotonic() < end:
                seen |= {node for node in lab.topology.node_names if gate(lab, node, churn) is not None}
                time.sleep(0.02)


@pytest.mark.long
def test_killed_again_and_again_while_the_pool_changes(lab: Lab, subnet: SubnetPlan) -> None:
    """SIGKILL at random moments of programming and removing: in the end everything is as if it had been made once."""
    lab.machine("zk1").run(
        ["sh", "-c", "mkdir -p /etc/proxypool && cat >/etc/proxypool/proxypool.toml"], input=CLIENT_CONFIG
    )
    before = {name: fingerprint(lab, name) for name in (*lab.topology.node_names, "host1", "host2")}
    stop, failures = threading.Event(), list[str]()
    seen, churn = set[str](), replace(subnet, id="churn")
    chance = random.Random()
    seed = chance.randrange(1 << 32)
    chance.seed(seed)
    with spare_cards(lab, "spare0"):
        changer = threading.Thread(target=change_pool, args=(lab, churn, stop, seen, failures))
        changer.start()
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.1, 2.0))
                victim = chance.choice([*lab.topology.node_names, "host1"])
                with contextlib.suppress(LabError):
                    kill_daemon(lab, victim)
                lab.machine(victim).start("daemon")
        finally:
            stop.set()
            changer.join()
        assert failures == [], f"seed {seed}"
        assert seen, f"the subnet was never programmed: nothing was tested (seed {seed})"

        wait_gone(lab, "churn", 20.0)
        for node in lab.topology.node_names:
            assert "spare0" in lab.machine(node).run(["ip", "-br", "link"]).stdout, "the card was not given back"
    for each in lab.topology.subnet_plans:
        wait_until(lambda each=each: not unsettled(lab, each), 15.0, lambda each=each: unsettled(lab, each))  # type: ignore[misc]
        assert len(masters(lab, each)) == len(open_gates(lab, each)) == 1

    def changed() -> list[str]:
        # Where the HaVip is may have changed: daemons were away for long enough.
        found = []
        for name, old in before.items():
            found += [
                f"{name}: {line}" for line in difference(old, fingerprint(lab, name)) if "192.168.4.10" not in line
            ]
        return found

    wait_until(lambda: not changed(), 10.0, lambda: f"the machines to be as before (seed {seed}): {changed()}")


def test_two_daemons_on_one_machine(lab: Lab, subnet: SubnetPlan) -> None:
    """The second one refuses to start, in one sentence, and the first goes on."""
    before = started_at(lab, "node-a")
    done: subprocess.CompletedProcess[str] = lab.proxypool("run", "node", on="node-a", check=False)
    assert done.returncode == 1
    assert "runs on this machine already" in done.stderr
    assert "Traceback" not in done.stderr
    assert started_at(lab, "node-a") == before
