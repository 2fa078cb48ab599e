"""A thousand node daemons and twenty thousand host agents that are not there: what they write, from a few sessions.

python -m bench.crowd SERVERS POOL SUBNETS NODES HOSTS; one command a line on stdin, one JSON document each on stdout:

appear              all of them live: proofs of life, candidates, statuses → {"ephemerals": …, "took_s": …}
overload COUNT      the first subnets carry more than their pairs can; their new pairs get members → {"subnets": …}
work SECONDS        what all of them write when the pool carries traffic → {"writes": …, "took_s": …}

Proofs of life, candidates and statuses go through `Presence`, as the daemons' do. Not simulated: their mirrors (each
would read the whole pool), their sessions (eight instead of 21,000), the registration of one machine at a time.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import msgspec

from bench.big_pool import Size, host_name, host_spec, node_address, node_name, pairs_of, subnet_name
from bench.node_pages import Member, Pages
from proxypool.adapters.zookeeper import PoolSession, Presence, host_alive_suffix, member_status_suffix
from proxypool.adapters.zookeeper.layout import node_alive_suffix, pair_suffix, subnet_suffix
from proxypool.adapters.zookeeper.reading import read_children, read_nodes
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.documents import decode, encode
from proxypool.core.model import Alive, MemberStatus, PairSpec
from proxypool.daemons.host_registration import BEAT_S as HOST_BEAT_S
from proxypool.daemons.node_registration import BEAT_S as NODE_BEAT_S
from proxypool.daemons.publisher import NUMBERS_INTERVAL_S

SESSIONS, SESSION_S = 8, 60.0
NODES_TOGETHER, HOSTS_TOGETHER = 25, 500
"""So many share a `Presence`."""
TICK_S = 0.1
LOOK_S = 0.2
SEEN_ALL = 1 << 60
USUAL, TOO_MUCH, OF_NEW_PAIRS = 0.42, 1.2, 0.3
"""How full the pairs of most subnets are, of those that are overloaded, and of pairs that have come since."""
SETTLE_WITHIN_S = 240.0


class Crowd:
    """See the module's text."""

    def __init__(self, servers: Sequence[str], pool: str, size: Size, pages: Pages) -> None:
        self._size, self._pages = size, pages
        config = ZooKeeperConfig(hosts=tuple(servers), session_timeout_s=SESSION_S)
        self._sessions = [PoolSession(config, pool) for _ in range(SESSIONS)]
        for session in self._sessions:
            session.connect(SESSION_S)
        node_groups, host_groups = -(-size.nodes // NODES_TOGETHER), -(-size.hosts // HOSTS_TOGETHER)
        self._of_nodes = [self._presence(at) for at in range(node_groups)]
        self._of_hosts = [self._presence(at) for at in range(host_groups)]
        self._number = {node_name(number): number for number in range(size.nodes)}
        self._members: dict[int, list[tuple[PairSpec, bool]]] = defaultdict(list)
        """Node -> its pairs, and whether it is master there."""
        self._known: set[tuple[str, str]] = set()
        for pairs in pairs_of(size).values():
            for pair in pairs:
                self._take(pair, USUAL)
        self._began = time.time()

    def _presence(self, number: int) -> Presence:
        return Presence(self._sessions[number % SESSIONS])

    def _take(self, pair: PairSpec, fullness: float) -> None:
        self._known.add((pair.subnet, pair.id))
        for at, spec in enumerate(pair.members):
            number, is_master = self._number[spec.node], at == 0
            self._members[number].append((pair, is_master))
            self._pages.serve(number, Member(pair.subnet, pair.id, is_master, fullness))

    def appear(self) -> dict[str, float]:
        """All of them."""
        began = time.monotonic()
        for number in range(self._size.nodes):
            self._beat_of_node(number)
            for pair, is_master in self._members[number]:
                self._stand(number, pair, is_master=is_master)
        for number in range(self._size.hosts):
            self._beat_of_host(number)
        # Each knows all that it is to do before it begins.
        for presence in (*self._of_nodes, *self._of_hosts):
            presence.start()
        self._settle()
        count = self._size.nodes + self._size.hosts + 2 * sum(map(len, self._members.values()))
        return {"ephemerals": count, "took_s": time.monotonic() - began}

    def _stand(self, number: int, pair: PairSpec, *, is_master: bool) -> None:
        presence = self._of_nodes[number // NODES_TOGETHER]
        presence.contend(pair.subnet, pair.id, node_name(number))
        self._publish(number, pair, is_master=is_master)

    def _publish(self, number: int, pair: PairSpec, *, is_master: bool) -> None:
        now, name = time.time(), node_name(number)
        role = "master" if is_master else "backup"
        traffic = int((now - self._began) * 1e6) if is_master else 0
        status = MemberStatus(
            node=name,
            role=role,
            vrrp=role,
            gate=is_master,
            has_havip=is_master,
            epoch=1,
            conntrack=int(USUAL * 262_144) if is_master else 0,
            conntrack_limit=262_144,
            rx_bytes=traffic,
            tx_bytes=traffic,
            rx_packets=traffic // 700,
            tx_packets=traffic // 700,
            rx_bytes_per_s=1e6,
            tx_bytes_per_s=1e6,
            packets_per_s=2800.0,
            since=self._began,
            at=now,
            hosts_seen=SEEN_ALL,
        )
        suffix = member_status_suffix(pair.subnet, pair.id, name)
        self._of_nodes[number // NODES_TOGETHER].want(suffix, encode(status))

    def _beat_of_node(self, number: int) -> None:
        alive = Alive(underlay=node_address(number), version="0.0.0", since=1.0, at=time.time())
        self._of_nodes[number // NODES_TOGETHER].want(node_alive_suffix(node_name(number)), encode(alive))

    def _beat_of_host(self, number: int) -> None:
        underlay = host_spec(number).underlay
        alive = Alive(underlay=underlay, version="0.0.0", since=1.0, at=time.time(), attachments=20)
        self._of_hosts[number // HOSTS_TOGETHER].want(host_alive_suffix(host_name(number)), encode(alive))

    def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_WITHIN_S
        for presence in (*self._of_nodes, *self._of_hosts):
            while not presence.is_settled:
                if time.monotonic() > deadline:
                    raise TimeoutError("what the daemons publish is not there")
                time.sleep(0.01)

    def work(self, seconds: int) -> dict[str, float]:
        """Beats and statuses as often as real daemons publish them while traffic flows: of masters only, as the numbers
        of a backup do not change.
        """
        began, writes, tick = time.monotonic(), 0, 0
        while time.monotonic() < began + seconds:
            for write in self._tick(tick):
                write()
                writes += 1
            tick += 1
            time.sleep(max(0.0, began + tick * TICK_S - time.monotonic()))
        asked_s = time.monotonic() - began
        self._settle()
        return {"writes": writes, "ticks": tick, "asked_s": asked_s, "took_s": time.monotonic() - began}

    def _tick(self, tick: int) -> Iterator[Callable[[], None]]:
        for number in _due(tick, self._size.nodes, NODE_BEAT_S):
            yield partial(self._beat_of_node, number)
        for number in _due(tick, self._size.nodes, NUMBERS_INTERVAL_S):
            for pair, is_master in self._members[number]:
                if is_master:
                    yield partial(self._publish, number, pair, is_master=True)
        for number in _due(tick, self._size.hosts, HOST_BEAT_S):
            yield partial(self._beat_of_host, number)

    def overload(self, count: int) -> dict[str, float]:
        """From now on; pairs that come there get their members, on a thread of its own."""
        names = [subnet_name(number) for number in range(count)]
        for pages in self._pages.members.values():
            for at, member in enumerate(pages):
                if member.subnet in names:
                    pages[at] = replace(member, fullness=TOO_MUCH)
        threading.Thread(target=self._staff, args=(names,), daemon=True).start()
        return {"subnets": count}

    def _staff(self, names: Sequence[str]) -> None:
        session = self._sessions[0]
        places = [session.layout.path(f"{subnet_suffix(name)}/pairs") for name in names]
        while True:
            lists = zip(names, read_children(session, places), strict=True)
            new = [(name, pair) for name, pairs in lists for pair in pairs or () if (name, pair) not in self._known]
            paths = [session.layout.path(pair_suffix(name, pair)) for name, pair in new]
            for path, node in zip(paths, read_nodes(session, paths), strict=True):
                if node is not None:
                    self._staff_one(decode(node.data, PairSpec, what=path))
            time.sleep(LOOK_S)

    def _staff_one(self, pair: PairSpec) -> None:
        self._take(pair, OF_NEW_PAIRS)
        for at, spec in enumerate(pair.members):
            self._stand(self._number[spec.node], pair, is_master=at == 0)


def _due(tick: int, count: int, period_s: float) -> range:
    """Whose turn it is in this tick: everybody once in a period, evenly spread."""
    ticks = round(period_s / TICK_S)
    at = tick % ticks
    return range(count * at // ticks, count * (at + 1) // ticks)


def main() -> None:
    """Until stdin ends."""
    # Ctrl-C reaches all of a terminal's processes; whoever started us ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    servers, pool, subnets, nodes, hosts = sys.argv[1:]
    size = Size(int(subnets), int(nodes), int(hosts))
    pages = Pages()
    crowd = Crowd(servers.split(","), pool, size, pages)
    pages.start()
    print(json.dumps({"port": pages.port}), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["appear"]:
                done = crowd.appear()
            case ["overload", count]:
                done = crowd.overload(int(count))
            case ["work", seconds]:
                done = crowd.work(int(seconds))
            case _:
                raise SystemExit(f"no command {line.strip()!r}")
        print(msgspec.json.encode(done).decode(), flush=True)


if __name__ == "__main__":
    main()
