"""What a lab consists of: machines, their addresses and cables, and the content of its pool.

Pure: everything follows from the few numbers in `Topology`, so tests, benches and the lab itself agree on every
address without asking the kernel.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from string import ascii_lowercase
from typing import Any, Self

from proxypool.lab.errors import LabError

FABRIC = "fabric"
"""The machine that holds the bridges; it runs nothing."""
UNDERLAY = "underlay"
"""The bridge of the function VPC, 192.168.0.0/16."""
RESPONDER_PORT = 7007
REDIS_PORT = 6379
ZOOKEEPER_PORT = 2181
NAME_RULE = re.compile(r"^[a-z0-9][a-z0-9-]{0,20}$")
MAX_NODES, MAX_HOSTS, MAX_SUBNETS = len(ascii_lowercase), 250, 200
THIRD_OCTETS = 100
"""Customers' subnets per second octet: s1 is 172.16.101.0/24, s100 172.16.200.0/24, s101 172.17.1.0/24."""
FIRST_HAVIPS = 50
"""HaVips from 192.168.4.100 on; the others begin at 192.168.5.1."""
PAIR = "p1"
"""The id of every subnet's only pair."""


class Kind(StrEnum):
    """What a machine is for."""

    FABRIC = "fabric"
    ZOOKEEPER = "zookeeper"
    NODE = "node"
    HOST = "host"
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


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """A node's place in the pair of a customer subnet."""

    node: str
    eni: str
    address: str
    """Of the ENI, with prefix length."""


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    """A customer's subnet: its own bridge, one server, and a pair of nodes with an ENI each."""

    number: int
    id: str
    tenant: str
    cidr: str
    key: int
    havip: str
    database: str
    database_ip: str
    members: tuple[MemberPlan, MemberPlan]

    @property
    def bridge(self) -> str:
        """Its bridge in the fabric."""
        return f"customer{self.number}"


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
    """All customers use 172.16.101.0/24; then host i serves one subnet only."""

    def __post_init__(self) -> None:
        if not NAME_RULE.match(self.name):
            raise LabError(f"lab name {self.name!r}: use 1-21 lower-case letters, digits and '-'")
        limits = (
            ("nodes", self.nodes, 2, MAX_NODES),
            ("hosts", self.hosts, 0, MAX_HOSTS),
            ("subnets", self.subnets, 0, MAX_SUBNETS),
        )
        for what, value, low, high in limits:
            if not low <= value <= high:
                raise LabError(f"a lab has {low} to {high} {what}, not {value}")
        if self.zk not in (1, 3):
            raise LabError(f"a lab has 1 or 3 ZooKeeper servers, not {self.zk}")

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

    def subnets_of_host(self, number: int) -> tuple[SubnetPlan, ...]:
        """The subnets that host `number` serves, hence those its pod may reach."""
        if self.overlap and self.subnets:
            return (self.subnet_plans[(number - 1) % self.subnets],)
        return self.subnet_plans

    def paths(self) -> Iterator[tuple[str, SubnetPlan]]:
        """Every (pod, subnet) between which traffic must flow when all is well."""
        for i in range(1, self.hosts + 1):
            for subnet in self.subnets_of_host(i):
                yield f"pod{i}", subnet

    def pool_document(self) -> dict[str, Any]:
        """The pool's content, as `proxypool pool apply` reads it."""
        return {
            "tunnel": self.tunnel.value,
            "subnets": [
                {
                    "id": subnet.id,
                    "tenant": subnet.tenant,
                    "cidrs": [subnet.cidr],
                    "key": subnet.key,
                    "pairs": [{"id": PAIR, "havip": subnet.havip, "members": [asdict(m) for m in subnet.members]}],
                }
                for subnet in self.subnet_plans
            ],
        }

    def _subnet(self, n: int) -> SubnetPlan:
        at = 1 if self.overlap else n
        prefix = f"172.16.{100 + at}" if at <= THIRD_OCTETS else f"172.17.{at - THIRD_OCTETS}"
        nodes = self.node_names[(n - 1) % self.nodes], self.node_names[n % self.nodes]
        first, second = (
            MemberPlan(node, f"eni{n}", f"{prefix}.{last}/24") for node, last in zip(nodes, (11, 12), strict=True)
        )
        return SubnetPlan(
            number=n,
            id=f"s{n}",
            tenant=f"t{n}",
            cidr=f"{prefix}.0/24",
            key=100 + n,
            havip=f"192.168.4.{99 + n}" if n <= FIRST_HAVIPS else f"192.168.5.{n - FIRST_HAVIPS}",
            database=f"db{n}",
            database_ip=f"{prefix}.4",
            members=(first, second),
        )

    def _machines(self) -> Iterator[MachineSpec]:
        for i, ip in enumerate(self.zookeeper_ips, 1):
            yield MachineSpec(f"zk{i}", Kind.ZOOKEEPER, (_underlay_card(f"zk{i}", ip),))
        for i, name in enumerate(self.node_names):
            enis = tuple(
                Interface(member.eni, mac_of(name, member.eni), bridge=subnet.bridge)
                for subnet in self.subnet_plans
                for member in subnet.members
                if member.node == name
            )
            yield MachineSpec(name, Kind.NODE, (_underlay_card(name, f"192.168.4.{11 + i}"), *enis))
        for i in range(1, self.hosts + 1):
            host, pod = f"host{i}", f"pod{i}"
            to_pod = Interface(pod, mac_of(host, pod), f"10.244.{i}.1/24", peer=(pod, "eth0"))
            yield MachineSpec(host, Kind.HOST, (_underlay_card(host, f"192.168.80.{i}"), to_pod), forwards=True)
        for i in range(1, self.hosts + 1):
            host, pod = f"host{i}", f"pod{i}"
            card = Interface("eth0", mac_of(pod, "eth0"), f"10.244.{i}.2/24", f"10.244.{i}.1", peer=(host, pod))
            yield MachineSpec(pod, Kind.POD, (card,))
        for subnet in self.subnet_plans:
            card = Interface("eth0", mac_of(subnet.database, "eth0"), f"{subnet.database_ip}/24", bridge=subnet.bridge)
            yield MachineSpec(subnet.database, Kind.DATABASE, (card,))


def zone_of(node: str) -> str:
    """The failure domain a node is labelled with: node-a is in zone a."""
    return node.removeprefix("node-")


def number_of(machine: str) -> int:
    """host12 → 12."""
    return int(machine.lstrip(ascii_lowercase))


def mac_of(machine: str, interface: str) -> str:
    """A locally administered unicast MAC that is the same whenever the machine is made again."""
    digest = hashlib.sha256(f"{machine}/{interface}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def fabric_port(machine: str, interface: str) -> str:
    """The fabric's end of a machine's cable. At most 15 characters, as the kernel demands."""
    return f"{machine}-{interface}"


def _underlay_card(machine: str, ip: str) -> Interface:
    return Interface("eth0", mac_of(machine, "eth0"), f"{ip}/16", bridge=UNDERLAY)
