"""Does one schedule in a lab, records it, heals everything, and looks whether all is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from proxypool.lab.errors import LabError, LabTimeout
from proxypool.lab.fault_kinds import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.topology import Kind, Topology
from tests.chaos.history import History
from tests.chaos.recorder import Recorder
from tests.chaos.schedule import Step
from tests.lab.instances import restore_attachments
from tests.lab.observe import PATIENCE, metrics, tunnel_kind, unsettled

WELL_WITHIN_S = 30.0
IDLE_S = 3.0
FOREIGN_ROUTE = "198.51.100.0/24"
FOREIGN_NAMESPACE = "another"
LOG_LINES = 200
Say = Callable[[str], None]


def topology_of(name: str, *, egress: bool = False) -> Topology:
    """Three nodes in a ring of two pairs, three ZooKeeper servers: each kind of fault has something to act on. `egress`:
    pairs have egress addresses, so that members tell each other of their connections.
    """
    return Topology(name, nodes=3, hosts=1, subnets=2, zk=3, tunnel=tunnel_kind(), egress=egress)


def run(lab: Lab, seed: str, steps: Sequence[Step], duration_s: float, say: Say) -> History:
    """The history. The lab is whole again afterwards, as far as the product lets it be."""
    foreign = _make_foreign(lab)
    try:
        with Recorder(lab) as recorder:
            began = time.monotonic()
            for step in steps:
                time.sleep(max(0.0, began + step.at - time.monotonic()))
                say(str(step))
                try:
                    recorder.fault(step.fault, step.machine, step.options)
                except LabError as error:
                    # The program that is to be stopped was killed just before: then this is no fault.
                    say(f"           not possible: {error}")
            time.sleep(max(0.0, began + duration_s - time.monotonic()))
            say("healing everything")
            for name in _breakable(lab):
                recorder.fault(Fault.POWER_ON, name)
            unhealed = _wait_well(lab)
            restless = _restless(lab) if not unhealed else ()
    finally:
        for name in _breakable(lab):
            lab.fault(Fault.POWER_ON, name)
    off = {event.machine for event in recorder.faults if event.fault == Fault.POWER_OFF}
    lost = _lost(lab, {node: what for node, what in foreign.items() if node not in off})
    return recorder.history(seed, foreign_lost=tuple(lost), restless=restless, unhealed=unhealed, log=_logs(lab))


def _breakable(lab: Lab) -> list[str]:
    """Machines that faults may be done to."""
    return [spec.name for spec in lab.topology.machines.values() if spec.kind in {Kind.NODE, Kind.ZOOKEEPER}]


def _wait_well(lab: Lab) -> tuple[str, ...]:
    """What is not well when the time is over; nothing as soon as all is."""
    deadline = time.monotonic() + WELL_WITHIN_S * PATIENCE
    while True:
        wrong = [text for plan in lab.topology.subnet_plans if (text := unsettled(lab, plan))]
        if not wrong or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    restore_attachments(lab)
    try:
        lab.wait_ready(max(2.0, deadline - time.monotonic()))
    except LabTimeout as error:
        wrong.append(str(error))
    return tuple(wrong)


def _restless(lab: Lab) -> tuple[str, ...]:
    """Nodes that change their kernel although nothing happens."""

    def counts() -> dict[str, float]:
        return {
            node: sum(v for k, v in metrics(lab, node).items() if k.startswith("proxypool_kernel_operations_total"))
            for node in lab.topology.node_names
        }

    deadline = time.monotonic() + 3 * IDLE_S
    while True:
        before = counts()
        time.sleep(IDLE_S)
        changed = tuple(f"{node}'s kernel" for node, count in counts().items() if count != before[node])
        if not changed or time.monotonic() > deadline:
            return changed


def _make_foreign(lab: Lab) -> dict[str, str]:
    """Things of others on every node; as text, to be compared later."""
    for node in lab.topology.node_names:
        commands = f"ip route replace blackhole {FOREIGN_ROUTE} proto 99; ip netns add {FOREIGN_NAMESPACE} 2>/dev/null"
        lab.machine(node).run(["sh", "-c", f"{commands}; touch /etc/keepalived/conf.d/another.conf"], check=False)
    return {node: _foreign(lab, node) for node in lab.topology.node_names}


def _foreign(lab: Lab, node: str) -> str:
    script = f"""
    ip route show proto 99; ip netns list | cut -d ' ' -f 1 | grep -x {FOREIGN_NAMESPACE}
    ls -i /etc/keepalived/conf.d/another.conf
    """
    return lab.machine(node).run(["sh", "-c", script], check=False).stdout


def _lost(lab: Lab, before: dict[str, str]) -> list[str]:
    return [f"on {node}: {text.split()}" for node, text in before.items() if _foreign(lab, node) != text]


def _logs(lab: Lab) -> tuple[str, ...]:
    return tuple(
        f"{node} {service}: {line}"
        for node in lab.topology.node_names
        for service in ("daemon", "keepalived")
        for line in lab.machine(node).log(service).splitlines()[-LOG_LINES:]
    )
