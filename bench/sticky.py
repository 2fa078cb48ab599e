"""Connections that live while pairs come and go: how many break, and how evenly new ones are shared.

Beside it plain ECMP through the same pairs: a multipath route with a next hop for each of them, laid by hand for
another instance of the same host, that gets and loses next hops in the same loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.figures import median
from bench.labs import INSTANCE, NAME, UP_TIMEOUT_S, holder, require_none, without_rate_limit
from bench.report import Report
from bench.settings import Settings
from proxypool.core.addressing import tunnel_device_of
from proxypool.lab.agent import attach_soon, socket_of
from proxypool.lab.lab import Lab
from proxypool.lab.machine import Machine
from proxypool.lab.plans import PairPlan, SubnetPlan
from proxypool.lab.prober import Connections, Flows
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import Topology

CONNECTIONS, QUICK_CONNECTIONS = 2000, 300
"""That live through all of it, on each side."""
OPENED_PER_S = 500.0
TALK_MS = 1000.0
SHORT, SHORT_PER_S, SHORT_LIFE_S = 100, 50.0, 1.0
"""Connections that come and go meanwhile: the ones that a new pair gets."""
ROUNDS, QUICK_ROUNDS = 5, 1
HOLD_S = 2.0
"""After each change: every connection has talked since."""
FLOWS, QUICK_FLOWS = 20_000, 2_000
LIMIT_PERCENT = 5.0
EMPTY_S = 30
OTHER_INSTANCE = "pod1-2"
TABLE = 77
"""Also the priority of the rule that leads to it, before all of ours."""
ECMP, HASH = "plain ECMP", "ECMP, hash of ports"


@dataclass(frozen=True)
class Multipath:
    """One route for one instance, by hand. The tunnel and its neighbours are those of the host's agent."""

    host: Machine
    instance: Machine
    subnet: SubnetPlan

    def lay(self, pairs: tuple[PairPlan, ...]) -> None:
        """For the first time."""
        self.host.run(["sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1"])
        rule = f"ip rule add from {self.instance.spec.ip} lookup {TABLE} pref {TABLE}"
        self.host.run(rule.split())
        self.lead_to(pairs)

    def lead_to(self, pairs: tuple[PairPlan, ...]) -> None:
        """Have just these next hops."""
        device = tunnel_device_of(self.subnet.id)
        hops = [f"nexthop via {pair.havip} dev {device} onlink" for pair in pairs]
        target = " ".join(hops) if len(hops) > 1 else hops[0].removeprefix("nexthop ")
        self.host.run(f"ip route replace {self.subnet.cidr} table {TABLE} {target}".split())


@dataclass
class Outcome:
    """What became of the connections of one run."""

    broken: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    """Longest wait for an answer of any connection that lived, in ms."""

    def take(self, found: Mapping[str, Any]) -> None:
        """The result of an instrument."""
        self.broken.append(float(found["hanging"] + sum(found["broken"].values())))
        lived = [one["stall_ms"] for one in found["connections"] if one["state"] in {"alive", "ended"}]
        self.stalls.append(max(lived, default=0.0))


def run(settings: Settings) -> Report:
    """Measure."""
    ours, short, ecmp = Outcome(), Outcome(), Outcome()
    count = QUICK_CONNECTIONS if settings.is_quick else CONNECTIONS
    rounds = QUICK_ROUNDS if settings.is_quick else ROUNDS
    opened = 0
    with _lab(settings) as lab:
        bench = Loop(lab, settings)
        shares = {2: bench.share(2)}
        for _ in range(settings.runs_or(1)):
            with ExitStack() as stack:
                talks = [
                    stack.enter_context(_talks(lab, pod, bench.subnet, count)) for pod in (INSTANCE, OTHER_INSTANCE)
                ]
                comers = stack.enter_context(_short(lab, bench.subnet))
                for number in range(rounds):
                    bench.turn()
                    settings.progress(
                        f"{number + 1}/{rounds}: a pair added, drained and removed, another drained and back"
                    )
                for outcome, instrument in zip((ours, ecmp, short), (*talks, comers), strict=True):
                    outcome.take(instrument.result())
                opened += comers.result()["opened"]
            settings.progress(f"broken of {count}: ours {ours.broken[-1]:.0f}, {ECMP} {ecmp.broken[-1]:.0f}")
        bench.add_third()
        shares[3] = bench.share(3)
    report = Report()
    name = f"TCP connections broken, of {count}"
    report.compare(name, "connections", ours.broken, ecmp.broken, ECMP, target="0")
    report.limit("short ones broken that came and went", "connections", short.broken, 0)
    report.compare("longest wait of one that lived", "ms", ours.stalls, ecmp.stalls, ECMP)
    for pairs, (mine, theirs) in shares.items():
        report.compare(
            f"largest deviation from an even share, {pairs} pairs", "%", [mine], [theirs], HASH,
            target=f"<= {LIMIT_PERCENT:g} %",
        )  # fmt: skip
    report.notes.append(
        f"each run: {rounds} times a third pair added, drained, removed, and one of the two drained and undrained; "
        f"broken by {ECMP}: {median(ecmp.broken) / count:.0%}; {opened} short connections in all runs"
    )
    return report


@contextmanager
def _lab(settings: Settings) -> Iterator[Lab]:
    """Six nodes, three pairs of one subnet, of which the pool has the first two; one host with two instances."""
    require_none()
    topology = Topology(NAME, nodes=6, hosts=1, subnets=1, pairs=3, pods=2, tunnel=settings.tunnel)
    with Lab.up(topology, settings.progress, apply=False, timeout_s=UP_TIMEOUT_S) as lab:
        (subnet,) = topology.subnet_plans
        lab.apply_pool(wanted=lambda _, pair: pair in subnet.pairs[:2])
        for pair in subnet.pairs[:2]:
            holder(lab, subnet.through(pair.id))
        without_rate_limit(lab)
        attach_soon(socket_of(lab.machine("host1")), [(lab.machine(INSTANCE).spec.ip, subnet.id)])
        yield lab


def _talks(lab: Lab, pod: str, subnet: SubnetPlan, count: int) -> Connections:
    """Connections that are not replaced when they break."""
    return Connections(
        lab, pod, subnet.database_ip, count=count, interval_ms=TALK_MS, rate=OPENED_PER_S, answer_timeout_s=60.0
    )


def _short(lab: Lab, subnet: SubnetPlan) -> Connections:
    return Connections(
        *(lab, INSTANCE, subnet.database_ip),
        count=SHORT,
        interval_ms=100.0,
        rate=SHORT_PER_S,
        lifetime_s=SHORT_LIFE_S,
        replace=True,
        ready=1,
    )


class Loop:
    """Pairs that come and go, and next hops with them."""

    def __init__(self, lab: Lab, settings: Settings) -> None:
        """Both instances reach the database through the first two pairs."""
        self._lab, self._flows = lab, QUICK_FLOWS if settings.is_quick else FLOWS
        (self.subnet,) = lab.topology.subnet_plans
        self.first, self.second, self.third = self.subnet.pairs
        self._multipath = Multipath(lab.machine("host1"), lab.machine(OTHER_INSTANCE), self.subnet)
        self._multipath.lay((self.first, self.second))
        for pod in (INSTANCE, OTHER_INSTANCE):
            wait_until(lambda pod=pod: len(self._sources(pod, 20)) == 2, 30.0, f"{pod} to reach two pairs")  # type: ignore[misc]

    def turn(self) -> None:
        """A third pair is added, drained, removed; the first one is drained and undrained."""
        self.add_third()
        time.sleep(HOLD_S)
        self._pair("drain", self.third)
        self._multipath.lead_to((self.first, self.second))
        time.sleep(HOLD_S)
        self._pair("remove", self.third, "--drain", f"--timeout={EMPTY_S}", "--yes")
        time.sleep(HOLD_S)
        self._pair("drain", self.first)
        self._multipath.lead_to((self.second,))
        time.sleep(HOLD_S)
        self._pair("undrain", self.first)
        self._multipath.lead_to((self.first, self.second))
        time.sleep(HOLD_S)

    def add_third(self) -> None:
        """Ready when a new connection has passed through it."""
        places = [f"--member={one.node},eni={one.eni},address={one.address}" for one in self.third.members]
        self._pair("add", self.third, f"--havip={self.third.havip}", *places, "--wait")
        source = {member.address.partition("/")[0] for member in self.third.members}
        wait_until(
            lambda: bool(source & self._sources(INSTANCE, 12).keys()), 30.0, "new connections through the third pair"
        )
        self._multipath.lead_to(self.subnet.pairs)

    def share(self, pairs: int) -> tuple[float, float]:
        """Of many new connections: the largest deviation from an even share, in percent; ours, and by hash."""
        ours, theirs = (self._deviation(pod, pairs) for pod in (INSTANCE, OTHER_INSTANCE))
        return ours, theirs

    def _deviation(self, pod: str, pairs: int) -> float:
        sources = self._sources(pod, self._flows)
        by_pair = dict.fromkeys((pair.id for pair in self.subnet.pairs[:pairs]), 0)
        for source, number in sources.items():
            by_pair[self.subnet.pair_with(source)] += number
        mean = sum(by_pair.values()) / pairs
        return max(abs(number - mean) for number in by_pair.values()) / mean * 100

    def _sources(self, pod: str, count: int) -> dict[str, int]:
        """The servers' view of so many new connections."""
        with Flows(self._lab, pod, self.subnet.database_ip, count=count) as flows:
            found: dict[str, int] = flows.wait()["sources"]
        return found

    def _pair(self, verb: str, pair: PairPlan, *options: str) -> None:
        self._lab.proxypool("pair", verb, self.subnet.id, pair.id, *options, timeout=EMPTY_S + 30.0)
