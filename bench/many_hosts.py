"""Ten thousand function hosts in one subnet: how long until a node has programmed all of them, and one more.

The nodes are those of a lab, with their kernels and a real ZooKeeper; the hosts are documents (`bench.joins`).
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

from bench import big_agent
from bench.footprint import cpu_s, resident_mib
from bench.joins import host
from bench.labs import OUR_NODES, apply, bench_lab, metrics, subnets_of
from bench.report import Report
from bench.restart import adopted_at
from bench.settings import Settings
from proxypool.core.addressing import mac_of, namespace_of, tunnel_device_of
from proxypool.lab.configs import POOL
from proxypool.lab.errors import LabError, LabTimeout
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab
from proxypool.lab.machine import end
from proxypool.lab.namespaces import in_network_of
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import PAIR, ZOOKEEPER_PORT, Tunnel

HOSTS, QUICK_HOSTS = 10_000, 500
JOINS = 200
BY_HAND = 20
STARTS = 3
PROGRAM_LIMIT_S, JOIN_LIMIT_MS, SEEN_LIMIT_MS, REPAIR_LIMIT_S = 5.0, 10.0, 40.0, 2.0
CALM_S = 3.0
"""So that the look that follows a change is over."""
BETWEEN_S = 0.03
TIMEOUT_S = 60.0
CLONE_NEWNET = 0x40000000
RTM_NEWNEIGH, RTMGRP_NEIGH = 28, 4
_libc = ctypes.CDLL(None, use_errno=True)


def run(settings: Settings) -> Report:
    """Measure."""
    many = QUICK_HOSTS if settings.is_quick else HOSTS
    report = Report()
    with bench_lab(settings, by_hand=False) as lab:
        (subnet,) = subnets_of(lab)
        apply(lab, (subnet,))
        empty_mib = _resident_mib(lab)
        with Joins(lab, subnet) as joins:
            settings.progress(f"registering {many} hosts")
            joins.say("fill", 1, many)
            _measure_starts(report, settings, lab, subnet, many)
            _measure_joins(report, settings, lab, subnet, joins, many)
            _measure_looks(report, settings, lab, subnet)
        report.compare(
            f"node daemon, {many} hosts: resident memory", "MiB", [_resident_mib(lab)], [empty_mib], "1 host"
        )
    big_agent.measure(report, settings)
    return report


# ---- starting with all of them ---------------------------------------------------------------------------------------


def _measure_starts(report: Report, settings: Settings, lab: Lab, subnet: SubnetPlan, many: int) -> None:
    ours, by_hand = list[float](), list[float]()
    runs = settings.runs_or(STARTS)
    for number in range(runs):
        ours.append(_start(lab, subnet, many))
        by_hand.append(_program_by_hand(lab, settings, many))
        settings.progress(f"{number + 1}/{runs}: {many} hosts in {ours[-1]:.2f} s; ip -batch {by_hand[-1]:.2f} s")
    report.compare(
        f"daemon started to {many} hosts programmed",
        "s",
        ours,
        by_hand,
        "ip -batch from a file",
        target=f"< {PROGRAM_LIMIT_S:g} s",
    )


def _start(lab: Lab, subnet: SubnetPlan, many: int) -> float:
    """The daemon of a node that has nothing of the subnet yet."""
    node = OUR_NODES[0]
    lab.fault(Fault.KILL_DAEMON, node)
    lab.machine(node).run(["ip", "-n", namespace_of(subnet.id), "link", "del", tunnel_device_of(subnet.id)])
    started = time.time()
    lab.machine(node).start("daemon")
    wait_until(
        lambda: adopted_at(metrics(lab, node)) > started, TIMEOUT_S, f"the daemon of {node} to be ready", interval_s=0.3
    )
    took = adopted_at(metrics(lab, node)) - started
    count = len(
        lab.machine(node)
        .run(["ip", "-n", namespace_of(subnet.id), "neigh", "show", "nud", "permanent"])
        .stdout.splitlines()
    )
    if count < many:
        raise LabError(f"{node} is ready with {count} neighbours of {many}")
    return took


def _program_by_hand(lab: Lab, settings: Settings, many: int) -> float:
    """The same objects from files, in a namespace of its own; making the files does not count."""
    device, name = "tun0", "by-hand"
    kind = (
        "vxlan id 9 local 192.168.80.250 dstport 4790 nolearning"
        if settings.tunnel is Tunnel.VXLAN
        else ("gre local 192.168.80.250 key 9")
    )
    machine = lab.machine("host1")
    setup = f"ip netns add {name} && ip -n {name} link add {device} type {kind} && ip -n {name} link set {device} up"
    machine.run(["sh", "-c", setup])
    try:
        commands, entries = list[str](), list[str]()
        for number in range(1, many + 1):
            spec = host(number)
            mac = mac_of(spec.tunnel_address)
            commands.append(f"route replace {spec.tunnel_address} dev {device}")
            link_address = mac if settings.tunnel is Tunnel.VXLAN else spec.underlay
            commands.append(f"neigh replace {spec.tunnel_address} lladdr {link_address} dev {device}")
            entries.append(f"fdb replace {mac} dev {device} dst {spec.underlay} self permanent")
        began = time.monotonic()
        machine.run(["ip", "-n", name, "-batch", "-"], input="\n".join(commands) + "\n")
        if settings.tunnel is Tunnel.VXLAN:
            machine.run(["bridge", "-n", name, "-batch", "-"], input="\n".join(entries) + "\n")
        return time.monotonic() - began
    finally:
        machine.run(["ip", "netns", "del", name])


# ---- one more --------------------------------------------------------------------------------------------------------


def _measure_joins(report: Report, settings: Settings, lab: Lab, subnet: SubnetPlan, joins: Joins, many: int) -> None:
    programmed, from_sent, seen, whole = [list[float]() for _ in range(4)]
    runs = settings.runs_or(JOINS)
    time.sleep(CALM_S)
    with Neighbours(lab, OUR_NODES[0], subnet) as neighbours:
        for number in range(many + 1, many + 1 + runs):
            joins.say("register", number)
            time.sleep(BETWEEN_S)
            said = joins.say("join", number)
            at = neighbours.wait(host(number).tunnel_address)
            if said["seen"] is None:
                raise LabTimeout(f"host {number} is in the kernel, but no member says that it has seen it")
            programmed.append((at - said["committed"]) * 1e3)
            from_sent.append((at - said["sent"]) * 1e3)
            seen.append((said["seen"] - said["sent"]) * 1e3)
            time.sleep(BETWEEN_S)
        for number in range(many + 1 + runs, many + 1 + 2 * runs):
            # Registered and joined at once: two lists change, and a document comes.
            began = time.monotonic()
            joins.say("register", number)
            joins.say("join", number)
            whole.append((neighbours.wait(host(number).tunnel_address) - began) * 1e3)
            time.sleep(BETWEEN_S)
    settings.progress(f"one more of {many}: {sorted(programmed)[runs // 2]:.1f} ms after its commit")
    by_hand = _one_by_hand(lab, subnet, settings.runs_or(BY_HAND))
    limit = f"<= {JOIN_LIMIT_MS:g} ms"
    report.compare(
        f"one more of {many}: committed to programmed", "ms", programmed, by_hand, "ip, bridge", target=limit
    )
    report.limit("the same from before the request", "ms", from_sent, None)
    report.limit("join to acknowledged by both members", "ms", seen, SEEN_LIMIT_MS)
    report.limit("register and join to programmed", "ms", whole, None)


def _one_by_hand(lab: Lab, subnet: SubnetPlan, runs: int) -> list[float]:
    """A process for each object, run on the node; as long as nobody tells the node, which no script does."""
    node, device = lab.machine(OUR_NODES[1]), tunnel_device_of(subnet.id)
    script = f"""
ip route replace 100.127.0.1 dev {device}
ip neigh replace 100.127.0.1 lladdr 02:00:00:00:00:01 dev {device}
bridge fdb replace 02:00:00:00:00:01 dev {device} dst 10.201.0.1 self permanent 2>/dev/null
date +%s%N"""
    command = ["ip", "netns", "exec", namespace_of(subnet.id), "sh", "-c", f"date +%s%N{script}"]
    found = []
    for _ in range(runs):
        began, ended = map(int, node.run(command, check=False).stdout.split())
        found.append((ended - began) / 1e6)
    return found


# ---- looking at all of them ------------------------------------------------------------------------------------------


def _measure_looks(report: Report, settings: Settings, lab: Lab, subnet: SubnetPlan) -> None:
    """A neighbour is removed behind the daemon's back: how long until it is back, and what the looks cost."""
    node, device = OUR_NODES[0], tunnel_device_of(subnet.id)
    pid = _daemon(lab, node)
    repaired, cost = list[float](), list[float]()
    with Neighbours(lab, node, subnet) as neighbours:
        for number in range(1, settings.runs_or(10) + 1):
            time.sleep(CALM_S)
            address = host(number).tunnel_address
            before, looks = cpu_s(pid), _looks(lab, node)
            began = time.monotonic()
            lab.machine(node).run(["ip", "-n", namespace_of(subnet.id), "neigh", "del", str(address), "dev", device])
            neighbours.forget(address)
            repaired.append(neighbours.wait(address) - began)
            time.sleep(1.0)
            count = _looks(lab, node) - looks
            cost.append((cpu_s(pid) - before) * 1e3 / max(1.0, count))
    settings.progress(f"a neighbour removed by somebody is back after {sorted(repaired)[len(repaired) // 2]:.2f} s")
    report.limit("neighbour removed by somebody to back again", "s", repaired, REPAIR_LIMIT_S)
    report.limit("processor time of a round in which one is put back", "ms", cost, None)


def _looks(lab: Lab, node: str) -> float:
    return sum(
        sample.value for sample in metrics(lab, node) if sample.name == "proxypool_reconcile_duration_seconds_count"
    )


# ---- instruments -----------------------------------------------------------------------------------------------------


class Joins:
    """`bench.joins` in a machine of the lab."""

    def __init__(self, lab: Lab, subnet: SubnetPlan) -> None:
        server = f"{lab.topology.zookeeper_ips[0]}:{ZOOKEEPER_PORT}"
        command = [sys.executable, "-m", "bench.joins", server, POOL, subnet.id, PAIR]
        self._process = lab.machine("host1").popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def say(self, command: str, *numbers: int) -> Any:
        """Do one command; what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command} {' '.join(map(str, numbers))}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LabError("bench.joins ended")
        return json.loads(line)


class Neighbours:
    """When neighbours appear in a subnet's namespace, as the kernel tells. The last object of a host to come."""

    def __init__(self, lab: Lab, node: str, subnet: SubnetPlan) -> None:
        root = Path(f"/proc/{lab.machine(node).pid}/root/run/netns")
        self._seen: dict[IPv4Address, float] = {}
        self._has_news = threading.Condition()
        self._is_over = False
        self._socket = in_network_of(lab.machine(node).pid, lambda: _listen(root / namespace_of(subnet.id)))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        self._socket.close()

    def forget(self, address: IPv4Address) -> None:
        """What was seen so far does not count."""
        with self._has_news:
            self._seen.pop(address, None)

    def wait(self, address: IPv4Address) -> float:
        """Monotonic time at which it came."""
        with self._has_news:
            if not self._has_news.wait_for(lambda: address in self._seen, 10.0):
                raise LabTimeout(f"no neighbour {address} within 10 s")
            return self._seen[address]

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while not self._is_over:
                if selector.select(0.2):
                    self._take(self._socket.recv(1 << 17), time.monotonic())

    def _take(self, data: bytes, now: float) -> None:
        for address in _addresses(data):
            with self._has_news:
                self._seen.setdefault(address, now)
                self._has_news.notify()


def _listen(namespace: Path) -> socket.socket:
    with namespace.open("rb") as file:
        if _libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    listener.bind((0, RTMGRP_NEIGH))
    return listener


def _addresses(data: bytes) -> Iterator[IPv4Address]:
    """Of the permanent neighbours that a message says are there now."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        family, _, state = struct.unpack_from("=BxxxiH", data, 16)
        if kind == RTM_NEWNEIGH and family == socket.AF_INET and state & 0x80:
            # The address is the first attribute.
            yield IPv4Address(data[32:36])
        data = data[(length + 3) & ~3 :]


def _daemon(lab: Lab, node: str) -> int:
    return max(process.pid for process in lab.machine(node).processes() if process.service == "daemon")


def _resident_mib(lab: Lab) -> float:
    return resident_mib(_daemon(lab, OUR_NODES[0]))
