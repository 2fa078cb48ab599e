"""Controllers as processes, against a real ZooKeeper, with nodes that only say what nodes would say."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from proxypool.adapters.zookeeper import member_status_suffix
from proxypool.core.documents import encode
from proxypool.core.model import Alive, MemberSpec, MemberStatus, NodeSpec, PairSpec, PairState
from proxypool.core.scaling.requests import SparesRequest
from proxypool.core.scaling.series import Series
from proxypool.lab.processes import DIES_WITH_US
from tests.contract.zk import PoolClient, ZooKeeperServer, wait_until

NODES = ("n1", "n2", "n3", "n4", "n5", "n6")
SEEN_ALL = 1 << 60
"""More than any zxid."""
LIMIT = 1000


def card(node: str, number: int = 1) -> MemberSpec:
    """The spare card of a node."""
    at = NODES.index(node)
    return MemberSpec(node=node, eni=f"eni{number}", address=IPv4Interface(f"172.16.{number}.{21 + at}/24"))


def spares(number: int = 1, nodes: tuple[str, ...] = NODES) -> SparesRequest:
    """A card on each node, and a HaVip for each two."""
    return SparesRequest(
        members=tuple(card(node, number) for node in nodes),
        havips=tuple(IPv4Address(f"192.168.{number}.{200 + at}") for at in range(len(nodes) // 2)),
    )


def own_address() -> str:
    """Of this machine, not its loopback: nobody asks that of a node."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address: str = probe.getsockname()[0]
        return address


class Nodes:
    """Six machines in three zones, which are members of whatever pair names them, and serve a `/metrics`."""

    def __init__(self, client: PoolClient) -> None:
        self.client = client
        self.is_ready = True
        """Whether members come up."""
        self.late: frozenset[str] = frozenset()
        """Pairs whose members do not, nevertheless."""
        self.connections = 0
        """What a draining pair has left."""
        self.entries = 0
        """In the connection table of each master."""
        self._told: dict[str, bytes] = {}
        self._stopping = threading.Event()
        self._began = time.time()
        self._servers = {node: ThreadingHTTPServer(("0.0.0.0", 0), self._handler(node)) for node in NODES}
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, daemon=True).start()
        for node in NODES:
            self.register(node)
        threading.Thread(target=self._run, daemon=True).start()

    def register(self, node: str) -> None:
        """Its daemon starts."""
        at = NODES.index(node)
        underlay = IPv4Address("10.0.0.1") + at
        spec = NodeSpec(
            id=node,
            underlay=underlay,
            metrics=f"{own_address()}:{self._servers[node].server_port}",
            labels={"zone": f"z{at // 2}"},
        )
        self.client.registry.register_node(spec, Alive(underlay=underlay, since=1.0))

    def die(self, node: str) -> None:
        """Its session ends, as far as others see."""
        self.client.delete(f"nodes/{node}/alive")

    def stop(self) -> None:
        self._stopping.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def _run(self) -> None:
        while not self._stopping.wait(0.02):
            for pair in list(self.client.mirror.snapshot.all_pairs()):
                for at, member in enumerate(pair.members):
                    self._publish(pair, member.node, is_master=at == 0)

    def _publish(self, pair: PairSpec, node: str, *, is_master: bool) -> None:
        status = MemberStatus(
            node=node,
            role="master" if is_master else "backup",
            vrrp="master" if is_master else "backup",
            gate=is_master,
            has_havip=is_master,
            health=() if self.is_ready and pair.id not in self.late else ("starting",),
            hosts_seen=SEEN_ALL,
            connections=self.connections if is_master and pair.state is PairState.DRAINING else None,
            at=time.time(),
        )
        suffix = member_status_suffix(pair.subnet, pair.id, node)
        self.client.presence.want(suffix, encode(status))

    def _text(self, node: str) -> str:
        lines = ["proxypool_anything 1"]
        for pair in self.client.mirror.snapshot.pairs_on(node):
            labels = f'{{subnet="{pair.subnet}",pair="{pair.id}"}}'
            values = {
                Series.MASTER: int(pair.members[0].node == node),
                Series.SINCE: self._began,
                Series.CLOCK: time.time() - self._began,
                Series.AGE: 0.1,
                Series.CONNTRACK: self.entries,
                Series.CONNTRACK_LIMIT: LIMIT,
            }
            lines += [f"{series}{labels} {value}" for series, value in values.items()]
        return "\n".join([*lines, ""])

    def _handler(self, node: str) -> type[BaseHTTPRequestHandler]:
        nodes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = nodes._text(node).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
                return

        return Handler


class Controller:
    """A process."""

    def __init__(
        self,
        server: ZooKeeperServer,
        pool: str,
        directory: Path,
        name: str,
        port: int,
        *,
        more: str = "",
        web: str = "",
        pace: str = "interval_s = 0.3",
    ) -> None:
        self.log = directory / f"{name}.log"
        self.port = port
        config = directory / f"{name}.toml"
        config.write_text(
            f'pool = "{pool}"\nrun_dir = "{directory}"\n'
            f'[zookeeper]\nhosts = ["{server.address}"]\nsession_timeout_s = 1.0\n'
            f'[controller]\nname = "{name}"\n{pace}\ndead_after_s = 10\n'
            f'[controller.web]\nlisten = "{web}"\n'
            f'[metrics]\nlisten = "127.0.0.1:{port}"\n{more}'
        )
        self.command = [sys.executable, "-m", "proxypool", "run", "controller", "--config", str(config)]
        """To be changed before `start`."""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Controller:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*DIES_WITH_US, *self.command], stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        """Without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def said(self, text: str) -> bool:
        """Whether it is in the log."""
        return text in self.log.read_text()

    def wait_to_lead(self) -> None:
        wait_until(lambda: self.said("this controller leads (epoch"), "it leads", 20.0)
