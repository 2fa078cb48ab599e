"""The same path without proxypool: `ip`, `iptables`, and keepalived as it comes.

As instructions on the web have it: in the node's own namespace a tunnel bound to its address, `ip_forward=1` and
`MASQUERADE` out of the card; on the host a tunnel, a route, and `MASQUERADE` into the tunnel. Same kind of tunnel, same
MTU, same (legacy) iptables as ours. No filter, no MSS clamp, nothing that looks after it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from bench.labs import HAND_INSTANCE, HAND_NODES, hand_subnet
from bench.shell import Shell
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
TABLE = 100
"""Routing table of the instances that may reach the customer."""


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
        self.lay_address()
        self._shell(HOST, self.host_script())

    def lay_address(self) -> None:
        """The node's part of that."""
        self._shell(HAND_NODES[0], self.node_script(HAND_NODES[0]) + f"ip addr add {self.subnet.havip}/32 dev eth0\n")

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
        return (
            self.tunnel_script()
            # In this order: a connection whose first packet leaves before the rule is there is never rewritten.
            + f"{IPTABLES} -t nat -A POSTROUTING -o {DEVICE} -j MASQUERADE\n"
            + f"ip route add {self.subnet.cidr} via {NODE_INNER} dev {DEVICE}\n"
        )

    def tunnel_script(self) -> str:
        """The host's tunnel."""
        return self._tunnel(self.lab.topology.machines[HOST].ip, HOST_INNER, NODE_INNER, self.subnet.havip)

    def first_use(self) -> tuple[list[str], list[str]]:
        """Commands on the node and on the host, as soon as the host's first instance needs the customer."""
        reach = self._reach(HOST_INNER, self.lab.topology.machines[HOST].ip)
        host = self.host_script().splitlines()
        return reach.splitlines(), [line for line in host if line.startswith(("ip", "bridge"))]

    def undo_first_use(self) -> tuple[list[str], list[str]]:
        """And back."""
        # Without its neighbour the node asks for one, and gets no answer.
        node = [f"ip neigh del {HOST_INNER} dev {DEVICE}"]
        return node, [f"ip link del {DEVICE}", f"{IPTABLES} -t nat -F"]

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
        else:
            # Both nodes have the same MAC, as both have the same address: a failover changes nothing on the host.
            make = (
                f"ip link add {DEVICE} address {mac_of(IPv4Address(own))} "
                f"type vxlan id {key} local {local} dstport {VXLAN_PORT} nolearning ttl 64\n"
            )
        address = f"ip addr add {own}/24 dev {DEVICE}\nip link set {DEVICE} mtu {MTU[kind]} up\n"
        return f"set -e\n{make}{address}{self._reach(peer, remote)}"

    def _reach(self, peer: str, remote: str) -> str:
        if self.lab.topology.tunnel is Tunnel.GRE:
            return f"ip neigh replace {peer} lladdr {remote} dev {DEVICE} nud permanent\n"
        mac = mac_of(IPv4Address(peer))
        return (
            f"ip neigh replace {peer} lladdr {mac} dev {DEVICE} nud permanent\n"
            f"bridge fdb replace {mac} dev {DEVICE} dst {remote}\n"
        )

    def _card(self, node: str) -> tuple[str, str]:
        member = next(member for member in self.subnet.members if member.node == node)
        return member.eni, member.address

    def _shell(self, machine: str, script: str) -> None:
        self.lab.machine(machine).run(["sh"], input=script)


@dataclass
class PerInstance:
    """Instances that may reach the customer one by one: for each a rule of the routing policy, and one of the nat table
    that rewrites its address. What all have in common is there: the tunnel, and a routing table.
    """

    lab: Lab
    present: list[IPv4Address] = field(default_factory=list)

    @property
    def path(self) -> ByHand:
        """What they share."""
        return ByHand(self.lab)

    def lay(self) -> None:
        """The path, for nobody yet."""
        self.path.lay_address()
        self._shell(
            self.path.tunnel_script() + f"ip route add {self.path.subnet.cidr} via {NODE_INNER} table {TABLE}\n"
        )

    def attach(self, address: IPv4Address) -> tuple[str, ...]:
        """Commands for one instance."""
        return f"ip rule add {_policy(address)}", f"{IPTABLES} -w -t nat -A {_rewrite(address)}"

    def detach(self, address: IPv4Address) -> tuple[str, ...]:
        """And back."""
        return f"ip rule del {_policy(address)}", f"{IPTABLES} -w -t nat -D {_rewrite(address)}"

    def replace(self, addresses: list[IPv4Address]) -> None:
        """Have just these instances, whoever was there."""
        self._shell(
            # A flush reads the list while it shortens it, and leaves some.
            f"while ip rule list table {TABLE} | grep -q .; do ip rule flush table {TABLE}; done\n"
            f"{IPTABLES} -w -t nat -F POSTROUTING\n" + _batch(addresses)
        )

    def batch_s(self, addresses: list[IPv4Address], shell: Shell) -> float:
        """How long it takes to add many with one process for all rules of a kind."""
        self._shell(_files(addresses))
        began = time.monotonic()
        shell.run(_BATCH)
        return time.monotonic() - began

    def _shell(self, script: str) -> None:
        self.lab.machine(HOST).run(["sh", "-e"], input=script)


_RULES, _NAT = "/run/by-hand.rules", "/run/by-hand.nat"
_BATCH = (f"ip -batch {_RULES}", f"{IPTABLES}-restore -w --noflush {_NAT}")


def _policy(address: IPv4Address) -> str:
    return f"from {address} lookup {TABLE}"


def _rewrite(address: IPv4Address) -> str:
    return f"POSTROUTING -s {address} -o {DEVICE} -j SNAT --to-source {HOST_INNER}"


def _files(addresses: list[IPv4Address]) -> str:
    rules = "".join(f"rule add {_policy(address)}\n" for address in addresses)
    nat = "".join(f"-A {_rewrite(address)}\n" for address in addresses)
    return f"cat >{_RULES} <<'.'\n{rules}.\ncat >{_NAT} <<'.'\n*nat\n{nat}COMMIT\n.\n"


def _batch(addresses: list[IPv4Address]) -> str:
    return _files(addresses) + "".join(f"{command}\n" for command in _BATCH)
