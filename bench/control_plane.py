"""The control plane of a large pool: the real controller and a real ZooKeeper of three servers, all else simulated.

5,000 subnets, 10,000 pairs, 1,000 nodes, 20,000 hosts. Needs no lab: everything is on the loopback.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from bench import fan_out, zookeeper_limits
from bench.big_pool import FULL, MOST_PAIRS, PAIRS, SMALL, Size, fill, set_mode, subnet_name
from bench.ensemble import Ensemble
from bench.figures import quantile
from bench.one_controller import OneController, Watched, peak_mib
from bench.report import Report
from bench.settings import Settings
from proxypool.adapters.zookeeper import PoolSession
from proxypool.adapters.zookeeper.reading import read_children
from proxypool.adapters.zookeeper.writing import Create, write_all
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.scaling.model import ScalingMode
from proxypool.lab.errors import LabError
from proxypool.lab.processes import DIES_WITH_US

POOL = "big"
SESSION_S, CONNECT_S = 60.0, 30.0
STARTS = 1
WATCH_S, QUICK_WATCH_S = 12.0, 5.0
WORK_S, QUICK_WORK_S = 15, 5
OVERLOADED, QUICK_OVERLOADED = 40, 5
GROW_S = 90.0
START_LIMIT_S, ROUND_LIMIT_S, MEMORY_LIMIT_MIB = 30.0, 5.0, 500 * 1e6 / 2**20
LOAD_PATHS = 999


def run(settings: Settings) -> Report:
    """Measure."""
    size = SMALL if settings.is_quick else FULL
    report = Report()
    with Ensemble() as zookeeper, _session(zookeeper) as session, tempfile.TemporaryDirectory() as directory:
        with Crowd(zookeeper, size) as crowd:
            _make(report, settings, session, size, crowd)
            for mode in (ScalingMode.OBSERVE, ScalingMode.ENFORCE):
                if mode is ScalingMode.ENFORCE:
                    set_mode(session, size, mode)
                _measure_controller(report, settings, (zookeeper, session, Path(directory)), crowd, mode)
            fan_out.measure(report, settings, zookeeper, session, size)
        _make_load_paths(session)
        zookeeper_limits.measure_writes(report, settings, zookeeper, _load_paths(session))
        zookeeper_limits.measure_sessions(report, settings, zookeeper, size, POOL)
        zookeeper_limits.measure_watches(report, settings, zookeeper, size, POOL)
    report.notes.append(
        f"{size.subnets} subnets, {size.pairs} pairs, {size.nodes} nodes, {size.hosts} hosts; ZooKeeper's servers, the "
        "simulated daemons, their metrics and the controller share this computer; ZooKeeper does not wait for the disk"
    )
    return report


@contextmanager
def _session(zookeeper: Ensemble) -> Iterator[PoolSession]:
    session = PoolSession(ZooKeeperConfig(hosts=zookeeper.addresses, session_timeout_s=SESSION_S), POOL)
    try:
        session.connect(CONNECT_S)
        yield session
    finally:
        session.stop(close_session=True)


class Crowd:
    """`bench.crowd` as a process."""

    def __init__(self, zookeeper: Ensemble, size: Size) -> None:
        self.size = size
        arguments = (",".join(zookeeper.addresses), POOL, *map(str, (size.subnets, size.nodes, size.hosts)))
        command = (*DIES_WITH_US, sys.executable, "-m", "bench.crowd", *arguments)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = 0
        """Of their metrics."""

    def __enter__(self) -> Self:
        self.port = self._read()["port"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def say(self, command: str, *numbers: int) -> Any:
        """Do one command; what came of it."""
        self.begin(command, *numbers)
        return self._read()

    def begin(self, command: str, *numbers: int) -> None:
        """Do one command; `end` waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command} {' '.join(map(str, numbers))}\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """What came of the command that was begun."""
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LabError("bench.crowd ended")
        return json.loads(line)


def _make(report: Report, settings: Settings, session: PoolSession, size: Size, crowd: Crowd) -> None:
    began = time.monotonic()
    count = fill(session, size, crowd.port, ScalingMode.OBSERVE)
    settings.progress(f"{count} nodes of ZooKeeper written in {time.monotonic() - began:.1f} s")
    appeared = crowd.say("appear")
    settings.progress(f"{appeared['ephemerals']} ephemeral nodes in {appeared['took_s']:.1f} s")
    report.limit("nodes of ZooKeeper, ephemeral ones among them", "", [count + appeared["ephemerals"]], None)
    report.limit("ephemeral nodes made a second", "/s", [appeared["ephemerals"] / appeared["took_s"]], None)


def _measure_controller(
    report: Report,
    settings: Settings,
    places: tuple[Ensemble, PoolSession, Path],
    crowd: Crowd,
    mode: ScalingMode,
) -> None:
    """Starts, rounds with nothing else going on, and in the last of them rounds while the pool does its work."""
    starts, calm = list[float](), list[Watched]()
    runs = settings.runs_or(STARTS)
    for number in range(runs):
        with OneController(*places) as controller:
            starts.append(controller.first_decision_s)
            calm.append(controller.watch(QUICK_WATCH_S if settings.is_quick else WATCH_S))
            settings.progress(
                f"{mode}: decided after {starts[-1]:.1f} s; a round {quantile(calm[-1].rounds_s, 0.5):.2f} s, "
                f"at most {max(calm[-1].rounds_s):.2f} s; {peak_mib(controller.pid):.0f} MiB"
            )
            if number == runs - 1:
                last = (
                    _measure_work(report, settings, controller, crowd)
                    if mode is ScalingMode.OBSERVE
                    else _measure_growth(report, settings, controller, crowd, places[1])
                )
                peak = peak_mib(controller.pid)
    report.limit(f"{mode}: controller started to first decision", "s", starts, START_LIMIT_S)
    report.limit(f"{mode}: a round", "s", [one for watched in calm for one in watched.rounds_s], ROUND_LIMIT_S)
    report.limit(f"{mode}: a round meanwhile", "s", last.rounds_s, ROUND_LIMIT_S)
    report.limit(f"{mode}: resident memory at the most", "MiB", [peak], MEMORY_LIMIT_MIB)
    report.limit(f"{mode}: CPU", "% of a core", [watched.cpu_percent for watched in calm], None)
    report.limit(f"{mode}: CPU meanwhile", "% of a core", [last.cpu_percent], None)
    for problem in {problem for watched in (*calm, last) for problem in watched.problems}:
        report.notes.append(f"{mode}: the controller says: {problem}")


def _measure_work(report: Report, settings: Settings, controller: OneController, crowd: Crowd) -> Watched:
    """All daemons write what they write while traffic flows."""
    seconds = QUICK_WORK_S if settings.is_quick else WORK_S
    crowd.begin("work", seconds)
    watched = controller.watch(seconds)
    done = crowd.end()
    asked = done["writes"] / (done["ticks"] * 0.1)
    report.limit("writes that daemons ask for while traffic flows", "/s", [asked], None)
    report.limit("of them done, with all else on this computer", "/s", [done["writes"] / done["took_s"]], None)
    began = time.monotonic()
    text = controller.scrape()
    took_s = time.monotonic() - began
    report.limit("a scrape of the controller's metrics", "s", [took_s], None)
    report.notes.append(f"a scrape of the controller has {len(text) / 1e6:.1f} MB, {text.count(chr(10))} lines")
    settings.progress(f"{asked:.0f} writes/s asked for; a round meanwhile at most {max(watched.rounds_s):.2f} s")
    return watched


def _measure_growth(
    report: Report, settings: Settings, controller: OneController, crowd: Crowd, session: PoolSession
) -> Watched:
    """Some subnets carry too much, all at once: until each has two pairs more, and what that does to the rounds."""
    count = QUICK_OVERLOADED if settings.is_quick else OVERLOADED
    began = time.monotonic()
    crowd.say("overload", count)
    watched = Watched()
    places = [session.layout.path(f"subnets/{subnet_name(number)}/pairs") for number in range(count)]
    come, wanted, first_s = 0, count * (MOST_PAIRS - PAIRS), GROW_S
    while come < wanted and time.monotonic() < began + GROW_S:
        part = controller.watch(1.0)
        watched.rounds_s += part.rounds_s
        watched.cpu_percent = max(watched.cpu_percent, part.cpu_percent)
        come = sum(len(pairs or ()) - PAIRS for pairs in read_children(session, places))
        if come:
            first_s = min(first_s, time.monotonic() - began)
    took_s = time.monotonic() - began
    report.limit(f"{count} subnets overloaded at once: the first pair comes after", "s", [first_s], None)
    report.limit(f"{count} subnets overloaded at once: pairs that come", "/s", [come / took_s], None)
    worst = max(watched.rounds_s, default=0.0)
    settings.progress(
        f"{come} of {wanted} pairs came in {took_s:.1f} s, the first after {first_s:.1f} s; "
        f"a round at most {worst:.2f} s"
    )
    return watched


def _load_paths(session: PoolSession) -> list[str]:
    return [session.layout.path(f"load/{number}") for number in range(LOAD_PATHS)]


def _make_load_paths(session: PoolSession) -> None:
    write_all(session, [Create(session.layout.path("load")), *map(Create, _load_paths(session))])
