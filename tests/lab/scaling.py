"""What tests of scaling in the lab look at and do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from proxypool.core.addressing import namespace_of
from proxypool.lab import processes
from proxypool.lab.configs import CONNECTIONS_PER_S, STABLE_S
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Connections
from tests.lab.observe import PATIENCE, wait_until

LONG_LIVED = 500
UNREACHABLE = 6
"""Exit code of a command that does not reach ZooKeeper: its servers elect a leader."""


def scale(lab: Lab) -> dict[str, Any]:
    """The subnet in `proxypool scale status -o json`."""
    done = lab.proxypool("scale", "status", "-o", "json", timeout=30 * PATIENCE)
    document: dict[str, Any] = json.loads(done.stdout)
    return {**document["subnets"][0], "controller": document["controller"]}


def wait_size(lab: Lab, wanted: Callable[[dict[str, Any]], bool], within_s: float, what: str) -> dict[str, Any]:
    """Until the subnet is as wanted."""
    seen: list[dict[str, Any]] = [{}]

    def look() -> dict[str, Any]:
        try:
            seen[0] = scale(lab)
        except subprocess.CalledProcessError as error:
            if error.returncode != UNREACHABLE:
                raise
            return {}
        return seen[0] if wanted(seen[0]) else {}

    return wait_until(look, within_s, lambda: f"{what}; it is {seen[0]}", interval_s=0.2)


def is_still(size: dict[str, Any]) -> bool:
    """Nothing comes or goes."""
    return not size["actions"] and not size["coming"] and not size["draining"]


def wait_rest(lab: Lab) -> dict[str, Any]:
    """No more pairs than one and its reserve, whatever was asked for before; nothing comes or goes."""
    lab.proxypool("scale", "set", scale(lab)["id"], "--min-pairs", "1", timeout=30 * PATIENCE)
    return wait_size(lab, lambda size: size["active"] <= 2 and is_still(size), 6 * STABLE_S, "rest")


def leader(lab: Lab) -> str:
    """The controller that leads."""
    found = scale(lab)["controller"]["leader"]
    return str(found).partition(":")[0]


def kill_leader(lab: Lab) -> str:
    """SIGKILL; the name of the one that is gone."""
    name = leader(lab)
    processes.send(next(one for one in lab.machine(name).processes() if one.service == "daemon"), signal.SIGKILL)
    return name


@contextlib.contextmanager
def killed_when(lab: Lab, words: str) -> Iterator[list[str]]:
    """SIGKILL whoever leads as soon as its log says something of the kind. Yields a list: then its name is in it."""
    name = leader(lab)
    victim = next(one for one in lab.machine(name).processes() if one.service == "daemon")
    log = lab.machine(name).log_path("daemon")
    dead: list[str] = []
    is_over = threading.Event()

    def follow() -> None:
        with log.open(encoding="utf-8", errors="replace") as lines:
            lines.seek(0, os.SEEK_END)
            text = ""
            while not is_over.is_set():
                text += lines.read()
                if words in text:
                    processes.send(victim, signal.SIGKILL)
                    dead.append(name)
                    return
                time.sleep(0.0005)

    watcher = threading.Thread(target=follow, name=f"kill {name} at {words}")
    watcher.start()
    try:
        yield dead
    finally:
        is_over.set()
        watcher.join()


def left_over(lab: Lab, subnet: SubnetPlan) -> list[str]:
    """Namespaces and keepalived files of the subnet on nodes that are in none of its pairs."""
    document = json.loads(lab.proxypool("status", "-o", "json", timeout=30 * PATIENCE).stdout)
    pairs = next(one for one in document["subnets"] if one["id"] == subnet.id)["pairs"]
    members = {member["node"] for pair in pairs for member in pair["members"]}
    found = []
    for node in sorted(set(lab.topology.node_names) - members):
        root = Path(f"/proc/{lab.machine(node).pid}/root")
        found += [f"{node}: {name}" for name in os.listdir(root / "run/netns") if name == namespace_of(subnet.id)]
        found += [f"{node}: {name}" for name in os.listdir(root / "etc/keepalived/conf.d") if subnet.id in name]
    return found


@contextlib.contextmanager
def long_lived(lab: Lab, subnet: SubnetPlan) -> Iterator[Connections]:
    """500 connections that talk twice a second; none of them may break. Opened slowly: they are no load."""
    with Connections(
        lab, "pod1", subnet.database_ip, count=LONG_LIVED, interval_ms=500.0, rate=CONNECTIONS_PER_S / 4,
        alive_within_s=3.0 * PATIENCE, answer_timeout_s=60.0 * PATIENCE,
    ) as running:  # fmt: skip
        yield running
        result = running.result()
    assert (result["alive"], result["broken"], result["hanging"]) == (LONG_LIVED, {}, 0), result
