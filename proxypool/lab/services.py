"""The programs of each kind of machine, started as on a real machine: with their own configuration files.

A service is a process whose environment says so and whose parent is the machine's init; see `processes`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxypool.lab.errors import LabError
from proxypool.lab.namespaces import PATH, base_environment, enter
from proxypool.lab.topology import Kind, MachineSpec

ZOOKEEPER_JAR = "/usr/share/java/zookeeper.jar"
LOGGING_JAR = "/usr/share/java/slf4j-simple.jar"
_NETTY = ("buffer", "codec", "common", "handler", "resolver", "transport")
_NATIVE = ("classes-epoll", "native-epoll", "native-unix-common")
TLS_JARS = tuple(f"/usr/share/java/netty-{part}.jar" for part in (*_NETTY, *(f"transport-{one}" for one in _NATIVE)))
"""What a server needs beside its own for TLS. Java does not mind those that are not there."""
INSIDE = (sys.executable, "-S", "-m")
"""Starts a module of `proxypool.lab.inside`. Without `site`: half the start-up time and memory."""


@dataclass(frozen=True, slots=True)
class Service:
    """One program."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_product: bool = False
    """keepalived and our daemons: what a lab without daemons leaves out."""


ZOOKEEPER = Service(
    "zookeeper",
    (
        "java",
        # As /usr/share/zookeeper/bin/zkServer.sh does it, plus a small heap and a quick start.
        *("-Xms16m", "-Xmx128m", "-Xss256k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
        # Its files are named by pid, which is the same in every machine.
        "-XX:-UsePerfData",
        *("-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=1024", "-Djava.net.preferIPv4Stack=true"),
        # Debian's log configuration writes a file; a service manager, and the lab, want standard error.
        *("-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"),
        *("-cp", ":".join(("/etc/zookeeper/conf", ZOOKEEPER_JAR, LOGGING_JAR, *TLS_JARS))),
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        "/etc/zookeeper/conf/zoo.cfg",
    ),
)
# It writes its dumps to $TMPDIR/keepalived.json: /tmp is one directory for all machines, /run is not. Without a syslog
# (-G) the C library would write its lines to the console, where each byte takes a processor from everybody.
KEEPALIVED = Service("keepalived", ("keepalived", "-n", "-l", "-G"), {"TMPDIR": "/run"}, is_product=True)
REDIS = Service("redis", ("redis-server", "/etc/redis/redis.conf"))
RESPONDER_SERVICE = Service("responder", (*INSIDE, "proxypool.lab.inside.responder"))


def services_of(machine: MachineSpec) -> tuple[Service, ...]:
    """What runs on a machine, in the order of starting. redis only if it is installed: nothing depends on it."""
    match machine.kind:
        case Kind.ZOOKEEPER:
            return (ZOOKEEPER,)
        case Kind.NODE:
            return KEEPALIVED, _daemon("node")
        case Kind.HOST:
            return (_daemon("host"),)
        case Kind.CONTROLLER:
            return (_daemon("controller"),)
        case Kind.DATABASE if machine.name == "db1" and shutil.which("redis-server", path=PATH):
            return RESPONDER_SERVICE, REDIS
        case Kind.DATABASE:
            return (RESPONDER_SERVICE,)
        case _:
            return ()


def of_tree(service: Service, tree: Path) -> Service:
    """The same program from another copy of the package: the directory that `proxypool/` is in."""
    return replace(service, environment={**service.environment, **tree_environment(tree)})


def tree_environment(tree: Path) -> dict[str, str]:
    """Of a Python that takes the package from there, and not from where it was started."""
    return {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}


def start(lab: str, machine: str, pid: int, service: Service, log: Path) -> None:
    """Start a service in the machine whose init is `pid`. It becomes a child of that init."""
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**base_environment(lab, machine, service.name), **service.environment}
    with log.open("ab") as out:
        done = subprocess.run(
            [*enter(pid), "setsid", "--fork", *service.command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            check=False,
        )
    if done.returncode:
        raise LabError(f"cannot start {service.name} on {machine}: see `proxypool lab logs {machine}`")


def _daemon(role: str) -> Service:
    return Service("daemon", (sys.executable, "-m", "proxypool", "run", role), is_product=True)
