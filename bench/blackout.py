"""Power-off of the master: how long an instance gets no answer, beside a plain keepalived pair in the same lab."""

from __future__ import annotations

import random
import time

from bench.by_hand import ByHand
from bench.labs import (
    HAND_INSTANCE,
    HAND_NODES,
    INSTANCE,
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
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until

RUNS = 20
PLAIN = "keepalived, advert 1 s"
CALM_S = 0.3
SESSION_END_S = 15.0


def run(settings: Settings) -> Report:
    """Measure."""
    runs = settings.runs_or(RUNS)
    ours, plain, lost, plain_lost, stalls = [list[float]() for _ in range(5)]
    with bench_lab(settings, by_hand=True) as lab:
        (subnet,) = subnets_of(lab)
        hand = ByHand(lab)
        hand.lay_pair()
        apply(lab, (subnet,))
        for pod, plan in ((INSTANCE, subnet), (HAND_INSTANCE, hand.subnet)):
            wait_reached(lab, pod, [plan.database_ip])
        for number in range(runs):
            first, blackout_ms, count, stall_ms = _power_off(lab, INSTANCE, subnet)
            second, plain_ms, plain_count, _ = _power_off(lab, HAND_INSTANCE, hand.subnet)
            ours.append(blackout_ms)
            plain.append(plain_ms)
            lost.append(count)
            plain_lost.append(plain_count)
            stalls.append(stall_ms)
            settings.progress(
                f"{number + 1}/{runs}: ours {blackout_ms:.1f} ms, {count} lost; "
                f"keepalived {plain_ms:.1f} ms, {plain_count} lost"
            )
            if number + 1 < runs:
                _restore(lab, subnet, first)
                _restore_plain(hand, second)
    report = Report()
    report.compare("blackout at power-off of the master", "ms", ours, plain, PLAIN, target="<= 0.1")
    report.compare("requests lost of one a ms", "requests", lost, plain_lost, PLAIN)
    report.limit("longest stall of the prober itself", "ms", stalls, None)
    return report


def _power_off(lab: Lab, pod: str, subnet: SubnetPlan) -> tuple[str, float, int, float]:
    """The node, the blackout in ms, requests lost, the prober's own longest stall in ms."""
    master = holder(lab, subnet)
    with Probe(lab, pod, subnet.database_ip) as probe:
        # At any moment between two advertisements, also of those a second apart.
        time.sleep(CALM_S + random.random())  # noqa: S311
        began = lab.fault(Fault.POWER_OFF, master)
        holder(lab, subnet, wanted=lambda node: node not in {"", master})
        wait_reached(lab, pod, [subnet.database_ip])
        time.sleep(CALM_S)
        seen = probe.seen()
    return master, seen.silence_ms(began), seen.lost(began), seen.own_stall_ms


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
