"""Pools as hypothesis draws them: valid documents, as the operators' commands would have accepted them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from hypothesis import strategies as st

from proxypool.core.attachments import Rules
from proxypool.core.host_scene import HostFacts
from proxypool.core.model import (
    HostSpec,
    MemberSpec,
    NodeSpec,
    PairSpec,
    PairState,
    PoolSpec,
    Snapshot,
    SubnetSpec,
    TunnelKind,
)
from proxypool.core.node_scene import NodeFacts
from proxypool.core.steering import Group, MarkLayout

NODES = tuple(NodeSpec(id=f"n{i}", underlay=IPv4Address(f"192.168.4.{i}")) for i in range(1, 5))
NAMES = ("s1", "s1-a", "a", "a-p1", "s1.p1", "z")
"""Names that could collide where parts are joined."""
CIDRS = (
    (IPv4Network("172.16.101.0/24"),),
    (IPv4Network("172.16.101.0/24"), IPv4Network("10.8.0.0/16")),
    (IPv4Network("10.9.0.0/16"), IPv4Network("10.8.0.0/16"), IPv4Network("172.16.101.0/25")),
)
FACTS = NodeFacts("n1", IPv4Address("192.168.4.1"), 1500, ((IPv4Address("192.168.4.50"), 2181),))
HOST_FACTS = HostFacts(
    "h1",
    IPv4Address("192.168.80.1"),
    1500,
    IPv4Address("100.64.0.1"),
    (IPv4Network("10.244.1.0/24"), IPv4Network("10.244.2.0/24")),
    MarkLayout(16),
)

hosts = st.sets(st.integers(1, 5), max_size=4).map(
    lambda numbers: tuple(
        HostSpec(
            id=f"h{number}",
            underlay=IPv4Address(f"192.168.80.{number}"),
            tunnel_address=IPv4Address(f"100.64.0.{number}"),
        )
        for number in numbers
    )
)


@st.composite
def pools(draw: st.DrawFn) -> Snapshot:
    """A pool of some subnets, each of another tenant, with a pair or none, and some hosts."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    every_host = draw(hosts)
    subnets = [
        SubnetSpec(id=name, cidrs=draw(st.sampled_from(CIDRS)), key=number, tenant=f"t{number}")
        for number, name in enumerate(names, 1)
    ]
    pairs = {subnet.id: {pair.id: pair for pair in draw(pairs_of(subnet))} for subnet in subnets}
    users = {name: frozenset(host.id for host in every_host if draw(st.booleans())) for name in names}
    return Snapshot(
        spec=PoolSpec(tunnel=draw(st.sampled_from(TunnelKind))),
        subnets={subnet.id: subnet for subnet in subnets},
        pairs=pairs,
        nodes={node.id: node for node in NODES},
        hosts={host.id: host for host in every_host},
        subnet_hosts=users,
    )


@st.composite
def pairs_of(draw: st.DrawFn, subnet: SubnetSpec) -> list[PairSpec]:
    """None, one or two pairs, on different nodes."""
    return [
        PairSpec(
            id=name,
            subnet=subnet.id,
            members=tuple(
                MemberSpec(
                    node=node,
                    eni=draw(st.sampled_from((f"eth{subnet.key}", f"eth{subnet.key + 10}"))),
                    address=IPv4Interface(f"172.16.101.{draw(st.integers(10, 12)) + index * 10 + number * 20}/24"),
                    gateway=IPv4Address("172.16.101.1"),
                )
                for index, node in enumerate(nodes)
            ),
            havip=IPv4Address(f"192.168.5.{subnet.key * 10 + number}"),
            vrid=subnet.key * 2 + number,
            state=draw(st.sampled_from(PairState)),
            egress_address=draw(
                st.sampled_from((None, *(IPv4Address(f"172.16.101.{200 + 10 * number + n}") for n in (1, 2))))
            ),
        )
        for number, (name, nodes) in enumerate((("p1", ("n1", "n2")), ("a-p1", ("n3", "n4"))))
        if draw(st.booleans())
    ]


def groups_of(pool: Snapshot) -> tuple[Group, ...]:
    """Groups that a host of this pool may have in use: each subnet alone, and all that fit together."""
    everything, _ = Rules(HOST_FACTS.instance_cidrs, pool.subnets).everything()
    alone: list[Group] = [(name,) for name in sorted(pool.subnets)]
    return (*alone, everything) if len(everything) > 1 else tuple(alone)
