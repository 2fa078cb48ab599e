"""Who is told of what: how many watches each reader of the pool sets, and how many of them a change sets off.

The readers are the product's mirrors in this process, one of each kind: the controller's, of a node that is in the pair
that changes, of a node that is not, and of a host. The pool's total is theirs, multiplied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from bench.big_pool import (
    PAIRS,
    SUBNETS_PER_HOST,
    Size,
    host_name,
    host_spec,
    node_address,
    node_name,
    pairs_of,
    subnet_name,
    subnet_spec,
)
from bench.ensemble import Ensemble
from bench.report import Report
from bench.settings import Settings
from proxypool.adapters.zookeeper import PoolMirror, PoolSession, host_alive_suffix, member_status_suffix
from proxypool.adapters.zookeeper.layout import (
    Extent,
    election_suffix,
    host_suffix,
    node_alive_suffix,
    pair_suffix,
    subnet_suffix,
)
from proxypool.adapters.zookeeper.writing import Create, SetData, Write, write_all
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.documents import encode
from proxypool.core.model import Alive, MemberStatus
from proxypool.core.scaling.model import ScalingMode
from proxypool.lab.errors import LabError

SESSION_S = 60.0
LOAD_WITHIN_S = 120.0
CALM_S = 0.5
CONTROLLER, INSIDE, OUTSIDE, HOST = "controller", "node of the subnet", "other node", "host"


class Reader(PoolMirror):
    """A mirror that counts what it is told."""

    told = 0

    def _on_event(self, event: Any) -> None:
        self.told += 1
        super()._on_event(event)


@dataclass(frozen=True)
class Loaded:
    """A reader that has read the pool."""

    session: PoolSession
    mirror: Reader
    took_s: float
    watches: float

    def end(self) -> None:
        """And its watches go."""
        self.mirror.stop()
        self.session.stop(close_session=True)


def measure(report: Report, settings: Settings, zookeeper: Ensemble, writer: PoolSession, size: Size) -> None:
    """Rows and notes."""
    pair = pairs_of(size)[0][0]
    outside = node_name(next(n for n in range(size.nodes) if not _serves(node_name(n), size)))
    options: Mapping[str, Mapping[str, Any]] = {
        CONTROLLER: {"extent": Extent.PLACING},
        INSIDE: {"node": pair.members[0].node},
        OUTSIDE: {"node": outside},
        HOST: {"host": host_name(0)},
    }
    readers: dict[str, Loaded] = {}
    try:
        for name, option in options.items():
            readers[name] = _load(zookeeper, writer.layout.pool, option)
            one = readers[name]
            settings.progress(f"{name}: read the pool in {one.took_s:.1f} s, {one.watches:.0f} watches")
        _say_watches(report, size, readers)
        _say_changes(report, size, readers, writer)
    finally:
        for one in readers.values():
            one.end()


def _serves(node: str, size: Size) -> bool:
    return any(pair.member(node) for pair in pairs_of(size)[0])


def _load(zookeeper: Ensemble, pool: str, option: Mapping[str, Any]) -> Loaded:
    before = zookeeper.figure("zk_watch_count")
    session = PoolSession(ZooKeeperConfig(hosts=zookeeper.addresses, session_timeout_s=SESSION_S), pool)
    session.connect(SESSION_S)
    mirror = Reader(session, lambda _: None, **option)
    began = time.monotonic()
    mirror.start()
    if not mirror.loaded.wait(LOAD_WITHIN_S):
        raise LabError("a mirror does not read the pool")
    took_s = time.monotonic() - began
    return Loaded(session, mirror, took_s, zookeeper.figure("zk_watch_count") - before)


def _say_watches(report: Report, size: Size, readers: Mapping[str, Loaded]) -> None:
    for name, one in readers.items():
        report.limit(f"watches of one {name}", "", [one.watches], None)
        report.limit(f"one {name} reads the pool, alone", "s", [one.took_s], None)
    of_nodes, of_hosts = size.nodes * readers[OUTSIDE].watches, size.hosts * readers[HOST].watches
    report.limit(f"watches of {size.nodes} nodes, multiplied", "million", [of_nodes / 1e6], None)
    report.limit(f"watches of {size.hosts} hosts, multiplied", "million", [of_hosts / 1e6], None)


def _say_changes(report: Report, size: Size, readers: Mapping[str, Loaded], writer: PoolSession) -> None:
    inside = min(2 * PAIRS, size.nodes)
    counts = {CONTROLLER: 1, INSIDE: inside, OUTSIDE: size.nodes - inside, HOST: size.hosts}
    for what, write in _changes(writer, size).items():
        time.sleep(CALM_S)
        before = {name: one.mirror.told for name, one in readers.items()}
        for outcome in write_all(writer, write()):
            if isinstance(outcome, Exception):
                raise LabError(f"{what}: {type(outcome).__name__}")
        time.sleep(CALM_S)
        told = {name: one.mirror.told - before[name] for name, one in readers.items()}
        total = sum(counts[name] * each for name, each in told.items())
        report.limit(f"notifications in the pool: {what}", "", [float(total)], None)
        report.notes.append(f"{what}: " + ", ".join(f"{each} for {name}" for name, each in told.items()))
    report.notes.append(
        f"multiplied with 1 controller, {inside} nodes of the subnet, {counts[OUTSIDE]} other nodes and {size.hosts} "
        f"hosts of {SUBNETS_PER_HOST} subnets each"
    )


def _changes(writer: PoolSession, size: Size) -> Mapping[str, Callable[[], list[Write]]]:
    path = writer.layout.path
    pair, name = pairs_of(size)[0][0], subnet_name(0)
    node, host = node_name(size.nodes // 3), host_name(1)
    new_pair = replace(pair, id="p9", havip=pair.havip + 3)
    new_host = replace(host_spec(size.hosts), id=host_name(size.hosts))
    alive = Alive(underlay=node_address(size.nodes // 3), at=time.time())
    host_alive = Alive(underlay=host_spec(1).underlay, at=time.time())
    status = MemberStatus(node=pair.members[0].node, role="master", vrrp="master", gate=True, has_havip=True)
    subnet = replace(subnet_spec(0, ScalingMode.OBSERVE), labels={"changed": "yes"})
    at_new = path(pair_suffix(name, "p9"))
    return {
        "a subnet's document changes": lambda: [SetData(path(subnet_suffix(name)), encode(subnet))],
        "a pair's document changes": lambda: [
            SetData(path(pair_suffix(name, pair.id)), encode(replace(pair, weight=2)))
        ],
        "a pair comes": lambda: [
            Create(at_new, encode(new_pair)),
            *(Create(f"{at_new}/{each}") for each in ("election", "status")),
        ],
        "a candidate comes": lambda: [
            Create(
                path(f"{election_suffix(name, pair.id)}/{pair.members[0].node}-"), is_ephemeral=True, is_sequential=True
            )
        ],
        "a host registers": lambda: [
            Create(path(host_suffix(new_host.id)), encode(new_host)),
            Create(path(host_alive_suffix(new_host.id)), encode(alive), is_ephemeral=True),
        ],
        "a host joins a subnet": lambda: [Create(path(f"{subnet_suffix(name)}/hosts/{new_host.id}"))],
        "a node's beat, every 5 s": lambda: [SetData(path(node_alive_suffix(node)), encode(alive))],
        "a host's beat, every minute": lambda: [SetData(path(host_alive_suffix(host)), encode(host_alive))],
        "a member's status, every 5 s": lambda: [
            SetData(path(member_status_suffix(name, pair.id, status.node)), encode(status))
        ],
        "the controller's report": lambda: [SetData(path("controller/report"), b"{}")],
    }
