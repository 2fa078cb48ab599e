"""Measures a lab from outside: the kernel's view of each machine and of each of its processes, and ZooKeeper's counts."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from proxypool.lab.lab import Lab
from proxypool.lab.machine import Machine
from proxypool.lab.processes import Process
from proxypool.lab.topology import ZOOKEEPER_PORT, Kind
from tests.lab.observe import inside, python

JUDGED = {Kind.NODE: ("daemon", "keepalived", "conntrackd"), Kind.HOST: ("daemon",), Kind.CONTROLLER: ("daemon",)}
"""Kind of machine -> the services whose processes are measured."""
_COUNT = """
count() { echo "$1 $(($2))"; }
rules=0; links=0; conntrack=0
look() {
    rules=$((rules + $($1 iptables-legacy-save 2>/dev/null | grep -c ^-A)))
    links=$((links + $($1 ip -o link | wc -l)))
    conntrack=$((conntrack + $($1 conntrack -L 2>/dev/null | awk '$3 > 120' | wc -l)))
}
look ''
for name in $(ls /run/netns 2>/dev/null); do look "ip netns exec $name"; done
count rules $rules; count links $links; count conntrack $conntrack
count namespaces $(ls /run/netns 2>/dev/null | wc -l)
count sets $(ipset list -n 2>/dev/null | wc -l)
count files $(find /run/proxypool /etc/keepalived/conf.d -type f 2>/dev/null | wc -l)
"""
_ZNODES = """
import sys
from kazoo.client import KazooClient
client = KazooClient(sys.argv[1])
client.start()
def count(path):
    return 1 + sum(count(f"{path}/{name}") for name in client.get_children(path))
history = client.get("/proxypool/lab/history")[1].numChildren
print(count("/proxypool/lab") - history, history)
client.stop()
"""


def sample(lab: Lab) -> dict[str, float]:
    """`<machine> <thing> <figure>` -> value, of everything that is on. A process is named with its pid: one that is
    started anew is another thing.
    """
    found: dict[str, float] = {}
    for name, machine in lab.machines.items():
        services = JUDGED.get(machine.spec.kind)
        if services is None or not machine.is_on:
            continue
        processes = machine.processes()
        found[f"{name} machine processes"] = len(processes)
        for process in processes:
            if process.service in services and not process.stopped:
                found |= {f"{name} {_title(process)} {figure}": value for figure, value in _of_process(process).items()}
        found |= {f"{name} machine {figure}": value for figure, value in _of_machine(machine).items()}
    return found | _of_zookeeper(lab)


def _title(process: Process) -> str:
    return f"{process.service}/{process.name}[{process.pid}]"


def _of_process(process: Process) -> dict[str, float]:
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
        fds = len(os.listdir(f"/proc/{process.pid}/fd"))
    except OSError:
        return {}
    values = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", text, re.MULTILINE))
    return {"rss_kib": float(values.get("VmRSS", 0)), "threads": float(values.get("Threads", 0)), "fds": float(fds)}


def _of_machine(machine: Machine) -> dict[str, float]:
    text = machine.run(["sh", "-c", _COUNT], check=False).stdout
    return {name: float(value) for name, value in (line.split() for line in text.splitlines())}


def _of_zookeeper(lab: Lab) -> dict[str, float]:
    server = next(iter(lab.topology.zookeeper_ips))
    znodes, history = python(lab, "zk1", _ZNODES, f"{server}:{ZOOKEEPER_PORT}").split()
    watches = sum(_mntr(machine, "zk_watch_count") for machine in lab.machines.values() if _serves(machine))
    return {"pool - znodes": float(znodes), "pool - history": float(history), "pool - watches": watches}


def _serves(machine: Machine) -> bool:
    return machine.spec.kind is Kind.ZOOKEEPER and machine.is_on


def _mntr(machine: Machine, name: str) -> float:
    place = (machine.spec.ip, ZOOKEEPER_PORT)
    with inside(machine, None, lambda: socket.create_connection(place, timeout=5.0)) as link:
        link.sendall(b"mntr")
        text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
    found = re.search(rf"^{name}\t(\d+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0
