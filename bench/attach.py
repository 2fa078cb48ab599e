"""The cold-start path: from the attach call to the first answer of the database; how many a second; without ZooKeeper.

Beside it, by hand: a rule of the routing policy and a rule of the nat table for each instance, as processes.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from bench.by_hand import HOST, PerInstance
from bench.figures import median, quantile
from bench.instances import RANGES, Times, hurried, instance, instances, lay_range, links, measure
from bench.labs import HAND_INSTANCE, INSTANCE, apply, bench_lab, subnets_of
from bench.report import Report
from bench.settings import Settings
from bench.shell import Shell
from proxypool.adapters.agent import SOCKET_NAME, Agent
from proxypool.lab.agent import RUN_DIR, attach_soon, socket_of
from proxypool.lab.configs import SESSION_TIMEOUT_S
from proxypool.lab.errors import LabError
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until

LEVELS = (10, 500, 2000)
"""Instances that are attached while one more is."""
RUNS, BLOCK, HAND_BLOCK = 500, 25, 10
"""Attaches for each level; ours of each kind, and then by hand, in turn."""
LIMIT_MS, LIMIT_PER_S = 5.0, 500
CLIENTS, CLIENT_INSTANCES, RATE_S = 4, 500, 6.0
HAND_ATTACHES = 150
"""Of each of as many shells as there are clients."""
BATCH, BATCHES = 1000, 10
FRESH, CLIENTS_FROM, BATCH_FROM = 5_000, 10_000, 40_000
"""Numbers of instances that are not attached for good: measured one by one, by clients, in batches."""
BY_HAND = "ip rule, iptables"


@dataclass
class Level:
    """What was measured while so many instances were attached."""

    udp: Times = field(default_factory=Times)
    again: Times = field(default_factory=Times)
    """The same call a moment later, when there is nothing to do: what is slow in it is the computer, not the attach."""
    tcp: Times = field(default_factory=Times)
    hand: Times = field(default_factory=Times)


@dataclass
class Bench:
    """The two hosts, and whom they have attached."""

    lab: Lab
    agent: Agent
    subnet: SubnetPlan
    hand: PerInstance
    attached: int = 0

    def bring_to(self, count: int) -> None:
        """Have so many instances attached, on both hosts."""
        ours = [(str(one), self.subnet.id) for one in instances(INSTANCE, 1, max(count, self.attached))]
        if count > self.attached:
            self.agent.attach(ours[self.attached :])
        elif count < self.attached:
            self.agent.detach(ours[count:])
        self.attached = count
        self.hand.replace(instances(HAND_INSTANCE, 1, count))

    def measure_ours(
        self, times: Times, kind: socket.SocketKind, addresses: Sequence[IPv4Address], again: Times | None = None
    ) -> None:
        """Attach each and hear its first answer, and `again` the same; detached afterwards."""
        with links(self.lab, INSTANCE, addresses, kind) as made, hurried():
            for address, link in zip(addresses, made, strict=True):
                pair = (str(address), self.subnet.id)
                for each in (times, again):
                    if each is not None:
                        measure(each, lambda pair=pair: self.agent.attach([pair]), link, self.subnet.database_ip)  # type: ignore[misc]
                self.agent.detach([pair])

    def measure_hand(self, times: Times, addresses: Sequence[IPv4Address], shell: Shell) -> None:
        """The same by hand."""
        database = self.hand.path.subnet.database_ip
        with links(self.lab, HAND_INSTANCE, addresses, socket.SOCK_DGRAM) as made, hurried():
            for address, link in zip(addresses, made, strict=True):
                measure(times, lambda address=address: shell.run(self.hand.attach(address)), link, database)  # type: ignore[misc]
                shell.run(self.hand.detach(address))


def run(settings: Settings) -> Report:
    """Measure."""
    options = {"instance_cidrs": json.dumps([str(RANGES[INSTANCE])])}
    with bench_lab(settings, by_hand=True, attach_all=False, host_options=options) as lab:
        (subnet,) = subnets_of(lab)
        hand = PerInstance(lab)
        hand.lay()
        lay_range(lab, INSTANCE, "host1")
        lay_range(lab, HAND_INSTANCE, HOST)
        apply(lab, (subnet,))
        path = socket_of(lab.machine("host1"))
        attach_soon(path, [(str(instance(INSTANCE, 1)), subnet.id)])
        with closing(Agent(path)) as agent:
            bench = Bench(lab, agent, subnet, hand, attached=1)
            levels = _measure_levels(bench, settings)
            bench.bring_to(LEVELS[1])
            paused = _measure_without_zookeeper(bench, settings)
            rate, hand_rate = _measure_rate(bench, settings)
            batch, hand_batch = _measure_batches(bench, settings)
    report = Report()
    _tell(report, levels, paused)
    report.compare(
        f"attaches a second, {CLIENTS} clients, one in a request", "1/s", rate, [hand_rate], BY_HAND,
        target=f">= {LIMIT_PER_S}",
    )  # fmt: skip
    report.compare(f"attaches a second, {BATCH} in a request", "1/s", batch, hand_batch, "ip -batch, iptables-restore")
    return report


# ---- one after the other ---------------------------------------------------------------------------------------------


def _measure_levels(bench: Bench, settings: Settings) -> dict[int, Level]:
    """Up and down again: what drifts favours no level."""
    blocks = max(2, settings.runs_or(RUNS) // BLOCK)
    found = {count: Level() for count in LEVELS}
    with Shell(bench.lab.machine(HOST)) as shell:
        for half, order in ((blocks - blocks // 2, LEVELS), (blocks // 2, tuple(reversed(LEVELS)))):
            for count in order:
                bench.bring_to(count)
                level = found[count]
                for number in range(half):
                    fresh = instances(INSTANCE, FRESH + number * 2 * BLOCK, 2 * BLOCK)
                    bench.measure_ours(level.udp, socket.SOCK_DGRAM, fresh[:BLOCK], level.again)
                    bench.measure_ours(level.tcp, socket.SOCK_STREAM, fresh[BLOCK:])
                    bench.measure_hand(level.hand, instances(HAND_INSTANCE, FRESH, HAND_BLOCK), shell)
                settings.progress(f"{count} attached: {_said(level.udp)}; by hand {_said(level.hand)}")
    return found


def _said(times: Times) -> str:
    return f"{median(times.firsts):.2f} ms, p99 {quantile(times.firsts, 0.99):.2f} ms"


def _measure_without_zookeeper(bench: Bench, settings: Settings) -> Times:
    times = Times()
    bench.lab.fault(Fault.PAUSE, "zk1")
    try:
        time.sleep(SESSION_TIMEOUT_S)
        wait_until(lambda: _zookeeper(bench.agent) != "connected", 10.0, "the agent to miss ZooKeeper", interval_s=0.1)
        for number in range(max(2, settings.runs_or(RUNS) // BLOCK)):
            bench.measure_ours(times, socket.SOCK_DGRAM, instances(INSTANCE, FRESH + number * BLOCK, BLOCK))
        if _zookeeper(bench.agent) == "connected":
            raise LabError("ZooKeeper was paused, and the agent is connected to it")
    finally:
        bench.lab.fault(Fault.RESUME, "zk1")
    settings.progress(f"without ZooKeeper: {_said(times)}")
    wait_until(lambda: _zookeeper(bench.agent) == "connected", 30.0, "the agent to be connected", interval_s=0.1)
    return times


def _zookeeper(agent: Agent) -> str:
    return str(agent.ask("GET", "/v1/status")["zookeeper"])


# ---- as many as can be -----------------------------------------------------------------------------------------------


def _measure_rate(bench: Bench, settings: Settings) -> tuple[list[float], float]:
    """Ours for each second, without the first; and by hand."""
    seconds = 2.0 if settings.is_quick else RATE_S
    host = bench.lab.machine("host1")
    clients = []
    for number in range(CLIENTS):
        first = instance(INSTANCE, CLIENTS_FROM + number * CLIENT_INSTANCES)
        place = [f"/{RUN_DIR}/{SOCKET_NAME}", bench.subnet.id, str(first), str(CLIENT_INSTANCES), str(seconds)]
        command = [sys.executable, "-S", "-m", "bench.attaching", *place]
        clients.append(host.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    answered = list[float]()
    for client in clients:
        out, error = client.communicate(timeout=60.0)
        if client.returncode:
            raise LabError(f"a client of the agent: {error.strip()[-500:]}")
        answered += json.loads(out)
    began = min(answered)
    rates = [float(sum(1 for at in answered if second <= at - began < second + 1)) for second in range(int(seconds))]
    by_hand = _hand_rate(bench, settings)
    settings.progress(f"{median(rates):.0f} attaches/s; by hand {by_hand:.0f}/s")
    return rates[1:], by_hand


def _hand_rate(bench: Bench, settings: Settings) -> float:
    """As many shells as clients, all at once: iptables waits for its lock."""
    count = 20 if settings.is_quick else HAND_ATTACHES
    shells = [Shell(bench.lab.machine(HOST)) for _ in range(CLIENTS)]
    places = [instances(HAND_INSTANCE, CLIENTS_FROM + number * count, count) for number in range(CLIENTS)]

    def work(shell: Shell, addresses: Sequence[IPv4Address]) -> None:
        for address in addresses:
            shell.run(bench.hand.attach(address))

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            began = time.monotonic()
            list(pool.map(work, shells, places))
            took = time.monotonic() - began
    finally:
        for shell in shells:
            shell.close()
        bench.hand.replace(instances(HAND_INSTANCE, 1, bench.attached))
    return CLIENTS * count / took


def _measure_batches(bench: Bench, settings: Settings) -> tuple[list[float], list[float]]:
    """Attaches a second of requests with many each, and of one process each for all their rules."""
    ours, by_hand = list[float](), list[float]()
    pairs = [(str(one), bench.subnet.id) for one in instances(INSTANCE, BATCH_FROM, BATCH)]
    with Shell(bench.lab.machine(HOST)) as shell:
        for _ in range(settings.runs_or(BATCHES)):
            began = time.monotonic()
            bench.agent.attach(pairs)
            ours.append(BATCH / (time.monotonic() - began))
            bench.agent.detach(pairs)
            by_hand.append(BATCH / bench.hand.batch_s(instances(HAND_INSTANCE, BATCH_FROM, BATCH), shell))
            bench.hand.replace(instances(HAND_INSTANCE, 1, bench.attached))
    settings.progress(f"in batches {median(ours):.0f} attaches/s; by hand {median(by_hand):.0f}/s")
    return ours, by_hand


# ---- the report ------------------------------------------------------------------------------------------------------


def _tell(report: Report, levels: dict[int, Level], paused: Times) -> None:
    target = f"p99 <= {LIMIT_MS:g} ms"
    for count, level in levels.items():
        name = f"attach to first answer, {count} attached"
        report.compare(name, "ms", level.udp.firsts, level.hand.firsts, BY_HAND, target=target)
        report.compare(f"the same, TCP, {count}", "ms", level.tcp.firsts, level.hand.firsts, BY_HAND, target=target)
        report.compare(
            f"the same when it is attached, {count}", "ms", level.again.firsts, level.udp.firsts, "the first time"
        )
        report.compare(f"of which the call, {count}", "ms", level.udp.calls, level.hand.calls, BY_HAND)
    few, many = (levels[count].udp.firsts for count in (LEVELS[0], LEVELS[-1]))
    report.compare(f"{LEVELS[-1]} attached, flat?", "ms", many, few, f"{LEVELS[0]} attached", target="about 1")
    report.compare(
        f"ZooKeeper paused, {LEVELS[1]} attached", "ms", paused.firsts, levels[LEVELS[1]].udp.firsts, "not paused",
        target=target,
    )  # fmt: skip
    p99s = " : ".join(f"{quantile(level.udp.firsts, 0.99):.2f}" for level in levels.values())
    hands = " : ".join(f"{quantile(level.hand.firsts, 0.99):.1f}" for level in levels.values())
    floors = " : ".join(f"{quantile(level.again.firsts, 0.99):.2f}" for level in levels.values())
    report.notes.append(
        f"p99 in ms with {' : '.join(map(str, levels))} attached: ours {p99s}, when nothing is to be done {floors}, "
        f"by hand {hands}"
    )
    times = [paused, *(each for level in levels.values() for each in (level.udp, level.tcp))]
    lost, count = sum(each.lost for each in times), sum(len(each.firsts) for each in times)
    report.notes.append(f"first packets of ours without an answer: {lost} of {count}")
