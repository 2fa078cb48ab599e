"""A pool of such machines: two nodes and a function host, whose instance speaks to a customer's server all the time."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass

from proxypool.lab.services import ZOOKEEPER
from tests.contract.zk import is_available
from tests.systemd.machines import Fabric, Machine, missing

CONFIG = "/etc/proxypool/proxypool.toml"
SERVER = "172.16.101.4"
HAVIP = "192.168.50.100"
EGRESS = "172.16.101.50"
NODES = {"node-a": "192.168.50.11", "node-b": "192.168.50.12"}
HOST = "192.168.50.21"
ZOOKEEPER_UNIT = f"""
[Service]
Environment=JAVA_TOOL_OPTIONS=-Dorg.slf4j.simpleLogger.defaultLogLevel=error
ExecStart=/usr/bin/{" ".join(ZOOKEEPER.command)}
StateDirectory=zookeeper
Restart=always
[Install]
WantedBy=multi-user.target
"""
ZOOKEEPER_FILES = {
    "/etc/zookeeper/conf/zoo.cfg": "tickTime=500\ndataDir=/var/lib/zookeeper\nclientPort=2181\nadmin.enableServer=false\n",
    "/etc/systemd/system/test-zookeeper.service": ZOOKEEPER_UNIT,
}
"""Of the machine that has it, whose unit `test-zookeeper.service` is to be enabled."""
POD = """
sysctl -qw net.ipv4.ip_forward=1
ip netns add pod
ip link add pod0 type veth peer name eth0 netns pod
ip address add 10.244.1.1/24 dev pod0
ip link set pod0 up
ip -n pod address add 10.244.1.2/24 dev eth0
ip -n pod link set lo up
ip -n pod link set eth0 up
ip -n pod route add default via 10.244.1.1
"""
MADE = (
    "stat -Lc %i /run/netns/pp-s1; ip -n pp-s1 -o link | cut -d@ -f1;"
    "ip netns exec pp-s1 iptables-legacy-save -t nat | grep -v ^[:#]; pgrep -xo conntrackd"
)
SERVES = "ip netns exec pp-s1 cat /proc/sys/net/ipv4/ip_forward; ip -4 -o address show eth0"


def missing_here() -> str | None:
    """What this computer lacks for such a pool."""
    why = missing()
    is_whole = is_available() and shutil.which("keepalived") is not None
    return why or (None if is_whole else "needs ZooKeeper, Java and keepalived")


def configuration(name: str, zookeeper: str = HOST) -> dict[str, str]:
    """Files of a node, or of the host, which has a controller too; `zookeeper`: its address."""
    common = f'pool = "test"\n[zookeeper]\nhosts = ["{zookeeper}:2181"]\nsession_timeout_s = 4.0\n'
    if name in NODES:
        return {
            CONFIG: f'{common}[node]\nname = "{name}"\nunderlay = "eth0"\n',
            "/etc/keepalived/keepalived.conf": "include /etc/keepalived/conf.d/*.conf\n",
        }
    section = (
        f'[host]\nname = "{name}"\nunderlay = "eth0"\ninstance_cidrs = ["10.244.1.0/24"]\n'
        'api_group = "proxypool"\n[controller]\nname = "ctl-1"\n'
    )
    return {CONFIG: common + section}


@dataclass
class Pool:
    """Two nodes and a host, which has a controller too."""

    fabric: Fabric
    nodes: dict[str, Machine]
    host: Machine

    def plug(self, name: str) -> None:
        """A node's cards, which a boot does not bring back by itself."""
        self.nodes[name].plug("eth0", "underlay", f"{NODES[name]}/24")
        self.nodes[name].plug("eni-s1", "customer")

    def plug_host(self) -> None:
        """The host's card, and an instance; neither does a boot bring back."""
        self.host.plug("eth0", "underlay", f"{HOST}/24")
        self.host.run("sh", "-ec", POD)

    def begin(self) -> None:
        """Until all units are ready, and the instance reaches the customer's server through a pair of the two nodes."""
        self.fabric.run("ip", "address", "add", f"{SERVER}/24", "dev", "customer")
        self.host.wait(lambda: self.cli_says("pool", "init", "--tunnel", "vxlan"), "the pool can be made")
        for node in self.nodes.values():
            node.wait_active("proxypool-node.service")
        self.cli("subnet", "add", "s1", "--cidr", "172.16.101.0/24", "--tenant", "t1")
        members = [f"{name},eni=eni-s1,address=172.16.101.{11 + at}/24" for at, name in enumerate(self.nodes)]
        members = [word for member in members for word in ("--member", member)]
        self.cli("pair", "add", "s1", "p1", "--havip", HAVIP, "--egress-address", EGRESS, *members)
        for unit in ("proxypool-host.service", "proxypool-controller.service"):
            self.host.wait_active(unit)
        self.cli("host", "attach", "--address", "10.244.1.2", "--subnet", "s1")
        self.host.wait(self.is_served, "an instance reaches the server")
        for node in self.nodes.values():
            node.wait(functools.partial(node.run, "pgrep", "-x", "conntrackd", check=False), "its conntrackd runs")

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

    def ping(self, *options: str) -> list[str]:
        """The words with which the instance pings the customer's server: this computer's program, in its network."""
        return ["nsenter", f"--net={self.host.path('/run/netns/pod')}", "ping", "-n", *options, "-W1", SERVER]

    def is_served(self) -> bool:
        """Whether an instance reaches the customer's server."""
        return subprocess.run(self.ping("-c1"), capture_output=True, check=False).returncode == 0


class Pings:
    """An instance pings the customer's server all the time, through the tunnel, the gate and NAT."""

    def __init__(self, pool: Pool) -> None:
        self._process = subprocess.Popen(pool.ping("-i0.02"), stdout=subprocess.PIPE, text=True)

    def lost(self) -> tuple[int, int]:
        """How many were sent, and how many had no answer. It ends."""
        # `ping` forgives itself what is under way when it is interrupted. It is what `nsenter` has become.
        self._process.send_signal(signal.SIGINT)
        text, _ = self._process.communicate(timeout=10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
        assert found is not None, text
        return int(found[1]), int(found[1]) - int(found[2])


def made_by(node: Machine) -> str:
    """What must outlive the daemon: the namespace, its devices and rules, and the conntrackd in it."""
    return node.run("sh", "-ec", MADE)


def kernel_state(node: Machine) -> str:
    """The same, the gate and the HaVip."""
    return node.run("sh", "-ec", f"{MADE}; {SERVES}")


def says(machine: Machine, unit: str, words: str) -> bool:
    """Whether the words are part of a unit's sentence about itself."""
    return words in machine.show(unit, "StatusText")["StatusText"]
