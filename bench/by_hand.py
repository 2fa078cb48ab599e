"""The same path without proxypool: `ip`, `iptables`, and keepalived as it comes.

As instructions on the web have it: in the node's own namespace a tunnel bound to its address, `ip_forward=1` and
`MASQUERADE` out of the card; on the host a tunnel, a route, and `MASQUERADE` into the tunnel. Same kind of tunnel, same
MTU, same (legacy) iptables as ours. No filter, no MSS clamp, nothing that looks after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from bench.labs import HAND_INSTANCE, HAND_NODES, hand_subnet
from proxypool.core.addressing import mac_of
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import Tunnel

DEVICE = "tun0"
NODE_INNER, HOST_INNER = "100.65.0.1", "100.65.0.2"
MTU = {Tunnel.GRE: 1472, Tunnel.VXLAN: 1450}
VXLAN_PORT = 4789
HOST, INSTANCE = "host2", HAND_INSTANCE
IPTABLES = "iptables-legacy"


@dataclass(frozen=True)
class ByHand:
    """The path pod2 → host2 → HaVip → node-c or node-d → database."""

    lab: Lab

    @property
    def subnet(self) -> SubnetPlan:
        """Its customer's subnet."""
        return hand_subnet(self.lab)

    def lay(self) -> None:
        """Without a pair: node-c has the address for good."""
        self._shell(HAND_NODES[0], self.node_script(HAND_NODES[0]) + f"ip addr add {self.subnet.havip}/32 dev eth0\n")
        self._shell(HOST, self.host_script())

    def lay_pair(self) -> None:
        """With a plain keepalived on both nodes."""
        for node in HAND_NODES:
            self.lay_node(node)
        self._shell(HOST, self.host_script())

    def lay_node(self, node: str) -> None:
        """One of a pair: also after its power-on."""
        self._shell(node, self.node_script(node))
        self.lab.machine(node).run(["sh", "-c", "cat >/etc/keepalived/keepalived.conf"], input=self.keepalived_text())
        self.lab.machine(node).start("keepalived")

    def remove(self) -> None:
        """Everything; what is not there is fine."""
        havip = self.subnet.havip
        for node in HAND_NODES:
            machine = self.lab.machine(node)
            if machine.service_running("keepalived"):
                self.lab.fault(Fault.KILL_KEEPALIVED, node)
            eni, _ = self._card(node)
            undo = (
                f"ip link del {DEVICE}\n{IPTABLES} -t nat -F\nip addr flush dev {eni}\nip link set {eni} down\n"
                f"ip addr del {havip}/32 dev eth0\nsysctl -qw net.ipv4.ip_forward=0\nrm -f /run/keepalived*\n"
            )
            machine.run(["sh"], input=undo, check=False)
        self.lab.machine(HOST).run(["sh"], input=f"ip link del {DEVICE}\n{IPTABLES} -t nat -F\n", check=False)

    def wait_backup(self, node: str, times: int) -> None:
        """Until keepalived on a node has become backup for the n-th time."""
        log = self.lab.machine(node)
        wait_until(
            lambda: self.times_backup(node) >= times,
            20.0,
            lambda: f"{node} to be backup: {log.log('keepalived')[-500:]}",
        )

    def times_backup(self, node: str) -> int:
        """How often keepalived on a node has become backup, since the lab was made."""
        return self.lab.machine(node).log("keepalived").count("Entering BACKUP STATE")

    def node_script(self, node: str) -> str:
        """In the node's own namespace."""
        eni, address = self._card(node)
        return (
            self._tunnel(self.subnet.havip, NODE_INNER, HOST_INNER, self.lab.topology.machines[HOST].ip)
            + f"ip addr add {address} dev {eni}\n"
            + f"ip link set {eni} up\n"
            + "sysctl -qw net.ipv4.ip_forward=1\n"
            + f"{IPTABLES} -t nat -A POSTROUTING -o {eni} -j MASQUERADE\n"
        )

    def host_script(self) -> str:
        """On the function host."""
        own = self.lab.topology.machines[HOST].ip
        return (
            self._tunnel(own, HOST_INNER, NODE_INNER, self.subnet.havip)
            # In this order: a connection whose first packet leaves before the rule is there is never rewritten.
            + f"{IPTABLES} -t nat -A POSTROUTING -o {DEVICE} -j MASQUERADE\n"
            + f"ip route add {self.subnet.cidr} via {NODE_INNER} dev {DEVICE}\n"
        )

    def keepalived_text(self) -> str:
        """All defaults: state BACKUP, priority 100, VRRP version 2, an advertisement a second, by multicast."""
        return (
            "vrrp_instance by_hand {\n    interface eth0\n    virtual_router_id 251\n"
            f"    virtual_ipaddress {{\n        {self.subnet.havip}/32 dev eth0\n    }}\n}}\n"
        )

    def _tunnel(self, local: str, own: str, peer: str, remote: str) -> str:
        kind, key = self.lab.topology.tunnel, self.subnet.key
        if kind is Tunnel.GRE:
            make = f"ip link add {DEVICE} type gre local {local} key {key} ttl 64\n"
            reach = f"ip neigh replace {peer} lladdr {remote} dev {DEVICE} nud permanent\n"
        else:
            # Both nodes have the same MAC, as both have the same address: a failover changes nothing on the host.
            make = (
                f"ip link add {DEVICE} address {mac_of(IPv4Address(own))} "
                f"type vxlan id {key} local {local} dstport {VXLAN_PORT} nolearning ttl 64\n"
            )
            mac = mac_of(IPv4Address(peer))
            reach = (
                f"ip neigh replace {peer} lladdr {mac} dev {DEVICE} nud permanent\n"
                f"bridge fdb replace {mac} dev {DEVICE} dst {remote}\n"
            )
        return f"set -e\n{make}ip addr add {own}/24 dev {DEVICE}\nip link set {DEVICE} mtu {MTU[kind]} up\n{reach}"

    def _card(self, node: str) -> tuple[str, str]:
        member = next(member for member in self.subnet.members if member.node == node)
        return member.eni, member.address

    def _shell(self, machine: str, script: str) -> None:
        self.lab.machine(machine).run(["sh"], input=script)
