"""Power-off of the master, by phases, beside a plain keepalived pair; then planned switchovers, to and fro.

The phases are seen from outside (`bench.witness`): *detection*, from the last answer at the instance to the HaVip on
the other node's card; *HaVip move*, to its announcement on the function host's card; *first reply*, to the next answer
at the instance. Together they are the blackout.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from bench import switchover
from bench.by_hand import ByHand
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
from bench.probe import Probe, wait_reached
from bench.report import Report
from bench.settings import Settings
from bench.witness import Witness
from proxypool.core.keepalived import STARTUP_DELAY_S
from proxypool.lab.errors import LabError
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until

RUNS = 100
PLAIN_EVERY = 10
"""keepalived's defaults take 3 s a time, and differ by a factor of fifty: a tenth of the runs is enough."""
SWITCHOVER_EVERY = 4
PLAIN = "keepalived, advert 1 s"
CALM_S = 0.3
SESSION_END_S = 15.0
P50_LIMIT_MS, P99_LIMIT_MS = 60.0, 150.0


@dataclass(frozen=True)
class PowerOff:
    """One of them; phases in ms."""

    node: str
    blackout_ms: float
    lost: int
    stall_ms: float
    detection_ms: float = 0.0
    move_ms: float = 0.0
    reply_ms: float = 0.0


def run(settings: Settings) -> Report:
    """Measure."""
    runs = settings.runs_or(RUNS)
    ours, plain = list[PowerOff](), list[PowerOff]()
    with bench_lab(settings, by_hand=True) as lab:
        (subnet,) = subnets_of(lab)
        hand = ByHand(lab)
        hand.lay_pair()
        apply(lab, (subnet,))
        for pod, plan in ((INSTANCE, subnet), (HAND_INSTANCE, hand.subnet)):
            wait_reached(lab, pod, [plan.database_ip])
        for number in range(runs):
            ours.append(_power_off(lab, INSTANCE, subnet, OUR_NODES, "host1"))
            _restore(lab, subnet, ours[-1].node)
            if number % PLAIN_EVERY == 0:
                plain.append(_power_off(lab, HAND_INSTANCE, hand.subnet, HAND_NODES, "host2"))
                _restore_plain(hand, plain[-1].node)
            last = ours[-1]
            settings.progress(
                f"{number + 1}/{runs}: {last.blackout_ms:.1f} ms (detection {last.detection_ms:.1f}, HaVip move "
                f"{last.move_ms:.1f}, first reply {last.reply_ms:.1f}), {last.lost} lost; "
                f"keepalived {plain[-1].blackout_ms:.0f} ms"
            )
        moved, stayed = switchover.measure(settings, lab, subnet, max(1, runs // SWITCHOVER_EVERY))
    report = Report()
    _tell(report, ours, plain)
    switchover.tell(report, moved, stayed)
    return report


def _tell(report: Report, ours: list[PowerOff], plain: list[PowerOff]) -> None:
    report.compare(
        "power-off: blackout",
        "ms",
        [each.blackout_ms for each in ours],
        [each.blackout_ms for each in plain],
        PLAIN,
        target=f"p50 <= {P50_LIMIT_MS:.0f}, p99 <= {P99_LIMIT_MS:.0f} ms",
    )
    for name, phase in (("detection", "detection_ms"), ("HaVip move", "move_ms"), ("first reply", "reply_ms")):
        mine, theirs = ([float(getattr(each, phase)) for each in those] for those in (ours, plain))
        report.compare(f"  {name}", "ms", mine, theirs, PLAIN)
    report.compare(
        "power-off: requests lost of one a ms",
        "requests",
        [each.lost for each in ours],
        [each.lost for each in plain],
        PLAIN,
    )
    report.limit("longest stall of the prober itself", "ms", [each.stall_ms for each in ours], None)


def _power_off(lab: Lab, pod: str, subnet: SubnetPlan, nodes: tuple[str, ...], host: str) -> PowerOff:
    master = holder(lab, subnet)
    with Probe(lab, pod, subnet.database_ip) as probe, Witness(lab, host, nodes) as witness:
        # At any moment between two advertisements, also of those a second apart.
        time.sleep(CALM_S + STARTUP_DELAY_S + random.random())  # noqa: S311
        began = lab.fault(Fault.POWER_OFF, master)
        holder(lab, subnet, wanted=lambda node: node not in {"", master})
        wait_reached(lab, pod, [subnet.database_ip])
        time.sleep(CALM_S)
        seen = probe.seen()
    claimed, announced = witness.address_at(subnet.havip, began), witness.announced_at(subnet.havip, began)
    silent, answered = seen.silence(began)
    if claimed is None or announced is None:
        raise LabError(f"nobody was seen to claim {subnet.havip} after {master} was powered off")
    return PowerOff(
        master,
        seen.silence_ms(began),
        seen.lost(began),
        seen.own_stall_ms,
        (claimed - silent) * 1e3,
        (announced - claimed) * 1e3,
        (answered - announced) * 1e3,
    )


def _restore(lab: Lab, subnet: SubnetPlan, node: str) -> None:
    """The dead one must have been missed: else it is still the elected one and takes the HaVip back."""
    survivor = next(member.node for member in subnet.members if member.node != node)

    def is_confirmed() -> bool:
        said = members(metrics(lab, survivor)).get(subnet.id)
        return said is not None and said.is_elected

    wait_until(is_confirmed, SESSION_END_S, f"{survivor} to be elected", interval_s=0.1)
    power_on(lab, node)
    wait_settled(lab, (subnet,))


def _restore_plain(hand: ByHand, node: str) -> None:
    times = hand.times_backup(node)
    hand.lab.fault(Fault.POWER_ON, node)
    hand.lay_node(node)
    hand.wait_backup(node, times + 1)
    survivor = next(name for name in HAND_NODES if name != node)
    holder(hand.lab, hand.subnet, wanted=lambda name: name == survivor)
