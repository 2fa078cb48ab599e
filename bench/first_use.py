"""First use of a subnet on a host: from the attach call to the first answer of the database.

The attach waits for the tunnel, the rules, the host's registration and the word of the subnet's nodes. Beside it
scripts that do it by hand, on the node and on the host.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bench.by_hand import HOST, ByHand
from bench.figures import median, quantile
from bench.instances import RANGES, Times, hurried, instance, instances, lay_range, links, measure
from bench.labs import (
    HAND_INSTANCE,
    HAND_NODES,
    INSTANCE,
    OUR_NODES,
    apply,
    bench_lab,
    names_in,
    subnets_of,
    wait_settled,
)
from bench.report import Report
from bench.settings import Settings
from bench.shell import Shell
from proxypool.adapters.agent import Agent
from proxypool.core.addressing import namespace_of, tunnel_device_of
from proxypool.lab.agent import socket_of, wait_api
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until

LIMIT_MS = 100.0
ROUND, QUICK_ROUND = 20, 3
"""Subnets that are brought into use one after the other, before they are given up together."""
GONE_S = 60.0
"""The agent looks every ten seconds whether paths still have connections, and gives them up the time after."""
CALM_S = 10.0
BY_HAND = "scripts, one node"


@dataclass
class Host:
    """Our function host: a subnet is used by the instance of its number."""

    lab: Lab
    agent: Agent
    used: set[SubnetPlan] = field(default_factory=set)

    def have(self, subnets: Collection[SubnetPlan]) -> None:
        """Have just these in use. Of those that are given up neither host nor nodes have anything left then."""
        gone = [subnet for subnet in self.used if subnet not in subnets]
        new = [subnet for subnet in subnets if subnet not in self.used]
        if gone:
            self.agent.detach([_pair(subnet) for subnet in gone])
            wait_until(lambda: not self._left(gone), GONE_S, lambda: f"{self._left(gone)[:3]} to go", interval_s=0.5)
        for subnet in new:
            self.agent.attach([_pair(subnet)])
        self.used = set(subnets)

    def measure(self, times: Times, subnets: Sequence[SubnetPlan]) -> None:
        """Bring them into use, one after the other."""
        addresses = [instance(INSTANCE, subnet.number) for subnet in subnets]
        with links(self.lab, INSTANCE, addresses, socket.SOCK_DGRAM) as made, hurried():
            for subnet, link in zip(subnets, made, strict=True):
                pair = _pair(subnet)
                measure(times, lambda pair=pair: self.agent.attach([pair]), link, subnet.database_ip)  # type: ignore[misc]
        self.used |= set(subnets)

    def _left(self, subnets: Sequence[SubnetPlan]) -> list[str]:
        root = Path(f"/proc/{self.lab.machine('host1').pid}/root")
        devices = names_in(root / "sys/class/net")
        found = [subnet.id for subnet in subnets if tunnel_device_of(subnet.id) in devices]
        look = "".join(f"ip -n {namespace_of(subnet.id)} neigh show nud permanent\n" for subnet in subnets)
        if not found:
            found = [self.lab.machine(node).run(["sh"], input=look).stdout for node in OUR_NODES]
        return [one for one in found if one]


def _pair(subnet: SubnetPlan) -> tuple[str, str]:
    return str(instance(INSTANCE, subnet.number)), subnet.id


def run(settings: Settings) -> Report:
    """Measure."""
    size = QUICK_ROUND if settings.is_quick else ROUND
    many = 2 * size + 1 if settings.is_quick else settings.many_subnets()
    options = {"instance_cidrs": json.dumps([str(RANGES[INSTANCE])]), "linger_s": "0.0"}
    alone, crowded, by_hand = Times(), Times(), Times()
    with bench_lab(settings, subnets=many, by_hand=True, attach_all=False, host_options=options) as lab:
        hand = ByHand(lab)
        hand.lay_address()
        lay_range(lab, INSTANCE, "host1")
        lay_range(lab, HAND_INSTANCE, HOST)
        subnets = subnets_of(lab)
        settings.progress(f"adding {many} subnets")
        apply(lab, subnets)
        # A hundred pairs that are made at once change their masters a few times on a computer with few cores.
        time.sleep(0.0 if settings.is_quick else CALM_S)
        wait_settled(lab, subnets)
        path = socket_of(lab.machine("host1"))
        wait_api(path)
        rounds = [subnets[first : first + size] for first in range(0, many - size + 1, size)]
        with closing(Agent(path)) as agent, Shell(lab.machine(HAND_NODES[0])) as node, Shell(lab.machine(HOST)) as at:
            host, scripts = Host(lab, agent), Scripts(hand, node, at)
            scripts.undo()
            for one in rounds[: 1 if settings.is_quick else None]:
                host.have(())
                host.measure(alone, one)
                scripts.measure(by_hand, size)
                settings.progress(f"up to {size - 1} other subnets: {_said(alone)}; by hand {_said(by_hand)}")
            for one in rounds[1 if settings.is_quick else 0 :]:
                host.have([subnet for subnet in subnets if subnet not in one])
                host.measure(crowded, one)
                scripts.measure(by_hand, size)
                settings.progress(f"up to {many - 1} other subnets: {_said(crowded)}; by hand {_said(by_hand)}")
    return _report({f"0-{size - 1}": alone, f"{many - size}-{many - 1}": crowded}, by_hand)


def _said(times: Times) -> str:
    return f"{median(times.firsts):.1f} ms, p99 {quantile(times.firsts, 0.99):.1f} ms"


@dataclass(frozen=True)
class Scripts:
    """The same by hand, with a shell on the node and one on the host."""

    hand: ByHand
    node: Shell
    host: Shell

    def measure(self, times: Times, count: int) -> None:
        """First uses, each undone afterwards."""
        on_node, on_host = self.hand.first_use()

        def use() -> None:
            self.node.run(on_node)
            self.host.run(on_host)

        addresses = instances(HAND_INSTANCE, 1, count)
        with links(self.hand.lab, HAND_INSTANCE, addresses, socket.SOCK_DGRAM) as made, hurried():
            for link in made:
                measure(times, use, link, self.hand.subnet.database_ip)
                self.undo_host()
                self.undo()

    def undo(self) -> None:
        """On the node."""
        self.node.run(self.hand.undo_first_use()[0])

    def undo_host(self) -> None:
        """On the host."""
        self.host.run(self.hand.undo_first_use()[1])


def _report(found: dict[str, Times], by_hand: Times) -> Report:
    report = Report()
    for others, times in found.items():
        name = f"first use, {others} other subnets"
        target = f"p99 <= {LIMIT_MS:g} ms"
        packets = [first - call for first, call in zip(times.firsts, times.calls, strict=True)]
        theirs = [first - call for first, call in zip(by_hand.firsts, by_hand.calls, strict=True)]
        report.compare(name, "ms", times.firsts, by_hand.firsts, BY_HAND, target=target)
        report.compare(f"of which the call, {others}", "ms", times.calls, by_hand.calls, BY_HAND)
        report.compare(f"of which the first packet, {others}", "ms", packets, theirs, BY_HAND)
        report.notes.append(f"{name}: first packets without an answer: {times.lost} of {len(packets)}")
    return report
