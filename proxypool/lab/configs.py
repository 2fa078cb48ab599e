"""The text of every configuration file of a machine, as an operator would have written it. Pure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from proxypool.lab import identities
from proxypool.lab.topology import REDIS_PORT, ZOOKEEPER_PORT, Kind, MachineSpec, Topology, number_of, zone_of

OWNED = ("/etc/proxypool", "/etc/keepalived", "/etc/zookeeper", "/etc/redis")
"""Directories that are empty at first on every machine, whatever this computer has there."""
RUN_DIRECTORIES = ("/run/proxypool", "/run/proxypool/track")
"""What systemd makes on a proxy node before any service starts: systemd/tmpfiles.d/proxypool.conf."""
POOL = "lab"
SESSION_TIMEOUT_S = 4.0
SERVER_TICK_MS = 500
CONNECTIONS_PER_S = 200
"""What a pair is said to bear where a controller watches: little, so that one instance can overload it."""
CONFIRM_S, STABLE_S = 2.0, 20.0
"""Of the controller's policy: short, because people and tests wait for them."""
PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
COMMAND_DIR = "/var/lib/proxypool-lab/bin"
"""Where a machine finds the `proxypool` command, installed or not."""


def files(topology: Topology, machine: MachineSpec) -> dict[str, str]:
    """Absolute path → content, for one machine."""
    texts = {
        "/etc/hostname": f"{machine.name}\n",
        "/etc/hosts": _hosts(topology),
        "/etc/resolv.conf": "# no name servers in the lab\n",
        f"{COMMAND_DIR}/proxypool": _command(),
    }
    match machine.kind:
        case Kind.ZOOKEEPER:
            texts["/etc/zookeeper/conf/zoo.cfg"] = _zoo_cfg(topology, machine)
            texts["/var/lib/zookeeper/myid"] = f"{number_of(machine.name)}\n"
        case Kind.NODE:
            texts["/etc/keepalived/keepalived.conf"] = "include /etc/keepalived/conf.d/*.conf\n"
            texts["/etc/keepalived/conf.d/.keep"] = ""
            texts["/etc/proxypool/proxypool.toml"] = _proxypool_toml(topology, machine)
        case Kind.HOST | Kind.CONTROLLER | Kind.OPERATOR:
            texts["/etc/proxypool/proxypool.toml"] = _proxypool_toml(topology, machine)
        case Kind.DATABASE if machine.name == "db1":
            texts["/etc/redis/redis.conf"] = REDIS_CONF
        case _:
            pass
    return texts


def _proxypool_toml(topology: Topology, machine: MachineSpec) -> str:
    servers = json.dumps([f"{ip}:{ZOOKEEPER_PORT}" for ip in topology.zookeeper_ips])
    text = f'pool = "{POOL}"\n\n[zookeeper]\nhosts = {servers}\n'
    text += f"session_timeout_s = {SESSION_TIMEOUT_S}\nserver_tick_s = {SERVER_TICK_MS / 1000}\n"
    if topology.secure:
        text += f'user = "{identities.USERS[machine.kind]}"\nsecret_file = "{identities.SECRET}"\n'
        text += f'tls_ca = "{identities.AUTHORITIES}"\n'
        text += f'tls_cert = "{identities.CERTIFICATE}"\ntls_key = "{identities.KEY}"\n'
    if machine.kind is Kind.OPERATOR:
        return text
    if machine.kind is Kind.NODE:
        zone = zone_of(machine.name)
        text += f'\n[node]\nname = "{machine.name}"\nunderlay = "eth0"\ndetection = "{topology.detection}"\n'
        if topology.controllers:
            text += f"new_connections_per_s = {CONNECTIONS_PER_S}\n"
        text += f'\n[node.labels]\nzone = "{zone}"\n'
        port = 9477
    elif machine.kind is Kind.CONTROLLER:
        text += f'\n[controller]\nname = "{machine.name}"\ninterval_s = 0.5\ndrain_deadline_s = 600\n'
        text += f"\n[controller.policy]\nconfirm_s = {CONFIRM_S}\nstable_s = {STABLE_S}\n"
        port = 9479
    else:
        number = number_of(machine.name)
        text += (
            f'\n[host]\nname = "{machine.name}"\nunderlay = "eth0"\n'
            f'instance_cidrs = ["10.244.{number}.0/24"]\nsubnets = ["*"]\n'
        )
        if topology.attach_all:
            text += "attach_all = true\n"
        port = 9478
    # The status pages are where they are by default: `lab exec ctl1 -- curl -s 127.0.0.1:9480/`.
    return text + f'\n[metrics]\nlisten = "0.0.0.0:{port}"\n'


def _zoo_cfg(topology: Topology, machine: MachineSpec) -> str:
    lines = [
        "# short ticks: sessions from 1 s, so that tests of session loss are quick",
        f"tickTime={SERVER_TICK_MS}",
        "initLimit=20",
        "syncLimit=10",
        "dataDir=/var/lib/zookeeper",
        f"clientPort={ZOOKEEPER_PORT}",
        "maxClientCnxns=0",
        "admin.enableServer=false",
        "4lw.commands.whitelist=*",
    ]
    if topology.secure:
        lines += [
            # Without TLS for this machine's own `srvr`, and for nobody else.
            "clientPortAddress=127.0.0.1",
            f"secureClientPort={ZOOKEEPER_PORT}",
            f"secureClientPortAddress={machine.ip}",
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
            f"ssl.keyStore.location={identities.SERVER_IDENTITY}",
            "ssl.keyStore.type=PEM",
            f"ssl.trustStore.location={identities.SERVER_AUTHORITIES}",
            "ssl.trustStore.type=PEM",
            "ssl.clientAuth=need",
        ]
    if topology.zk > 1:
        lines += [f"server.{i}={ip}:2888:3888" for i, ip in enumerate(topology.zookeeper_ips, 1)]
    return "\n".join(lines) + "\n"


def _hosts(topology: Topology) -> str:
    """Underlay names only: customers' addresses may overlap, and no name service spans the two networks."""
    lines = ["127.0.0.1 localhost"]
    lines += [
        f"{machine.ip} {machine.name}"
        for machine in topology.machines.values()
        if machine.kind in (Kind.ZOOKEEPER, Kind.NODE, Kind.HOST, Kind.CONTROLLER, Kind.OPERATOR)
    ]
    return "\n".join(lines) + "\n"


def _command() -> str:
    return f'#!/bin/sh\nPYTHONPATH="{PACKAGE_ROOT}" exec "{sys.executable}" -m proxypool "$@"\n'


REDIS_CONF = f"""\
port {REDIS_PORT}
bind 0.0.0.0
protected-mode no
daemonize no
set-proc-title no
save ""
appendonly no
dir /run
"""
