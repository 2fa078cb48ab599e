"""What three ZooKeeper servers bear on this machine: sessions, watches, notifications, writes."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import time
from collections import deque

from bench.big_pool import Size, subnet_name
from bench.ensemble import Ensemble
from bench.footprint import resident_mib
from bench.raw_zookeeper import EVENT_XID, SET_WATCHES_XID, Link, Swarm, get_request, set_request, watches_request
from bench.report import Report
from bench.settings import Settings
from proxypool.adapters.zookeeper.layout import Layout, subnet_suffix

SESSION_MS = 60_000
WITHIN_S = 60.0
FANOUTS = 3
SPARE_FILES = 500
WATCHES, WATCHES_EACH = 600_000, 4000
WRITE_S, QUICK_WRITE_S = 8.0, 2.0
AT_ONCE = 250
"""Writes under way of each of the writers; the servers throttle above a thousand in all."""
DATA = bytes(650)
"""As long as a member's status."""
ALL_SEEN = 1 << 62
_WATCH, _READ, _WRITE = 1, 2, 3


def measure_sessions(report: Report, settings: Settings, zookeeper: Ensemble, size: Size, pool: str) -> None:
    """As many sessions as the pool has daemons, each with a watch on one document; and that it changes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(size.nodes + size.hosts, hard - SPARE_FILES)
    path = Layout(pool).path(subnet_suffix(subnet_name(1)))
    writer = Link(zookeeper.ports[0], SESSION_MS)
    before_mib = _memory(zookeeper)
    began = time.monotonic()
    with Swarm(zookeeper.ports, count, SESSION_MS) as swarm:
        report.limit(f"{count} sessions begin", "s", [time.monotonic() - began], None)
        report.limit(
            "memory of the servers for a session", "KiB", [(_memory(zookeeper) - before_mib) * 1024 / count], None
        )
        swarm.send(get_request(_WATCH, path, is_watched=True))
        swarm.wait(count, (_WATCH,), WITHIN_S)
        told, read = list[float](), list[float]()
        for number in range(settings.runs_or(FANOUTS)):
            began = time.monotonic()
            writer.send(set_request(_WRITE, path, b'{"changed":%d}' % number))
            swarm.wait(count, (EVENT_XID,), WITHIN_S)
            told.append(time.monotonic() - began)
            swarm.send(get_request(_WATCH, path, is_watched=True))
            swarm.wait(count, (_WATCH,), WITHIN_S)
            read.append(time.monotonic() - began)
        report.limit(f"one document changes: all of {count} are told", "s", told, None)
        report.limit("the same, and all have read it again", "s", read, None)
        settings.progress(f"{count} sessions are told in {told[-1]:.2f} s and have read it in {read[-1]:.2f} s")
    writer.close()


def measure_watches(report: Report, settings: Settings, zookeeper: Ensemble, size: Size, pool: str) -> None:
    """Memory that a watch costs the servers, after a look for garbage. Only where Java's own tools are."""
    if shutil.which("jcmd") is None:
        report.notes.append("no memory of watches: there is no jcmd (openjdk-17-jdk-headless)")
        return
    layout, each = Layout(pool), min(WATCHES_EACH, size.subnets)
    sessions = max(3, (WATCHES // 10 if settings.is_quick else WATCHES) // each)
    request = watches_request([layout.path(subnet_suffix(subnet_name(at))) for at in range(each)], ALL_SEEN)
    before = _heap_bytes(zookeeper)
    with Swarm(zookeeper.ports, sessions, SESSION_MS) as swarm:
        swarm.send(request)
        swarm.wait(sessions, (SET_WATCHES_XID,), WITHIN_S)
        grown = _heap_bytes(zookeeper) - before
    report.limit("memory of the servers for a watch", "bytes", [grown / (sessions * each)], None)
    settings.progress(f"{sessions * each} watches: {grown / (sessions * each):.0f} bytes each")


def measure_writes(report: Report, settings: Settings, zookeeper: Ensemble, paths: list[str]) -> None:
    """As many writes as go, of a member's status each, from a client that costs next to nothing; a writer a server."""
    span_s = QUICK_WRITE_S if settings.is_quick else WRITE_S
    with Swarm(zookeeper.ports, len(zookeeper.ports), SESSION_MS) as swarm:
        requests = deque(set_request(_WRITE, path, DATA) for path in paths)

        def another(link: Link) -> None:
            requests.rotate(-1)
            link.send(requests[0])

        for link in swarm.links:
            for _ in range(AT_ONCE):
                another(link)
        swarm.wait(AT_ONCE, (_WRITE,), WITHIN_S, another)
        began, done = time.monotonic(), 0
        while time.monotonic() < began + span_s:
            swarm.wait(AT_ONCE, (_WRITE,), WITHIN_S, another)
            done += AT_ONCE
        rate = done / (time.monotonic() - began)
        alone = list[float]()
    with Swarm(zookeeper.ports[:1], 1, SESSION_MS) as swarm:
        for _ in range(settings.runs_or(200)):
            began = time.monotonic()
            another(swarm.links[0])
            swarm.wait(1, (_WRITE,), WITHIN_S)
            alone.append((time.monotonic() - began) * 1e3)
    report.limit("writes that ZooKeeper takes, 650 bytes each", "/s", [rate], None)
    report.limit("one write alone", "ms", alone, None)
    settings.progress(f"{rate:.0f} writes a second")


def _heap_bytes(zookeeper: Ensemble) -> float:
    """Of what is in use."""
    total = 0.0
    for pid in map(str, zookeeper.pids):
        subprocess.run(["jcmd", pid, "GC.run"], capture_output=True, check=True)
        done = subprocess.run(["jcmd", pid, "GC.heap_info"], capture_output=True, text=True, check=True)
        heap = done.stdout.partition("Metaspace")[0]
        total += sum(float(found) * 1024 for found in re.findall(r"generation.*used (\d+)K", heap))
    return total


def _memory(zookeeper: Ensemble) -> float:
    return sum(resident_mib(pid) for pid in zookeeper.pids)
