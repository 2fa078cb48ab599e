"""A real ZooKeeper server for tests, on a free loopback port, in a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from proxypool.adapters.zookeeper import PoolMirror, PoolSession, PoolStore, Presence, Registry
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.model import MemberSpec, Snapshot, TunnelKind
from proxypool.core.requests import PairRequest, PoolRequest, SubnetRequest
from proxypool.core.role import Coordinator
from proxypool.lab.processes import DIES_WITH_US

CLASS_PATH = "/usr/share/java/zookeeper.jar"
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
TICK_MS = 200
"""Sessions last from 2 ticks; the server looks for expired ones once per tick."""
START_WITHIN_S = 60.0


def is_available() -> bool:
    """Whether this computer has a ZooKeeper and a Java to run it."""
    return Path(CLASS_PATH).exists() and shutil.which("java") is not None


def wait_until(condition: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: it did not come true in time.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.002)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ZooKeeperServer:
    """One standalone server. `stop` and `start` again keep its data and port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "log4j.properties").write_text(
            "log4j.rootLogger=WARN, A\nlog4j.appender.A=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.A.layout=org.apache.log4j.SimpleLayout\n"
        )
        (directory / "zoo.cfg").write_text(
            f"tickTime={TICK_MS}\ndataDir={directory}/data\n{self.ports()}"
            "maxClientCnxns=0\nadmin.enableServer=false\nminSessionTimeout=400\nmaxSessionTimeout=60000\n4lw.commands.whitelist=*\n"
            "forceSync=no\n"
        )

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def ports(self) -> str:
        """Lines of its configuration: where it listens."""
        return f"clientPort={self.port}\nclientPortAddress=127.0.0.1\n"

    def class_path(self) -> str:
        """Where its classes are."""
        return f"{self._directory}:{CLASS_PATH}"

    def start(self) -> None:
        """Start and wait until it answers."""
        self.launch()
        wait_until(self.is_serving, f"ZooKeeper at {self.address} serves", START_WITHIN_S)

    def launch(self) -> int:
        """Start it; its pid."""
        memory = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, "java", *memory, "-cp", self.class_path(), MAIN, str(self._directory / "zoo.cfg")],
                stdout=log,
                stderr=log,
                env={**os.environ, "JAVA_TOOL_OPTIONS": ""},
            )
        return self._process.pid

    def is_serving(self) -> bool:
        """Whether it answers `srvr`."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"srvr")
                return b"Mode:" in connection.recv(4096)
        except OSError:
            return False

    def stop(self) -> None:
        """Kill it, as a machine that loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop its clock: connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class PoolClient:
    """What a test needs of one process: a session with everything on top of it."""

    def __init__(
        self,
        server: ZooKeeperServer,
        pool: str,
        timeout_s: float = 10.0,
        zookeeper: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """`zookeeper`: more of the configuration's section."""
        config = ZooKeeperConfig(hosts=(server.address,), session_timeout_s=timeout_s, **(zookeeper or {}))
        self.states: list[Coordinator] = []
        self.session = PoolSession(config, pool, on_state=self.states.append, **options)
        self.snapshots: list[Snapshot] = []
        self.mirror = PoolMirror(self.session, self.snapshots.append)
        self.presence = Presence(self.session)
        self.registry = Registry(self.session)
        self.store = PoolStore(self.session)

    def start(self, *, connect: bool = True) -> PoolClient:
        """Start it all."""
        self.session.start()
        if connect:
            self.session.connect(10)
        self.mirror.start()
        self.presence.start()
        return self

    def end(self, *, close_session: bool) -> None:
        """As a process that ends."""
        self.mirror.stop()
        self.presence.stop()
        self.session.stop(close_session=close_session)

    def elected(self, name: str = "s1/p1") -> str | None:
        """Whom the mirror sees elected."""
        candidates = self.mirror.snapshot.elections.get(name, ())
        return candidates[0].node if candidates else None

    def nodes_of(self, name: str = "s1/p1") -> list[str]:
        """Candidates as the mirror sees them."""
        return [candidate.node for candidate in self.mirror.snapshot.elections.get(name, ())]

    def put(self, suffix: str, data: bytes) -> None:
        """Write a node as somebody else might."""
        self.session.wait(self.session.client.set_async(self.session.layout.path(suffix), data))

    def make(self, suffix: str, data: bytes = b"") -> None:
        """Make a node as somebody else might."""
        self.session.wait(self.session.client.create_async(self.session.layout.path(suffix), data))

    def delete(self, suffix: str) -> None:
        """Delete a node as somebody else might."""
        self.session.wait(self.session.client.delete_async(self.session.layout.path(suffix)))

    def get(self, suffix: str) -> bytes:
        """A node's data."""
        data: bytes = self.session.wait(self.session.client.get_async(self.session.layout.path(suffix)))[0]
        return data

    def exists(self, suffix: str) -> bool:
        """Whether there is such a node."""
        return self.session.wait(self.session.client.exists_async(self.session.layout.path(suffix))) is not None


def pair_request(number: int = 1, pair: str = "p1", nodes: tuple[str, str] = ("node-a", "node-b")) -> PairRequest:
    """A pair that collides with no other number's."""
    members = tuple(
        MemberSpec(node=node, eni=f"eni{number}", address=IPv4Interface(f"172.16.{number}.{11 + at}/24"))
        for at, node in enumerate(nodes)
    )
    return PairRequest(id=pair, havip=IPv4Address("192.168.4.0") + number, members=members)


def subnet_request(number: int = 1, *pairs: PairRequest) -> SubnetRequest:
    """A subnet that collides with no other number's."""
    return SubnetRequest(id=f"s{number}", cidrs=(IPv4Network(f"172.16.{number}.0/24"),), pairs=pairs)


def pool_request(count: int = 1) -> PoolRequest:
    """That many subnets, with a pair each."""
    subnets = tuple(subnet_request(number, pair_request(number)) for number in range(1, count + 1))
    return PoolRequest(tunnel=TunnelKind.VXLAN, subnets=subnets)
