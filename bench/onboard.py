"""From just before `subnet add` and `pair add` to an instance's first answer; beside scripts that do it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.by_hand import ByHand
from bench.labs import HAND_INSTANCE, INSTANCE, bench_lab, remove, subnets_of, wait_settled
from bench.probe import Probe
from bench.report import Report
from bench.settings import Settings
from proxypool.lab.errors import LabError
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.topology import PAIR

RUNS = 20
INTERVAL_MS = 5.0
ANSWER_TIMEOUT_S = 30.0
CALM_S = 0.3
LIMIT_S = 3.0


def run(settings: Settings) -> Report:
    """Measure."""
    runs = settings.runs_or(RUNS)
    ours, commands, script, pair = [list[float]() for _ in range(4)]
    with bench_lab(settings, by_hand=True) as lab:
        (subnet,) = subnets_of(lab)
        hand = ByHand(lab)
        lab.proxypool("pool", "init", "--tunnel", settings.tunnel.value)
        for number in range(runs):
            took, command_s = _first_answer(lab, INSTANCE, subnet, lambda: _add(lab, subnet))
            ours.append(took)
            commands.append(command_s)
            wait_settled(lab, (subnet,))
            remove(lab, (subnet,))
            script.append(_first_answer(lab, HAND_INSTANCE, hand.subnet, hand.lay)[0])
            hand.remove()
            pair.append(_first_answer(lab, HAND_INSTANCE, hand.subnet, hand.lay_pair)[0])
            hand.remove()
            settings.progress(
                f"{number + 1}/{runs}: ours {ours[-1]:.2f} s, of which the commands {command_s:.2f} s; scripts "
                f"{script[-1]:.2f} s; scripts and a plain keepalived pair {pair[-1]:.2f} s"
            )
    report = Report()
    first = "subnet add + pair add to the first answer"
    report.compare(first, "s", ours, script, "scripts, one node", target=f"< {LIMIT_S:g} s")
    report.compare(f"{first}, against a pair", "s", ours, pair, "scripts, keepalived pair")
    report.limit("of which until both commands had ended", "s", commands, None)
    return report


def _add(lab: Lab, subnet: SubnetPlan) -> None:
    places = [f"--member={member.node},eni={member.eni},address={member.address}" for member in subnet.members]
    key = f"--key={subnet.key}"
    lab.proxypool("subnet", "add", subnet.id, "--cidr", subnet.cidr, "--tenant", subnet.tenant, key)
    lab.proxypool("pair", "add", subnet.id, PAIR, "--havip", subnet.havip, *places)


def _first_answer(lab: Lab, pod: str, subnet: SubnetPlan, act: Callable[[], None]) -> tuple[float, float]:
    """Seconds from the beginning of `act` to the first answer, and to the end of `act`."""
    with Probe(lab, pod, subnet.database_ip, interval_ms=INTERVAL_MS, is_patient=True) as probe:
        time.sleep(CALM_S)
        began = time.monotonic()
        act()
        done = time.monotonic()
        probe.wait_answering(ANSWER_TIMEOUT_S)
        seen = probe.seen()
    if seen.first_answer is None or seen.first_answer < began:
        raise LabError(
            f"{pod} reached {subnet.database_ip} before anything was done: the run before was not cleaned up"
        )
    return seen.first_answer - began, done - began
