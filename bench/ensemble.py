"""A ZooKeeper of three servers on the loopback: real processes in a directory of their own, gone afterwards.

They end with this process, however it ends: by pid at the end of the `with`, by the kernel if nobody comes to that.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from proxypool.lab.errors import LabError
from proxypool.lab.processes import DIES_WITH_US, wait_until
from proxypool.lab.services import LOGGING_JAR, ZOOKEEPER_JAR

SERVERS = 3
TICK_MS = 2000
"""ZooKeeper's own default: sessions from 4 s."""
HEAP_MIB = 512
START_WITHIN_S = 60.0
ANSWER_WITHIN_S = 5.0


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Ensemble:
    """See the module's text."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="proxypool-bench-"))
        ports = free_ports(3 * SERVERS)
        self.ports: Sequence[int] = ports[:SERVERS]
        self._peers = [f"127.0.0.1:{ports[SERVERS + 2 * at]}:{ports[SERVERS + 2 * at + 1]}" for at in range(SERVERS)]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def addresses(self) -> tuple[str, ...]:
        """HOST:PORT of each."""
        return tuple(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the servers' processes."""
        return tuple(process.pid for process in self._processes)

    def __enter__(self) -> Self:
        try:
            for at in range(SERVERS):
                self._processes.append(self._start(at))
            wait_until(self._has_quorum, START_WITHIN_S, "the three ZooKeeper servers to serve", interval_s=0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, at: int) -> subprocess.Popen[bytes]:
        home = self._directory / f"server-{at + 1}"
        (home / "data").mkdir(parents=True)
        (home / "data" / "myid").write_text(f"{at + 1}\n")
        servers = "".join(f"server.{number + 1}={peer}\n" for number, peer in enumerate(self._peers))
        (home / "zoo.cfg").write_text(
            f"tickTime={TICK_MS}\ninitLimit=30\nsyncLimit=15\ndataDir={home}/data\n"
            f"clientPort={self.ports[at]}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n"
            "maxSessionTimeout=120000\nadmin.enableServer=false\n4lw.commands.whitelist=*\n"
            "autopurge.snapRetainCount=3\nautopurge.purgeInterval=0\n" + servers
        )
        # As the lab's, but with forceSync as shipped would measure this machine's disk: off, and said so in a note.
        command = (
            *("java", "-Xms32m", f"-Xmx{HEAP_MIB}m", "-Xss256k", "-XX:+UseSerialGC", "-Xshare:auto"),
            *("-XX:-UsePerfData", "-Dzookeeper.forceSync=no", "-Djava.net.preferIPv4Stack=true"),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *("-cp", f"{home}:{ZOOKEEPER_JAR}:{LOGGING_JAR}"),
            *("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(home / "zoo.cfg")),
        )
        with (home / "server.log").open("ab") as log:
            environment = {**os.environ, "JAVA_TOOL_OPTIONS": ""}
            return subprocess.Popen((*DIES_WITH_US, *command), stdout=log, stderr=log, env=environment)

    def _has_quorum(self) -> bool:
        for at, process in enumerate(self._processes):
            if process.poll() is not None:
                log = (self._directory / f"server-{at + 1}" / "server.log").read_text(errors="replace")
                raise LabError(f"a ZooKeeper server ended with {process.returncode}: {log[-400:]}")
        return all("Mode:" in self.ask(port, "srvr") for port in self.ports)

    def ask(self, port: int, word: str) -> str:
        """What a server answers to a word of four letters; empty: it does not."""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_WITHIN_S) as link:
                link.sendall(word.encode())
                found = b""
                while data := link.recv(1 << 16):
                    found += data
                return found.decode(errors="replace")
        except OSError:
            return ""

    def figure(self, name: str) -> float:
        """One figure of `mntr`, added up over the servers, such as `zk_watch_count`."""
        total = 0.0
        for port in self.ports:
            for line in self.ask(port, "mntr").splitlines():
                key, _, value = line.partition("\t")
                if key == name:
                    total += float(value)
        return total
