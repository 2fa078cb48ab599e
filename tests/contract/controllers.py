"""Controllers as processes, against a real ZooKeeper, with nodes that only say what nodes would say."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from proxypool.adapters.zookeeper import member_status_suffix
from proxypool.core.documents import encode
from proxypool.core.model import Alive, MemberSpec, MemberStatus, NodeSpec, PairSpec, PairState
from proxypool.core.scaling.requests import SparesRequest
from proxypool.core.scaling.series import Series
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


class Nodes:
    """Six machines in three zones, which are members of whatever pair names them, and serve a `/metrics`."""

    def __init__(self, client: PoolClient) -> None:
        self.client = client
        self.is_ready = True
        """Whether members come up."""
        self.connections = 0
        """What a draining pair has left."""
        self.entries = 0
        """In the connection table of each master."""
        self._told: dict[str, bytes] = {}
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._began = time.time()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        for at, node in enumerate(NODES):
            self.register(node, at)
        threading.Thread(target=self._run, daemon=True).start()

    def register(self, node: str, at: int) -> None:
        underlay = IPv4Address("10.0.0.1") + at
        spec = NodeSpec(
            id=node,
            underlay=underlay,
            metrics=f"127.0.0.1:{self._server.server_port}",
            labels={"zone": f"z{at // 2}"},
        )
        self.client.registry.register_node(spec, Alive(underlay=underlay, since=1.0))

    def die(self, node: str) -> None:
        """Its session ends, as far as others see."""
        self.client.delete(f"nodes/{node}/alive")

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

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
            health=() if self.is_ready else ("starting",),
            hosts_seen=SEEN_ALL,
            connections=self.connections if is_master and pair.state is PairState.DRAINING else None,
            at=time.time(),
        )
        suffix = member_status_suffix(pair.subnet, pair.id, node)
        self.client.presence.want(suffix, encode(status))

    def _text(self) -> str:
        lines = []
        for pair in self.client.mirror.snapshot.all_pairs():
            labels = f'{{subnet="{pair.subnet}",pair="{pair.id}"}}'
            values = {
                Series.MASTER: 1,
                Series.SINCE: self._began,
                Series.CLOCK: time.time() - self._began,
                Series.AGE: 0.1,
                Series.CONNTRACK: self.entries,
                Series.CONNTRACK_LIMIT: LIMIT,
            }
            lines += [f"{series}{labels} {value}" for series, value in values.items()]
        return "\n".join([*lines, ""])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        nodes = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = nodes._text().encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class' name
                return

        return Handler


class Controller:
    """A process."""

    def __init__(self, server: ZooKeeperServer, pool: str, directory: Path, name: str, port: int) -> None:
        self.log = directory / f"{name}.log"
        self.port = port
        config = directory / f"{name}.toml"
        config.write_text(
            f'pool = "{pool}"\nrun_dir = "{directory}"\n'
            f'[zookeeper]\nhosts = ["{server.address}"]\nsession_timeout_s = 1.0\n'
            f'[controller]\nname = "{name}"\ninterval_s = 0.3\ndead_after_s = 10\n'
            f'[metrics]\nlisten = "127.0.0.1:{port}"\n'
        )
        self._command = [sys.executable, "-m", "proxypool", "run", "controller", "--config", str(config)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Controller:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
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
