"""Random schedules of faults. Pure: the same seed gives the same schedule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from proxypool.lab.fault_kinds import HEALS, OF_SUBNET, Fault, Options
from proxypool.lab.topology import Kind, Topology

NODE_FAULTS: dict[Fault, float] = {
    Fault.POWER_OFF: 4,
    Fault.PAUSE: 1,
    Fault.KILL_DAEMON: 2,
    Fault.KILL_KEEPALIVED: 2,
    Fault.STOP_DAEMON: 2,
    Fault.STOP_KEEPALIVED: 2,
    Fault.STORM_KEEPALIVED: 1,
    Fault.CUT_UNDERLAY: 2,
    Fault.CUT_UNDERLAY_IN: 1,
    Fault.CUT_UNDERLAY_OUT: 1,
    Fault.CUT_VRRP: 2,
    Fault.CUT_VRRP_IN: 1,
    Fault.CUT_VRRP_OUT: 1,
    Fault.CUT_ZOOKEEPER: 2,
    Fault.LOSE_VRRP: 1,
    Fault.LOSE_UNDERLAY: 1,
    Fault.DELAY_VRRP: 1,
    Fault.DELAY_UNDERLAY: 1,
    Fault.CUT_ENI: 1,
    Fault.DELETE_ENI: 1,
    Fault.FLUSH_IPTABLES: 1,
    Fault.FILL_DISK: 1,
    Fault.JUMP_CLOCK: 1,
}
"""Fault -> how often, in proportion. Those that need minutes have tests of their own."""
STATELESS_FAULTS: dict[Fault, float] = {Fault.FILL_CONNTRACK: 1}
"""Where members tell each other of connections, both tables are full, and nobody is left to be healthy."""
STATEFUL_FAULTS: dict[Fault, float] = {Fault.KILL_CONNTRACKD: 2, Fault.STOP_CONNTRACKD: 1}
"""Where pairs have egress addresses, conntrackd runs."""
ZOOKEEPER_FAULTS: dict[Fault, float] = {
    Fault.POWER_OFF: 2,
    Fault.PAUSE: 2,
    Fault.KILL_ZOOKEEPER: 1,
    Fault.SLOW_ZOOKEEPER: 1,
    Fault.CUT_UNDERLAY: 1,
}
ZOOKEEPER_SHARE = 0.25
"""Of all faults."""
MAX_AT_ONCE = 4
NO_JUMP = frozenset({Fault.RESUME, Fault.START_SERVICES, Fault.CONTINUE_ALL})
"""While one of these is still to come."""
SHORTEST_S, LONGEST_S = 0.3, 12.0
JUMP_S = 3600.0
PACES = (0.5, 1.0, 3.0)
"""Times the pauses: some schedules are so dense that faults meet, some so sparse that each one is seen by itself."""
PAUSES_S = (0.0, 0.2, 1.0, 3.0, 6.0)


@dataclass(frozen=True, slots=True)
class Step:
    """Do it so long after the beginning."""

    at: float
    fault: Fault
    machine: str
    subnet: str | None = None
    seconds: float = 0.0
    """By how much a clock jumps."""

    @property
    def options(self) -> Options:
        """How it is done."""
        return Options(self.subnet, seconds=self.seconds)

    def __str__(self) -> str:
        limit = f" of {self.subnet}" if self.subnet else ""
        jump = f" by {self.seconds:+.0f} s" if self.seconds else ""
        return f"{self.at:7.2f} s  {self.fault.value} {self.machine}{limit}{jump}"


def make(seed: str, topology: Topology, duration_s: float) -> tuple[Step, ...]:
    """Steps in the order of time; the healing of what lasts until the end is not among them."""
    dice = random.Random(seed)
    nodes = _victims(dice, topology)
    zookeepers = [machine.name for machine in topology.machines.values() if machine.kind is Kind.ZOOKEEPER]
    steps: list[Step] = []
    lasting: list[Step] = []
    """Healings to come."""
    now, pace = dice.uniform(0.5, 2.0), dice.choice(PACES)
    while now < duration_s:
        due = sorted((step for step in lasting if step.at <= now), key=lambda step: step.at)
        steps += due
        lasting = [step for step in lasting if step not in due]
        if len(lasting) < MAX_AT_ONCE and (step := _choose(dice, now, nodes, zookeepers, topology, lasting)):
            steps.append(step)
            if step.fault in HEALS:
                span_s = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** dice.random()
                lasting.append(Step(round(now + span_s, 3), HEALS[step.fault], step.machine, step.subnet))
        now = round(now + pace * dice.choice(PAUSES_S) * dice.uniform(0.5, 1.0) + 0.05, 3)
    steps += [step for step in lasting if step.at < duration_s]
    return tuple(sorted(steps, key=lambda step: step.at))


def _victims(dice: random.Random, topology: Topology) -> list[str]:
    """In two of three schedules every pair keeps a member that nothing happens to."""
    nodes = list(topology.node_names)
    if dice.random() < 1 / 3:
        return nodes
    dice.shuffle(nodes)
    spared: set[str] = set()
    for plan in topology.subnet_plans:
        for pair in plan.pairs:
            names = {member.node for member in pair.members}
            if not names & spared:
                spared.add(next(node for node in nodes if node in names))
    return [node for node in nodes if node not in spared] or nodes


def _choose(
    dice: random.Random,
    now: float,
    nodes: Sequence[str],
    zookeepers: Sequence[str],
    topology: Topology,
    lasting: Sequence[Step],
) -> Step | None:
    """None when the dice fell on something that is not possible now."""
    is_zookeeper = dice.random() < ZOOKEEPER_SHARE
    of_nodes = NODE_FAULTS | (STATEFUL_FAULTS if topology.egress else STATELESS_FAULTS)
    faults = ZOOKEEPER_FAULTS if is_zookeeper else of_nodes
    machine = dice.choice(list(zookeepers if is_zookeeper else nodes))
    fault = dice.choices(list(faults), list(faults.values()))[0]
    subnet = None
    if fault in OF_SUBNET:
        own = [plan.id for plan in topology.subnet_plans if any(m.node == machine for m in plan.all_members)]
        subnet = dice.choice(own)
    there = {step.fault for step in lasting if step.machine == machine}
    # Nothing more can be done to a machine that is off; and what heals one thing would heal another.
    if Fault.POWER_ON in there or HEALS.get(fault) in there:
        return None
    if fault is not Fault.JUMP_CLOCK:
        return Step(round(now, 3), fault, machine, subnet)
    # The lab starts the daemon anew for it: not one that is dead or stopped.
    return None if there & NO_JUMP else Step(round(now, 3), fault, machine, None, dice.choice((JUMP_S, -JUMP_S)))
