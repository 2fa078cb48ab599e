"""The units under a real systemd: when they are ready, what a restart, a hang, a stop and a reboot do to traffic."""

from __future__ import annotations

import functools
import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.systemd.machines import Machine, running_fabric
from tests.systemd.pool import (
    CONFIG,
    HAVIP,
    NODES,
    ZOOKEEPER_FILES,
    Pings,
    Pool,
    configuration,
    kernel_state,
    made_by,
    missing_here,
    says,
)

pytestmark = pytest.mark.timeout(300)

DROP_IN = "/run/systemd/system/proxypool-node.service.d"
START_S = 10


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """All is booted; an instance reaches the customer's server through a pair of two nodes."""
    why = missing_here()
    if why is not None:
        pytest.skip(why)
    with running_fabric(tmp_path_factory.mktemp("systemd") / "disks") as fabric:
        nodes = {name: fabric.machine(name, configuration(name), ("proxypool-node.service",)) for name in NODES}
        enabled = ("test-zookeeper.service", "proxypool-host.service", "proxypool-controller.service")
        made = Pool(fabric, nodes, fabric.machine("host1", {**configuration("host1"), **ZOOKEEPER_FILES}, enabled))
        for machine in fabric.machines:
            machine.boot()
        for name in NODES:
            made.plug(name)
        made.plug_host()
        made.begin()
        yield made


def test_units_are_ready_and_say_what_they_do(pool: Pool) -> None:
    """Each in one sentence for `systemctl status`."""
    said = {
        unit: machine.show(unit, "ActiveState", "StatusText", "Type")
        for machine, units in (
            (pool.nodes["node-a"], ("proxypool-node.service", "proxypool-outside.service")),
            (pool.host, ("proxypool-host.service", "proxypool-controller.service")),
        )
        for unit in units
    }
    assert {unit: found["ActiveState"] for unit, found in said.items()} == dict.fromkeys(said, "active")
    for machine, unit, words in (
        (pool.host, "proxypool-host.service", "1 subnets, 1 attachments"),
        (pool.nodes["node-a"], "proxypool-node.service", "member of 1 pairs"),
    ):
        machine.wait(functools.partial(says, machine, unit, words), f"{unit} says: {words}")
    assert "leads" in said["proxypool-controller.service"]["StatusText"]


def test_a_restart_of_the_daemons_touches_neither_traffic_nor_keepalived(pool: Pool) -> None:
    """No packet is lost, the kernel's state is the same, and the unit is ready again."""
    master = pool.nodes[pool.master()]
    keepalived, before = master.main_pid("keepalived.service"), kernel_state(master)
    daemon = master.main_pid("proxypool-node.service")
    pings = Pings(pool)
    master.run("systemctl", "restart", "proxypool-node.service")
    pool.host.run("systemctl", "restart", "proxypool-host.service")
    pool.host.run("systemctl", "restart", "proxypool-controller.service")
    sent, lost = pings.lost()
    assert (sent > 20, lost) == (True, 0)
    assert master.main_pid("keepalived.service") == keepalived
    assert master.main_pid("proxypool-node.service") not in {0, daemon}
    assert kernel_state(master) == before


RELOADS = {
    "node": ("new_connections_per_s = 12345", 'detection = "conservative"'),
    "host": ("linger_s = 77", 'state_dir = "/srv/other"'),
    "controller": ("max_actions = 3", "interval_s = 7.0"),
}
"""Role -> a line with a key that is taken over, and one with a key that needs a restart."""


class Reload:
    """`systemctl reload` with a configuration, as an operator does it."""

    def __init__(self, machine: Machine, unit: str, text: str) -> None:
        machine.run("sh", "-c", f'printf %s "$1" > {CONFIG}', "sh", text)
        since = f"--since=@{machine.run('date', '+%s.%N').strip()}"
        command = machine.inside("systemctl", "reload", unit)
        self.is_done = subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
        self._machine, self._words = machine, (f"--unit={unit}", since, "--output=cat")

    def wait_said(self, words: str) -> None:
        """Wait until the unit's journal has words since then: it is written beside."""
        said = functools.partial(self._machine.journal, *self._words)
        self._machine.wait(lambda: words in said(), f"the journal has: {words}", 10)


@pytest.mark.long
@pytest.mark.parametrize("role", RELOADS)
def test_a_reload_takes_all_of_a_file_or_fails_and_takes_nothing(pool: Pool, role: str) -> None:
    """`systemctl reload` succeeds with a good file. With a bad one it fails with the reason, which stays in the unit's
    sentence; the process is the same, goes on with what it knew, and no packet is lost.
    """
    machine, unit = (pool.nodes[pool.master()] if role == "node" else pool.host), f"proxypool-{role}.service"
    good_line, stuck_line = RELOADS[role]
    before, daemon = machine.run("cat", CONFIG), machine.main_pid(unit)
    good, stuck = (before.replace(f"[{role}]\n", f"[{role}]\n{line}\n") for line in RELOADS[role])
    pings = Pings(pool)
    try:
        done = Reload(machine, unit, good)
        done.wait_said(f"configuration read again: {role}.{good_line.partition(' ')[0]} changed")
        assert done.is_done
        for text, why in ((f"{good}\nnonsense = 1\n", "nonsense"), (stuck, f"{role}.{stuck_line.partition(' ')[0]}")):
            done = Reload(machine, unit, text)
            done.wait_said("the old one stays in force")
            done.wait_said(why)
            assert not done.is_done
            machine.wait(functools.partial(says, machine, unit, why), f"{unit} says: {why}")
            assert machine.show(unit, "ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
        done = Reload(machine, unit, good)
        done.wait_said("configuration read again: nothing changed")
        assert done.is_done, "what was refused has left nothing"
        machine.wait(lambda: not says(machine, unit, "stays in force"), f"{unit} is content")
    finally:
        done = Reload(machine, unit, before)
    assert done.is_done
    assert machine.main_pid(unit) == daemon
    sent, lost = pings.lost()
    assert (sent > 20, lost) == (True, 0)


@pytest.mark.long
def test_a_daemon_that_hangs_is_killed_and_comes_back(pool: Pool) -> None:
    """Nothing but the daemon is killed, and no packet is lost, though the other member is elected meanwhile."""
    master = pool.nodes[pool.master()]
    keepalived, before = master.main_pid("keepalived.service"), made_by(master)
    daemon = master.main_pid("proxypool-node.service")
    pings = Pings(pool)
    master.run("kill", "-STOP", str(daemon))
    master.wait(lambda: master.main_pid("proxypool-node.service") not in {0, daemon}, "the daemon is another", 90)
    master.wait_active("proxypool-node.service")
    _, lost = pings.lost()
    assert lost == 0
    assert "Watchdog timeout" in master.journal("--unit=proxypool-node.service", lines=200)
    assert master.main_pid("keepalived.service") == keepalived
    assert made_by(master) == before


WITH_CREDENTIAL = """
umask 077
head -c 32 /dev/urandom | base64 > /root/zookeeper.secret
cp -p {config} /root/was.toml
sed -i 's/^\\[zookeeper\\]$/&\\nuser = "controller"\\nsecret_file = "credential:zookeeper"/' {config}
umask 022
for unit in {units}; do
    mkdir -p /run/systemd/system/$unit.d
    printf '[Service]\\nLoadCredential=zookeeper:/root/zookeeper.secret\\n' > /run/systemd/system/$unit.d/credential.conf
done
systemctl daemon-reload
systemctl restart {units}
"""
WITHOUT_CREDENTIAL = """
cp -p /root/was.toml {config}
for unit in {units}; do
    rm -r /run/systemd/system/$unit.d
done
systemctl daemon-reload
systemctl restart {units}
"""


@pytest.mark.long
def test_a_secret_may_be_a_credential(pool: Pool) -> None:
    """In a file that only root reads, also where the daemon has a user of its own. Root's commands use that of the service,
    while it runs.
    """
    units = ("proxypool-host.service", "proxypool-controller.service")
    names = {"config": CONFIG, "units": " ".join(units)}
    pool.host.run("sh", "-ec", WITH_CREDENTIAL.format(**names))
    try:
        for unit in units:
            pool.host.wait_active(unit)
        assert json.loads(pool.cli("status", "-o", "json"))["kind"] == "PoolStatus"
        pool.host.run("systemctl", "stop", *units)
        assert not pool.cli_says("status")
        assert pool.is_served()
    finally:
        pool.host.run("sh", "-ec", WITHOUT_CREDENTIAL.format(**names))
    for unit in units:
        pool.host.wait_active(unit)


@pytest.mark.long
def test_without_zookeeper_a_start_goes_on_and_says_what_it_waits_for(pool: Pool) -> None:
    """It is not ready and not killed, though it takes longer than a start may; keepalived does not wait for it, and
    traffic goes on.
    """
    node = pool.nodes[pool.master()]
    shorter = f"[Service]\nTimeoutStartSec={START_S}\n"
    node.run(
        "sh", "-ec", 'mkdir -p "$1"; printf "$2" > "$1/start.conf"; systemctl daemon-reload', "sh", DROP_IN, shorter
    )
    pool.host.run("systemctl", "stop", "test-zookeeper.service")
    pings = Pings(pool)
    node.run("systemctl", "restart", "--no-block", "proxypool-node.service")
    node.wait(lambda: says(node, "proxypool-node.service", "waiting for ZooKeeper"), "its words")
    daemon, asked_at = node.main_pid("proxypool-node.service"), time.monotonic()
    node.wait(lambda: time.monotonic() > asked_at + START_S, "its time to start is over")
    assert node.main_pid("proxypool-node.service") == daemon
    assert node.show("proxypool-node.service", "ActiveState")["ActiveState"] == "activating"
    assert node.show("keepalived.service", "ActiveState")["ActiveState"] == "active"
    pool.host.run("systemctl", "start", "test-zookeeper.service")
    node.wait_active("proxypool-node.service")
    assert pings.lost()[1] == 0


@pytest.mark.long
def test_a_stop_leaves_everything(pool: Pool) -> None:
    """Node, its part outside, and host: traffic goes on without any of them."""
    master = pool.nodes[pool.master()]
    keepalived, before = master.main_pid("keepalived.service"), kernel_state(master)
    pings = Pings(pool)
    master.run("systemctl", "stop", "proxypool-node.service", "proxypool-outside.service")
    pool.host.run("systemctl", "stop", "proxypool-host.service")
    assert pool.is_served()
    assert kernel_state(master) == before
    master.run("systemctl", "start", "proxypool-node.service")
    pool.host.run("systemctl", "start", "proxypool-host.service")
    assert pings.lost()[1] == 0
    assert master.main_pid("keepalived.service") == keepalived
    assert kernel_state(master) == before


@pytest.mark.long
def test_what_stands_outside_may_die(pool: Pool) -> None:
    """It is back at once; until then the daemon takes keepalived for what it was, and goes on."""
    master = pool.nodes[pool.master()]
    pids = {unit: master.main_pid(unit) for unit in ("proxypool-node", "keepalived", "proxypool-outside")}
    before = kernel_state(master)
    pings = Pings(pool)
    master.run("systemctl", "kill", "--signal=KILL", "proxypool-outside.service")
    master.wait(lambda: master.main_pid("proxypool-outside") not in {0, pids["proxypool-outside"]}, "it is back")
    master.wait_active("proxypool-outside.service")
    assert pings.lost()[1] == 0
    assert [master.main_pid(unit) for unit in ("proxypool-node", "keepalived")] == [
        pids["proxypool-node"],
        pids["keepalived"],
    ]
    assert kernel_state(master) == before


@pytest.mark.long
def test_a_node_that_reboots_comes_back_by_itself(pool: Pool) -> None:
    """Its units are started at boot, wait for the card, adopt what the pool says, and the other member serves meanwhile."""
    name = pool.master()
    other = next(node for node in NODES if node != name)
    pool.nodes[name].reboot()
    pool.host.wait(pool.is_served, "the other member serves")
    assert HAVIP in pool.nodes[other].run("ip", "-4", "address", "show", "eth0")
    pool.plug(name)
    pool.nodes[name].wait_active("proxypool-node.service")
    pool.nodes[name].wait_active("keepalived.service")
    pool.nodes[name].wait(
        lambda: pool.nodes[name].run("ip", "netns", "exec", "pp-s1", "true", check=False) == "", "its namespace is back"
    )
    pool.host.wait(pool.is_served, "it is served")


@pytest.mark.long
def test_a_host_that_reboots_has_its_attachments(pool: Pool) -> None:
    """They are there before ZooKeeper is."""
    pool.host.reboot()
    pool.plug_host()
    pool.host.wait_active("proxypool-host.service")
    pool.host.wait(pool.is_served, "it is served")
