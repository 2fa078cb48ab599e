"""Power-off of the master: which connections live? And what does it cost to tell the other member of all of them?

A thousand TCP connections talk, and as many new connections as this computer makes are opened beside them, while the
master is powered off; then once more, when it has returned: the way back. Beside that, in the same lab: keepalived and
conntrackd set up by hand, and a plain keepalived with MASQUERADE.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.by_hand import ByHand
from bench.by_hand_synced import ByHandSynced
from bench.datapath import TCP, _iperf, _servers
from bench.figures import median
from bench.labs import (
    HAND_INSTANCE,
    HAND_NODES,
    INSTANCE,
    OUR_NODES,
    apply,
    bench_lab,
    holder,
    members,
    metrics,
    power_on,
    subnets_of,
    wait_settled,
)
from bench.probe import wait_reached
from bench.report import Report
from bench.settings import Settings
from proxypool.lab import preflight
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections, Flows
from proxypool.lab.processes import kill, wait_until

RUNS = 5
CONNECTIONS, INTERVAL_MS = 1000, 400.0
"""2,500 questions a second: more would leave two processors nothing for the rest."""
NEW_FLOWS = 1_000_000
"""More than can be made: UDP, of which this computer makes more than of TCP connections."""
FIRST_PORT, PORTS, PORTS_EACH = 10000, 55000, 27500
"""A flow must be new to the table, which knows those of the last half minute."""
OLD_S = 0.1
LOAD_S, OURS_AFTER_S, PLAIN_AFTER_S = 3.0, 6.0, 14.0
"""TCP tries again in pauses that double: after a blackout of 3 s it may take 7 s."""
SESSION_END_S = 15.0
SYNCED, PLAIN = "keepalived + conntrackd by hand", "keepalived, MASQUERADE"
COST_FLOWS = 20000
_TURNS = itertools.count()


@dataclass
class Outcome:
    """Of one power-off."""

    old: int
    alive: int
    stall_ms: float
    new_per_s: float

    @property
    def share(self) -> float:
        """Of the connections that were older than 100 ms, in per cent."""
        return 100.0 * self.alive / self.old if self.old else 0.0


@dataclass
class Found:
    """Of one way to set it up."""

    there: list[Outcome] = field(default_factory=list)
    back: list[Outcome] = field(default_factory=list)


def run(settings: Settings) -> Report:
    """Measure."""
    preflight.require({"iperf3": "iperf3", "conntrackd": "conntrackd"})
    runs = settings.runs_or(RUNS)
    ours, synced, plain = Found(), Found(), Found()
    report = Report()
    with bench_lab(settings, by_hand=True, egress=True) as lab:
        (subnet,) = subnets_of(lab)
        apply(lab, (subnet,))
        _wait_in_step(lab)
        wait_reached(lab, INSTANCE, [subnet.database_ip])
        for number in range(runs):
            for outcomes in (ours.there, ours.back):
                outcomes.append(_ours(lab, subnet))
                settings.progress(f"{number + 1}/{runs}: ours {_text(outcomes[-1])}")
        for what, hand, found in ((SYNCED, ByHandSynced(lab), synced), (PLAIN, ByHand(lab), plain)):
            hand.lay_pair()
            wait_reached(lab, HAND_INSTANCE, [hand.subnet.database_ip])
            for number in range(runs):
                for outcomes in (found.there, found.back):
                    outcomes.append(_by_hand(hand))
                    settings.progress(f"{number + 1}/{runs}: {what} {_text(outcomes[-1])}")
            hand.remove()
        _cost(lab, subnet, settings, report)
    for measure, way in (("connections alive", "there"), ("connections alive after the way back", "back")):
        mine, theirs, others = ([outcome.share for outcome in getattr(found, way)] for found in (ours, synced, plain))
        report.compare(measure, "%", mine, theirs, SYNCED, target=">= 99.9")
        report.compare(f"{measure} (plain)", "%", mine, others, PLAIN)
    for outcomes in (ours.there, ours.back):
        _note(report, outcomes)
    report.compare(
        "longest stall of one that lived",
        "ms",
        [outcome.stall_ms for outcome in ours.there],
        [outcome.stall_ms for outcome in synced.there],
        SYNCED,
    )
    return report


def _note(report: Report, outcomes: list[Outcome]) -> None:
    report.notes.append(
        f"{CONNECTIONS} connections, {median([outcome.old for outcome in outcomes]):.0f} of them older than 100 ms; "
        f"new connections beside them: {median([outcome.new_per_s for outcome in outcomes]):.0f}/s (generator, server "
        "and all nodes share this computer's processors)"
    )


def _text(outcome: Outcome) -> str:
    return (
        f"{outcome.alive} of {outcome.old} alive, longest stall {outcome.stall_ms:.0f} ms, "
        f"{outcome.new_per_s:.0f} new/s beside"
    )


def _power_off(lab: Lab, pod: str, subnet: SubnetPlan, master: str, after_s: float) -> Outcome:
    """With the connections and the load around it."""
    with ExitStack() as stack:
        talks = Connections(
            lab, pod, subnet.database_ip, count=CONNECTIONS, interval_ms=INTERVAL_MS, alive_within_s=2.5
        )
        stack.enter_context(talks)
        first_port = FIRST_PORT + next(_TURNS) * PORTS_EACH % PORTS
        flows = Flows(lab, pod, subnet.database_ip, count=NEW_FLOWS, udp=True, first_port=first_port, timeout_s=1.0)
        load = stack.enter_context(flows)
        time.sleep(LOAD_S)
        began = lab.fault(Fault.POWER_OFF, master)
        # Of all the time that the load ran, the outage included: at least so many.
        new_per_s = float(load.result()["per_s"] or 0.0)
        time.sleep(after_s)
        seen = talks.result()
    old = [each for each in seen["connections"] if each["established"] and each["established"] < began - OLD_S]
    alive = [each for each in old if each["state"] == "alive"]
    stall = max((float(each["stall_ms"]) for each in alive), default=0.0)
    return Outcome(len(old), len(alive), stall, new_per_s)


def _ours(lab: Lab, subnet: SubnetPlan) -> Outcome:
    """And wait until all is as before, with the other member as master."""
    master = holder(lab, subnet)
    outcome = _power_off(lab, INSTANCE, subnet, master, OURS_AFTER_S)
    (survivor,) = (name for name in OUR_NODES if name != master)

    def is_confirmed() -> bool:
        said = members(metrics(lab, survivor)).get(subnet.id)
        return said is not None and said.is_elected

    wait_until(is_confirmed, SESSION_END_S, f"{survivor} to be elected", interval_s=0.1)
    power_on(lab, master)
    wait_settled(lab, (subnet,))
    _wait_in_step(lab)
    return outcome


def _by_hand(hand: ByHand) -> Outcome:
    lab = hand.lab
    master = holder(lab, hand.subnet)
    outcome = _power_off(lab, HAND_INSTANCE, hand.subnet, master, PLAIN_AFTER_S)
    times = hand.times_backup(master)
    lab.fault(Fault.POWER_ON, master)
    hand.lay_node(master)
    hand.wait_backup(master, times + 1)
    holder(lab, hand.subnet, wanted=lambda name: name in HAND_NODES and name != master)
    # What the other one knows must have arrived.
    time.sleep(2.0)
    return outcome


def _wait_in_step(lab: Lab) -> None:
    """Until both members hear each other's conntrackd."""

    def is_up() -> bool:
        samples = [sample for node in OUR_NODES for sample in metrics(lab, node)]
        up = [sample.value for sample in samples if sample.name == "proxypool_state_sync_up"]
        return up == [1.0] * len(OUR_NODES)

    wait_until(is_up, 30.0, "conntrackd on both nodes to hear each other", interval_s=0.2)


def _cost(lab: Lab, subnet: SubnetPlan, settings: Settings, report: Report) -> None:
    """With conntrackd, and without: the daemons, which would start it again, are ended for that time."""
    measures: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("TCP throughput with state sync", "Gbit/s", lambda: _iperf(lab, (INSTANCE, subnet), TCP, settings)),
        ("new connections per second with state sync", "1/s", lambda: _new_per_s(lab, subnet)),
    )
    values: dict[str, tuple[list[float], list[float]]] = {measure: ([], []) for measure, _, _ in measures}
    with _servers(lab, (subnet.database,)):
        for number in range(settings.runs_or(RUNS)):
            for is_on in (True, False):
                for measure, unit, value in measures:
                    values[measure][0 if is_on else 1].append(value())
                    state = "with" if is_on else "without"
                    settings.progress(f"{number + 1} {state} sync: {values[measure][0 if is_on else 1][-1]:.2f} {unit}")
                if is_on:
                    for node in OUR_NODES:
                        lab.fault(Fault.KILL_DAEMON, node)
                        kill(p for p in lab.machine(node).processes() if p.service == "conntrackd")
                else:
                    for node in OUR_NODES:
                        lab.machine(node).start("daemon")
                    wait_settled(lab, (subnet,))
                    _wait_in_step(lab)
    for measure, unit, _ in measures:
        on, off = values[measure]
        report.compare(measure, unit, on, off, "without", paired=True)


def _new_per_s(lab: Lab, subnet: SubnetPlan) -> float:
    with Flows(lab, INSTANCE, subnet.database_ip, count=COST_FLOWS) as flows:
        seen = flows.wait()
    return float(seen["per_s"])
