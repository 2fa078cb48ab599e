"""The documents of a large pool that is not there: 5,000 subnets, 10,000 pairs, 1,000 nodes, 20,000 hosts.

Written as the store and the daemons write them, by the same codec, in as few transactions as go. Each subnet has its
pairs on different nodes of different zones; each host uses some subnets; each subnet has spares for two pairs more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from proxypool.adapters.zookeeper import PoolSession, PoolStore
from proxypool.adapters.zookeeper.changes import PAIR_CONTAINERS, creation
from proxypool.adapters.zookeeper.layout import host_suffix, node_suffix, pair_suffix, spares_suffix, subnet_suffix
from proxypool.adapters.zookeeper.registry import TUNNEL_ADDRESSES
from proxypool.adapters.zookeeper.writing import Create, SetData, Write, commit
from proxypool.core.documents import encode
from proxypool.core.model import HostSpec, MemberSpec, NodeSpec, PairSpec, SubnetSpec, TunnelKind
from proxypool.core.requests import PoolRequest
from proxypool.core.scaling.documents import Spares
from proxypool.core.scaling.model import ScalingMode, ScalingSpec

PAIRS, ZONES, SUBNETS_PER_HOST = 2, 4, 5
"""Pairs a subnet has; zones that nodes are in; subnets that a host uses."""
MOST_PAIRS = 4
BATCH, AT_ONCE = 500, 6
"""Writes in a transaction, and transactions under way."""
VERSION = "0.0.0"
_CIDRS, _HAVIPS, _NODES, _HOSTS, _TUNNELS = (
    int(IPv4Address(first)) for first in ("10.0.0.0", "172.16.0.0", "127.64.0.1", "192.168.0.1", "100.64.0.1")
)
_PAIR_CARDS, _SPARE_CARDS = 11, 31
"""Last bytes of the cards' first addresses."""


@dataclass(frozen=True)
class Size:
    """Of a pool."""

    subnets: int
    nodes: int
    hosts: int

    @property
    def pairs(self) -> int:
        """Of all subnets."""
        return self.subnets * PAIRS


FULL = Size(subnets=5000, nodes=1000, hosts=20_000)
SMALL = Size(subnets=250, nodes=48, hosts=1000)


def subnet_name(number: int) -> str:
    """Of a subnet; numbers count from 0."""
    return f"subnet-{number:05}"


def node_name(number: int) -> str:
    """Of a node."""
    return f"node-{number:04}"


def host_name(number: int) -> str:
    """Of a host."""
    return f"host-{number:05}"


def node_address(number: int) -> IPv4Address:
    """Of the loopback: each simulated node has an address of its own, and its metrics are asked for there."""
    return IPv4Address(_NODES + number)


def node_spec(number: int, size: Size, port: int) -> NodeSpec:
    """A node whose metrics are served at `port` of its address."""
    labels = {"zone": f"zone-{number * ZONES // size.nodes}"}
    address = node_address(number)
    return NodeSpec(id=node_name(number), underlay=address, metrics=f"{address}:{port}", version=VERSION, labels=labels)


def host_spec(number: int) -> HostSpec:
    """A host."""
    underlay, tunnel = IPv4Address(_HOSTS + number), IPv4Address(_TUNNELS + number)
    return HostSpec(
        id=host_name(number), underlay=underlay, tunnel_address=tunnel, metrics=f"{underlay}:9478", version=VERSION
    )


def subnet_spec(number: int, mode: ScalingMode) -> SubnetSpec:
    """A subnet with a CIDR of its own."""
    cidr = IPv4Network((_CIDRS + number * 256, 24))
    scaling = ScalingSpec(min_pairs=PAIRS, max_pairs=MOST_PAIRS, mode=mode)
    return SubnetSpec(id=subnet_name(number), cidrs=(cidr,), key=number + 1, tenant=f"t{number // 5}", scaling=scaling)


def hosts_of(number: int, size: Size) -> Iterator[int]:
    """Which hosts use a subnet."""
    places = size.hosts * SUBNETS_PER_HOST
    return iter(sorted({place // SUBNETS_PER_HOST for place in range(number, places, size.subnets)}))


def pairs_of(size: Size) -> dict[int, tuple[PairSpec, ...]]:
    """By subnet; a node is in about as many pairs as any other, with a VRID of its own in each."""
    vrids: dict[int, set[int]] = defaultdict(set)
    found = {}
    for number in range(size.subnets):
        pairs = []
        for at in range(PAIRS):
            nodes = _nodes_of(number * PAIRS + at, size)
            vrid = next(free for free in range(1, 256) if not any(free in vrids[node] for node in nodes))
            for node in nodes:
                vrids[node].add(vrid)
            members = tuple(_card(number, node, _PAIR_CARDS + 2 * at + side) for side, node in enumerate(nodes))
            havip = IPv4Address(_HAVIPS + number * MOST_PAIRS + at)
            pairs.append(PairSpec(id=f"p{at + 1}", subnet=subnet_name(number), members=members, havip=havip, vrid=vrid))
        found[number] = tuple(pairs)
    return found


def _nodes_of(pair: int, size: Size) -> tuple[int, int]:
    first = pair % size.nodes
    return first, (first + size.nodes // 2 + pair // size.nodes) % size.nodes


def _card(subnet: int, node: int, last: int) -> MemberSpec:
    address = IPv4Interface((_CIDRS + subnet * 256 + last, 24))
    return MemberSpec(node=node_name(node), eni=f"eni{subnet}-{last}", address=address)


def _spares(number: int, size: Size) -> Spares:
    """Cards on four nodes that are in no pair of the subnet, and the HaVips of two pairs."""
    first, quarter = number * PAIRS, size.nodes // 4
    nodes = {(first + 3 + quarter * at) % size.nodes for at in range(4)}
    nodes -= {node for at in range(PAIRS) for node in _nodes_of(first + at, size)}
    cards = tuple(_card(number, node, _SPARE_CARDS + at) for at, node in enumerate(sorted(nodes)))
    havips = tuple(IPv4Address(_HAVIPS + number * MOST_PAIRS + at) for at in range(PAIRS, MOST_PAIRS))
    return Spares(members=cards, havips=havips)


def fill(session: PoolSession, size: Size, port: int, mode: ScalingMode) -> int:
    """Make the pool; how many nodes of ZooKeeper it has afterwards, those of the daemons' own not counted."""
    PoolStore(session).init_pool(PoolRequest(tunnel=TunnelKind.VXLAN))
    return _write(session, _creations(session, size, port, mode))


def set_mode(session: PoolSession, size: Size, mode: ScalingMode) -> None:
    """Of all subnets."""
    path = session.layout.path
    _write(
        session,
        (
            [SetData(path(subnet_suffix(subnet_name(number))), encode(subnet_spec(number, mode)))]
            for number in range(size.subnets)
        ),
    )


def _creations(session: PoolSession, size: Size, port: int, mode: ScalingMode) -> Iterator[list[Write]]:
    """What belongs together, and depends on nothing else."""
    path = session.layout.path
    for number in range(size.nodes):
        yield [Create(path(node_suffix(node_name(number))), encode(node_spec(number, size, port)))]
    for number in range(size.hosts):
        spec = host_spec(number)
        yield [
            Create(path(host_suffix(spec.id)), encode(spec)),
            Create(path(f"{TUNNEL_ADDRESSES}/{spec.tunnel_address}"), spec.id.encode()),
        ]
    for number, pairs in pairs_of(size).items():
        at = path(subnet_suffix(subnet_name(number)))
        writes: list[Write] = list(creation(at, encode(subnet_spec(number, mode)), ("pairs", "hosts")))
        writes.append(Create(path(spares_suffix(subnet_name(number))), encode(_spares(number, size))))
        for pair in pairs:
            writes += creation(path(pair_suffix(pair.subnet, pair.id)), encode(pair), PAIR_CONTAINERS)
        yield writes + [Create(f"{at}/hosts/{host_name(host)}") for host in hosts_of(number, size)]


def _write(session: PoolSession, groups: Iterable[list[Write]]) -> int:
    """Transactions of many groups each, some of them at the same time; how many writes there were."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        parts = list(_parts(groups))
        list(threads.map(lambda part: commit(session, part), parts))
        return sum(map(len, parts))


def _parts(groups: Iterable[list[Write]]) -> Iterator[list[Write]]:
    part: list[Write] = []
    for group in groups:
        part += group
        if len(part) >= BATCH:
            yield part
            part = []
    if part:
        yield part
