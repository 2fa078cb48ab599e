"""The units under a real systemd: when they are ready, what a restart, a hang, a stop and a reboot do to traffic."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from proxypool.lab.services import ZOOKEEPER
from tests.contract.zk import is_available
from tests.systemd.machines import Fabric, Machine, missing

pytestmark = pytest.mark.timeout(300)

CONFIG = "/etc/proxypool/proxypool.toml"
COMMON = 'pool = "test"\n[zookeeper]\nhosts = ["192.168.50.21:2181"]\nsession_timeout_s = 4.0\n'
SERVER = "172.16.101.4"
HAVIP = "192.168.50.100"
DROP_IN = "/run/systemd/system/proxypool-node.service.d"
START_S = 10
EGRESS = "172.16.101.50"
NODES = {"node-a": "192.168.50.11", "node-b": "192.168.50.12"}
ZOOKEEPER_UNIT = f"""
[Service]
Environment=JAVA_TOOL_OPTIONS=-Dorg.slf4j.simpleLogger.defaultLogLevel=error
ExecStart=/usr/bin/{" ".join(ZOOKEEPER.command)}
StateDirectory=zookeeper
Restart=always
[Install]
WantedBy=multi-user.target
"""
ZOO_CFG = "tickTime=500\ndataDir=/var/lib/zookeeper\nclientPort=2181\nadmin.enableServer=false\n"


@dataclass
class Pool:
    """Two nodes and a host with the ZooKeeper and a controller."""

    fabric: Fabric
    nodes: dict[str, Machine]
    host: Machine

    def plug(self, name: str) -> None:
        """A node's cards, which a boot does not bring back by itself."""
        self.nodes[name].plug("eth0", "underlay", f"{NODES[name]}/24")
        self.nodes[name].plug("eni-s1", "customer")

    def cli(self, *words: str) -> str:
        """A command of ours on the host."""
        return self.host.run("/opt/proxypool/bin/proxypool", *words)

    def cli_says(self, *words: str) -> bool:
        """Whether it succeeds."""
        command = self.host.inside("/opt/proxypool/bin/proxypool", *words)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def master(self) -> str:
        """The node that has the HaVip; empty: none or both."""
        found = [name for name, node in self.nodes.items() if HAVIP in node.run("ip", "-4", "address", "show", "eth0")]
        return found[0] if len(found) == 1 else ""

    def is_served(self) -> bool:
        """Whether an instance reaches the customer's server."""
        ping = self.host.inside("ip", "netns", "exec", "pod", "ping", "-c1", "-W1", SERVER)
        return subprocess.run(ping, capture_output=True, check=False).returncode == 0


class Pings:
    """An instance pings the customer's server all the time, through the tunnel, the gate and NAT."""

    def __init__(self, pool: Pool) -> None:
        self._host = pool.host
        words = pool.host.inside("ip", "netns", "exec", "pod", "ping", "-n", "-i", "0.02", "-W", "1", SERVER)
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def lost(self) -> tuple[int, int]:
        """How many were sent, and how many had no answer. It ends."""
        # `ping` forgives itself what is under way when it is interrupted. In the machine there is only this one.
        self._host.run("pkill", "-INT", "-x", "ping")
        text, _ = self._process.communicate(timeout=10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
        assert found is not None, text
        return int(found[1]), int(found[1]) - int(found[2])


def _files(name: str) -> dict[str, str]:
    if name == "host1":
        section = (
            '[host]\nname = "host1"\nunderlay = "eth0"\ninstance_cidrs = ["10.244.1.0/24"]\n'
            'api_group = "proxypool"\n[controller]\nname = "ctl-1"\n'
        )
        return {
            CONFIG: COMMON + section,
            "/etc/zookeeper/conf/zoo.cfg": ZOO_CFG,
            "/etc/systemd/system/test-zookeeper.service": ZOOKEEPER_UNIT,
        }
    return {
        CONFIG: f'{COMMON}[node]\nname = "{name}"\nunderlay = "eth0"\n',
        "/etc/keepalived/keepalived.conf": "include /etc/keepalived/conf.d/*.conf\n",
    }


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fabric]:
    why = missing()
    if why is not None or not is_available() or shutil.which("keepalived") is None:
        pytest.skip(why or "needs ZooKeeper, Java and keepalived")
    disks = tmp_path_factory.mktemp("systemd") / "disks"
    disks.mkdir()
    made = Fabric(disks)
    try:
        made.run("ip", "address", "add", f"{SERVER}/24", "dev", "customer")
        yield made
    finally:
        made.close()


POD = """
ip netns add pod
ip link add pod0 type veth peer name eth0 netns pod
ip address add 10.244.1.1/24 dev pod0
ip link set pod0 up
ip -n pod address add 10.244.1.2/24 dev eth0
ip -n pod link set lo up
ip -n pod link set eth0 up
ip -n pod route add default via 10.244.1.1
"""


@pytest.fixture(scope="module")
def pool(fabric: Fabric) -> Pool:
    """All is booted; an instance reaches the customer's server through a pair of two nodes."""
    nodes = {name: fabric.machine(name, _files(name), ("proxypool-node.service",)) for name in NODES}
    enabled = ("test-zookeeper.service", "proxypool-host.service", "proxypool-controller.service")
    made = Pool(fabric, nodes, fabric.machine("host1", _files("host1"), enabled))
    for machine in fabric.machines:
        machine.boot()
    for name in NODES:
        made.plug(name)
    made.host.plug("eth0", "underlay", "192.168.50.21/24")
    made.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    made.host.run("sh", "-ec", POD)
    made.host.wait(lambda: made.cli_says("pool", "init", "--tunnel", "vxlan"), "the pool can be made")
    for node in nodes.values():
        node.wait_active("proxypool-node.service")
    made.cli("subnet", "add", "s1", "--cidr", "172.16.101.0/24", "--tenant", "t1")
    members = [f"{name},eni=eni-s1,address=172.16.101.{11 + at}/24" for at, name in enumerate(NODES)]
    members = [word for member in members for word in ("--member", member)]
    made.cli("pair", "add", "s1", "p1", "--havip", HAVIP, "--egress-address", EGRESS, *members)
    for unit in ("proxypool-host.service", "proxypool-controller.service"):
        made.host.wait_active(unit)
    made.cli("host", "attach", "--address", "10.244.1.2", "--subnet", "s1")
    made.host.wait(made.is_served, "an instance reaches the server")
    for node in nodes.values():
        node.wait(functools.partial(node.run, "pgrep", "-x", "conntrackd", check=False), "its conntrackd runs")
    return made


MADE = (
    "stat -Lc %i /run/netns/pp-s1; ip -n pp-s1 -o link | cut -d@ -f1;"
    "ip netns exec pp-s1 iptables-legacy-save -t nat | grep -v ^[:#]; pgrep -xo conntrackd"
)
SERVES = "ip netns exec pp-s1 cat /proc/sys/net/ipv4/ip_forward; ip -4 -o address show eth0"


def made_by(node: Machine) -> str:
    """What must outlive the daemon: the namespace, its devices and rules, and the conntrackd in it."""
    return node.run("sh", "-ec", MADE)


def kernel_state(node: Machine) -> str:
    """The same, the gate and the HaVip."""
    return node.run("sh", "-ec", f"{MADE}; {SERVES}")


def says(machine: Machine, unit: str, words: str) -> bool:
    """Whether the words are part of a unit's sentence about itself."""
    return words in machine.show(unit, "StatusText")["StatusText"]


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
    pool.host.plug("eth0", "underlay", "192.168.50.21/24")
    pool.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    pool.host.run("sh", "-ec", POD)
    pool.host.wait_active("proxypool-host.service")
    pool.host.wait(pool.is_served, "it is served")
