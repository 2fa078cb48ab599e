"""What a lab consists of: machines, their addresses and cables, and the content of its pool.

Pure: everything follows from the few numbers in `Topology`, so tests, benches and the lab itself agree on every
address without asking the kernel.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from string import ascii_lowercase
from typing import Any, Self

from proxypool.lab.errors import LabError
from proxypool.lab.plans import Instance, MemberPlan, PairPlan, SubnetPlan

FABRIC = "fabric"
"""The machine that holds the bridges; it runs nothing."""
UNDERLAY = "underlay"
"""The bridge of the function VPC, 192.168.0.0/16."""
RESPONDER_PORT = 7007
REDIS_PORT = 6379
ZOOKEEPER_PORT = 2181
NAME_RULE = re.compile(r"^[a-z0-9][a-z0-9-]{0,20}$")
MAX_NODES, MAX_HOSTS, MAX_SUBNETS, MAX_PODS, MAX_CONTROLLERS = len(ascii_lowercase), 250, 200, 253, 3
THIRD_OCTETS = 100
"""Customers' subnets per second octet: s1 is 172.16.101.0/24, s100 172.16.200.0/24, s101 172.17.1.0/24."""
FIRST_HAVIPS = 50
"""HaVips of first pairs from 192.168.4.100 on, then from 192.168.5.1 on; of second pairs from 192.168.12.1 on, …"""
FIRST_EGRESS = 200
"""Egress addresses of a customer's subnet: .201 of its first pair, .202 of its second, …"""
OPERATOR = "ops"
"""The operator's machine, where there is one."""
PAIR = "p1"
"""The id of every subnet's first pair."""


class Kind(StrEnum):
    """What a machine is for."""

    FABRIC = "fabric"
    ZOOKEEPER = "zookeeper"
    NODE = "node"
    HOST = "host"
    CONTROLLER = "controller"
    OPERATOR = "operator"
    POD = "pod"
    DATABASE = "database"


class Tunnel(StrEnum):
    """How hosts reach nodes; `auto` becomes one of the others before a topology is built."""

    GRE = "gre"
    VXLAN = "vxlan"


@dataclass(frozen=True, slots=True)
class Interface:
    """A machine's end of a cable. The other end is a port of a fabric bridge, or another machine's interface."""

    name: str
    mac: str
    address: str | None = None
    """With prefix length; None: the link is up but has no address (an ENI, which the daemon configures)."""
    facing: str | None = None
    """The only address behind this card, on a cable between two machines: the kernel's `peer` address."""
    gateway: str | None = None
    bridge: str | None = None
    peer: tuple[str, str] | None = None
    """(machine, interface) at the other end, when there is no bridge between."""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One machine of a lab."""

    name: str
    kind: Kind
    interfaces: tuple[Interface, ...]
    forwards: bool = False

    @property
    def ip(self) -> str:
        """The address of its first interface, without prefix length."""
        return (self.interfaces[0].address or "").partition("/")[0]


def every_pair(subnet: SubnetPlan, pair: PairPlan) -> bool:  # noqa: ARG001 - called like the filters of tests
    """The filter of a pool document that leaves nothing out."""
    return True


@dataclass(frozen=True)
class Topology:
    """The few numbers that make a lab. `LabError` says which of them is out of range."""

    name: str = "lab"
    nodes: int = 2
    hosts: int = 1
    subnets: int = 1
    zk: int = 1
    tunnel: Tunnel = Tunnel.VXLAN
    overlap: bool = False
    """All customers use 172.16.101.0/24; then an instance is attached to one subnet only."""
    pairs: int = 1
    """Per subnet. A node is in at most one pair of a subnet."""
    pods: int = 1
    """Instances per host."""
    attach: bool = True
    """Attach the instances, through the API of their host's agent, to the subnets they may reach."""
    detection: str = "balanced"
    """`node.detection` of all nodes."""
    attach_all: bool = False
    """Hosts let every instance reach every subnet; then nothing is attached."""
    egress: bool = False
    """Every pair has an egress address."""
    controllers: int = 0
    """With any, the pool begins with the first pair of each subnet, and the others' cards and addresses are spares."""
    secure: bool = False
    """ZooKeeper is spoken to by mutual TLS, daemons say by the secret of their role who they are, and the pool is
    closed to all others. There is a machine for the operator, who alone may change the pool."""

    def __post_init__(self) -> None:
        if not NAME_RULE.match(self.name):
            raise LabError(f"lab name {self.name!r}: use 1-21 lower-case letters, digits and '-'")
        limits = (
            ("nodes", self.nodes, 2, MAX_NODES),
            ("hosts", self.hosts, 0, MAX_HOSTS),
            ("subnets", self.subnets, 0, MAX_SUBNETS),
            ("pairs per subnet", self.pairs, 1, MAX_NODES // 2),
            ("instances per host", self.pods, 1, MAX_PODS),
            ("controllers", self.controllers, 0, MAX_CONTROLLERS),
        )
        for what, value, low, high in limits:
            if not low <= value <= high:
                raise LabError(f"a lab has {low} to {high} {what}, not {value}")
        if self.zk not in (1, 3):
            raise LabError(f"a lab has 1 or 3 ZooKeeper servers, not {self.zk}")
        if self.nodes < 2 * self.pairs:
            needed = f"{self.pairs} pairs per subnet need {2 * self.pairs} nodes, not {self.nodes}"
            raise LabError(f"{needed}: a node is in one pair of a subnet at most")
        if self.overlap and self.attach_all and self.subnets > 1:
            raise LabError("customers with the same addresses need instances that are attached to one of them each")

    def to_json(self) -> dict[str, Any]:
        """The numbers, as kept in the lab's state file."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{**document, "tunnel": Tunnel(document["tunnel"])})

    def difference(self, other: Topology) -> str:
        """What `other` has different, for people: "nodes 2 → 3"; empty when they are equal."""
        ours, theirs = self.to_json(), other.to_json()
        return ", ".join(f"{key} {ours[key]} → {theirs[key]}" for key in ours if ours[key] != theirs[key])

    @cached_property
    def node_names(self) -> tuple[str, ...]:
        """node-a, node-b, …"""
        return tuple(f"node-{letter}" for letter in ascii_lowercase[: self.nodes])

    @property
    def operator(self) -> str:
        """The machine whose commands may change the pool."""
        return OPERATOR if self.secure else self.node_names[0]

    @cached_property
    def zookeeper_ips(self) -> tuple[str, ...]:
        """Of zk1, zk2, …"""
        return tuple(f"192.168.2.{i}" for i in range(1, self.zk + 1))

    @cached_property
    def subnet_plans(self) -> tuple[SubnetPlan, ...]:
        """Every customer's subnet, s1 first."""
        return tuple(self._subnet(n) for n in range(1, self.subnets + 1))

    @cached_property
    def machines(self) -> dict[str, MachineSpec]:
        """Every machine but the fabric, by name, in the order in which they are shown."""
        return {spec.name: spec for spec in self._machines()}

    @cached_property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance, those of host1 first."""
        return tuple(
            Instance(_pod_name(host, k), host, (host - 1) * self.pods + k, f"10.244.{host}.{1 + k}")
            for host in range(1, self.hosts + 1)
            for k in range(1, self.pods + 1)
        )

    def subnets_of(self, instance: Instance) -> tuple[SubnetPlan, ...]:
        """The subnets that an instance may reach."""
        if self.overlap and self.subnets:
            return (self.subnet_plans[(instance.number - 1) % self.subnets],)
        return self.subnet_plans

    def paths(self) -> Iterator[tuple[str, SubnetPlan]]:
        """Every (pod, subnet) between which traffic must flow when all is well."""
        for instance in self.instances:
            for subnet in self.subnets_of(instance):
                yield instance.name, subnet

    def attachments(self) -> dict[str, list[tuple[str, str]]]:
        """Host → (instance's address, subnet's id), for all the host's paths; without hosts that have none."""
        found: dict[str, list[tuple[str, str]]] = {}
        for instance in self.instances:
            for subnet in self.subnets_of(instance):
                found.setdefault(f"host{instance.host}", []).append((instance.address, subnet.id))
        return found

    def pool_document(self, wanted: Callable[[SubnetPlan, PairPlan], bool] = every_pair) -> dict[str, Any]:
        """The pool's content, as `proxypool pool apply` reads it: the wanted pairs, and the subnets that have one."""
        chosen = {
            subnet: [pair for pair in self._given(subnet) if wanted(subnet, pair)] for subnet in self.subnet_plans
        }
        return {
            "tunnel": self.tunnel.value,
            "subnets": [
                {
                    "id": subnet.id,
                    "tenant": subnet.tenant,
                    "cidrs": [subnet.cidr],
                    "key": subnet.key,
                    "pairs": [_pair_document(pair) for pair in pairs],
                    **(_scaling_document(subnet) if self.controllers else {}),
                }
                for subnet, pairs in chosen.items()
                if pairs
            ],
        }

    def _given(self, subnet: SubnetPlan) -> tuple[PairPlan, ...]:
        """The pairs that are there from the beginning; a controller adds the others when they are needed."""
        return subnet.pairs[:1] if self.controllers else subnet.pairs

    def _subnet(self, n: int) -> SubnetPlan:
        at = 1 if self.overlap else n
        prefix = f"172.16.{100 + at}" if at <= THIRD_OCTETS else f"172.17.{at - THIRD_OCTETS}"
        return SubnetPlan(
            number=n,
            id=f"s{n}",
            # An instance belongs to one customer, and reaches several subnets only if all are that customer's.
            tenant=f"t{n}" if self.overlap else "t1",
            cidr=f"{prefix}.0/24",
            key=100 + n,
            database=f"db{n}",
            database_ip=f"{prefix}.4",
            pairs=tuple(self._pair(n, j, prefix) for j in range(1, self.pairs + 1)),
        )

    def _pair(self, n: int, j: int, prefix: str) -> PairPlan:
        """Pair `j` of subnet `n`. Each pair takes the next two nodes."""
        first, second = (
            MemberPlan(self.node_names[(n + at) % self.nodes], f"eni{n}", f"{prefix}.{12 + at}/24")
            for at in (2 * j - 3, 2 * j - 2)
        )
        if j > 1:
            havip = f"192.168.{10 + j}.{n}"
        else:
            havip = f"192.168.4.{99 + n}" if n <= FIRST_HAVIPS else f"192.168.5.{n - FIRST_HAVIPS}"
        return PairPlan(f"p{j}", havip, (first, second), f"{prefix}.{FIRST_EGRESS + j}" if self.egress else None)

    def _machines(self) -> Iterator[MachineSpec]:
        for i, ip in enumerate(self.zookeeper_ips, 1):
            yield MachineSpec(f"zk{i}", Kind.ZOOKEEPER, (_underlay_card(f"zk{i}", ip),))
        for i, name in enumerate(self.node_names):
            enis = tuple(
                Interface(member.eni, mac_of(name, member.eni), bridge=subnet.bridge)
                for subnet in self.subnet_plans
                for member in subnet.all_members
                if member.node == name
            )
            yield MachineSpec(name, Kind.NODE, (_underlay_card(name, f"192.168.4.{11 + i}"), *enis))
        for i in range(1, self.hosts + 1):
            host, gateway = f"host{i}", f"10.244.{i}.1"
            to_pods = tuple(
                Interface(
                    pod.name, mac_of(host, pod.name), f"{gateway}/32", facing=pod.address, peer=(pod.name, "eth0")
                )
                for pod in self.instances
                if pod.host == i
            )
            yield MachineSpec(host, Kind.HOST, (_underlay_card(host, f"192.168.80.{i}"), *to_pods), forwards=True)
        for i in range(1, self.controllers + 1):
            yield MachineSpec(f"ctl{i}", Kind.CONTROLLER, (_underlay_card(f"ctl{i}", f"192.168.3.{i}"),))
        if self.secure:
            yield MachineSpec(OPERATOR, Kind.OPERATOR, (_underlay_card(OPERATOR, "192.168.1.1"),))
        for pod in self.instances:
            gateway, peer = f"10.244.{pod.host}.1", (f"host{pod.host}", pod.name)
            mac = mac_of(pod.name, "eth0")
            card = Interface("eth0", mac, f"{pod.address}/32", facing=gateway, gateway=gateway, peer=peer)
            yield MachineSpec(pod.name, Kind.POD, (card,))
        for subnet in self.subnet_plans:
            card = Interface("eth0", mac_of(subnet.database, "eth0"), f"{subnet.database_ip}/24", bridge=subnet.bridge)
            yield MachineSpec(subnet.database, Kind.DATABASE, (card,))


def _pair_document(pair: PairPlan) -> dict[str, Any]:
    egress = {"egress_address": pair.egress_address} if pair.egress_address else {}
    return {"id": pair.id, "havip": pair.havip, **egress, "members": [asdict(member) for member in pair.members]}


def _scaling_document(subnet: SubnetPlan) -> dict[str, Any]:
    """One pair at least, and as many as there are cards and addresses for."""
    spare = subnet.pairs[1:]
    egress = [pair.egress_address for pair in spare if pair.egress_address]
    return {
        "scaling": {"min_pairs": 1, "max_pairs": len(subnet.pairs), "mode": "enforce"},
        "spares": {
            "members": [asdict(member) for pair in spare for member in pair.members],
            "havips": [pair.havip for pair in spare],
            "egress_addresses": egress,
        },
    }


def zone_of(node: str) -> str:
    """The failure domain a node is labelled with: node-a is in zone a."""
    return node.removeprefix("node-")


def number_of(machine: str) -> int:
    """host12 → 12. Of an instance that of its host: pod12-3 → 12."""
    return int(machine.lstrip(ascii_lowercase).partition("-")[0])


def _pod_name(host: int, k: int) -> str:
    """pod1, pod1-2, pod1-3, …"""
    return f"pod{host}" if k == 1 else f"pod{host}-{k}"


def mac_of(machine: str, interface: str) -> str:
    """A locally administered unicast MAC that is the same whenever the machine is made again."""
    digest = hashlib.sha256(f"{machine}/{interface}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def fabric_port(machine: str, interface: str) -> str:
    """The fabric's end of a machine's cable. At most 15 characters, as the kernel demands."""
    return f"{machine}-{interface}"


def _underlay_card(machine: str, ip: str) -> Interface:
    return Interface("eth0", mac_of(machine, "eth0"), f"{ip}/16", bridge=UNDERLAY)
