"""The lab of a bench.

node-a and node-b run our daemons and carry every subnet but, where there are node-c and node-d, the last one: that is
for the path laid by hand, from pod2 behind host2. On node-c, node-d and host2 nothing of ours runs.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.settings import Settings
from proxypool.core.addressing import namespace_of, tunnel_device_of
from proxypool.lab.errors import LabError
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.namespaces import in_network_of
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import PAIR, Kind, Topology

NAME = "bench"
OUR_NODES, HAND_NODES = ("node-a", "node-b"), ("node-c", "node-d")
INSTANCE, HAND_INSTANCE = "pod1", "pod2"
UP_TIMEOUT_S = 180.0
METRICS_PORT = {Kind.NODE: 9477, Kind.HOST: 9478}

_REMOVE = """
import sys
from proxypool.cli.main import app
for subnet in sys.argv[1:]:
    risks = ["--accept-risk=drop-connections", "--accept-risk=stop-new-connections"]
    app(["pair", "remove", subnet, "%s", "--yes", *risks], standalone_mode=False)
    app(["subnet", "remove", subnet, "--yes"], standalone_mode=False)
"""
"""The product's own commands, in one process: starting 200 of them takes a minute."""


@dataclass(frozen=True)
class BenchTopology(Topology):
    """Two nodes for us; with four, the last subnet and the last host are laid by hand."""

    def _subnet(self, n: int) -> SubnetPlan:
        plan = super()._subnet(n)
        is_by_hand = self.nodes > len(OUR_NODES) and n == self.subnets
        first, second = (
            replace(member, node=node)
            for member, node in zip(plan.members, HAND_NODES if is_by_hand else OUR_NODES, strict=True)
        )
        return replace(plan, pairs=(replace(plan.pairs[0], members=(first, second)),))


def subnets_of(lab: Lab) -> tuple[SubnetPlan, ...]:
    """Those that are ours."""
    plans = lab.topology.subnet_plans
    return plans[:-1] if lab.topology.nodes > len(OUR_NODES) else plans


def hand_subnet(lab: Lab) -> SubnetPlan:
    """The one that is laid by hand."""
    return lab.topology.subnet_plans[-1]


def require_none() -> None:
    """`LabError` when a lab of our name is up."""
    if Lab.exists(NAME):
        raise LabError(f"lab {NAME!r} is up: another bench runs, or one was killed; `proxypool lab down --name {NAME}`")


@contextmanager
def bench_lab(
    settings: Settings,
    *,
    subnets: int = 1,
    by_hand: bool,
    attach_all: bool = True,
    host_options: Mapping[str, str] | None = None,
    egress: bool = False,
) -> Iterator[Lab]:
    """A lab with an empty pool whose daemons run; gone afterwards, whatever happens.

    `host_options`: what else stands in the section `host` of our host's configuration, as TOML.
    """
    require_none()
    topology = BenchTopology(
        NAME,
        nodes=4 if by_hand else 2,
        hosts=2 if by_hand else 1,
        subnets=subnets + (1 if by_hand else 0),
        tunnel=settings.tunnel,
        attach_all=attach_all,
        egress=egress,
    )
    with Lab.up(topology, settings.progress, start_daemons=False, apply=False, timeout_s=UP_TIMEOUT_S) as lab:
        for node in OUR_NODES:
            start_node(lab, node)
        # One instance stands for all of a host's.
        for key, value in {"new_connections_per_s_per_instance": "0", **(host_options or {})}.items():
            edit = f"/^{key} = /d; /^\\[host\\]/a {key} = {value}"
            lab.machine("host1").run(["sed", "-i", edit, "/etc/proxypool/proxypool.toml"])
        lab.machine("host1").start("daemon")
        for machine in (*OUR_NODES, "host1"):
            wait_until(lambda machine=machine: bool(metrics(lab, machine)), 20.0, f"the daemon of {machine}")  # type: ignore[misc]
        yield lab


def without_rate_limit(lab: Lab) -> None:
    """One instance stands for all of a host's: the agent begins anew, and lets it begin as many as it can."""
    host = lab.machine("host1")
    edit = "/^\\[host\\]/a new_connections_per_s_per_instance = 0"
    host.run(["sed", "-i", edit, "/etc/proxypool/proxypool.toml"])
    lab.fault(Fault.KILL_DAEMON, "host1")
    lab.fault(Fault.START_SERVICES, "host1")


def start_node(lab: Lab, node: str) -> None:
    """What systemd would start."""
    lab.machine(node).start("keepalived")
    lab.machine(node).start("daemon")


def apply(lab: Lab, subnets: tuple[SubnetPlan, ...]) -> None:
    """Put subnets with their pairs into the pool and wait until all is well."""
    document = lab.topology.pool_document(lambda subnet, _: subnet in subnets)
    lab.proxypool("pool", "apply", "-", input=json.dumps(document), timeout=UP_TIMEOUT_S)
    wait_settled(lab, subnets, UP_TIMEOUT_S)


def remove(lab: Lab, subnets: tuple[SubnetPlan, ...]) -> None:
    """Take subnets out of the pool and wait until nothing of them is left."""
    command = [sys.executable, "-c", _REMOVE % PAIR, *(subnet.id for subnet in subnets)]
    lab.machine("node-a").run(command, timeout=UP_TIMEOUT_S)
    wait_until(lambda: not left_of(lab, subnets), UP_TIMEOUT_S, lambda: f"{left_of(lab, subnets)[:5]} to be gone")


def left_of(lab: Lab, subnets: tuple[SubnetPlan, ...]) -> list[str]:
    """What is still there of subnets that were removed: namespaces, keepalived's files, cards not yet back home."""
    found = []
    for node in OUR_NODES:
        root = Path(f"/proc/{lab.machine(node).pid}/root")
        namespaces, files = names_in(root / "run/netns"), names_in(root / "etc/keepalived/conf.d")
        cards = names_in(root / "sys/class/net")
        for subnet in subnets:
            card = next(member.eni for member in subnet.members if member.node == node)
            gone = f"proxypool-{subnet.id}_{PAIR}.conf"
            if namespace_of(subnet.id) in namespaces or gone in files or card not in cards:
                found.append(f"{subnet.id} on {node}")
    devices = names_in(Path(f"/proc/{lab.machine('host1').pid}/root/sys/class/net"))
    return found + [f"{subnet.id} on host1" for subnet in subnets if tunnel_device_of(subnet.id) in devices]


def names_in(directory: Path) -> set[str]:
    """Of its entries; none if it is not there."""
    try:
        return {entry.name for entry in directory.iterdir()}
    except FileNotFoundError:
        return set()


# ---- what daemons say ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """What a node's daemon says of itself as a member of a subnet's pair."""

    role: str
    is_elected: bool
    is_fit: bool


_SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of `/metrics`."""

    name: str
    labels: dict[str, str]
    value: float


def metrics(lab: Lab, name: str) -> list[Sample]:
    """Of a machine's daemon; empty while it does not answer."""
    machine = lab.machine(name)
    place = (machine.spec.ip, METRICS_PORT[machine.spec.kind])
    try:
        with in_network_of(machine.pid, lambda: socket.create_connection(place, timeout=5.0)) as link:
            link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
    except OSError:
        return []
    return [Sample(found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])) for found in _SERIES.finditer(text)]


def members(samples: list[Sample]) -> dict[str, Member]:
    """Subnet → what the daemon says of its membership."""
    flags: dict[tuple[str, str], float] = {}
    roles: dict[str, str] = {}
    for sample in samples:
        if sample.name == "proxypool_member_role" and sample.value:
            roles[sample.labels["subnet"]] = sample.labels["role"]
        elif sample.name in {"proxypool_member_elected", "proxypool_member_fit"}:
            flags[sample.labels["subnet"], sample.name] = sample.value
    return {
        subnet: Member(
            role,
            bool(flags.get((subnet, "proxypool_member_elected"))),
            bool(flags.get((subnet, "proxypool_member_fit"))),
        )
        for subnet, role in roles.items()
    }


def unsettled(lab: Lab, subnets: tuple[SubnetPlan, ...], nodes: tuple[str, ...] = OUR_NODES) -> list[str]:
    """Subnets that are not as they are when all is well: one fit elected master, one fit backup."""
    said = [members(metrics(lab, node)) for node in nodes]
    well = {Member("master", is_elected=True, is_fit=True), Member("backup", is_elected=False, is_fit=True)}
    found = []
    for subnet in subnets:
        seen = [each.get(subnet.id) for each in said]
        if set(seen) != well:
            found.append(f"{subnet.id}: {seen}")
    return found


def wait_settled(lab: Lab, subnets: tuple[SubnetPlan, ...], timeout_s: float = 30.0) -> None:
    """Until all is well with these subnets. Polled slowly: a scrape of many subnets is work for the daemons."""
    wait_until(
        lambda: not unsettled(lab, subnets), timeout_s, lambda: "; ".join(unsettled(lab, subnets)[:3]), interval_s=0.25
    )


def holder(lab: Lab, subnet: SubnetPlan, *, timeout_s: float = 15.0, wanted: Callable[[str], bool] = bool) -> str:
    """The node that has the HaVip, as its kernel says; waits until it is one that is wanted."""
    wait_until(lambda: wanted(lab.holder(subnet) or ""), timeout_s, f"a node to hold {subnet.havip}", interval_s=0.01)
    return lab.holder(subnet) or ""


def power_on(lab: Lab, node: str) -> None:
    """Power a node of ours on and start what systemd would start."""
    lab.fault(Fault.POWER_ON, node)
    start_node(lab, node)
