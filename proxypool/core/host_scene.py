"""What a function host must look like. Pure.

In this version every instance of a host may reach every subnet configured for it; which instance reaches which subnet
(attachments) and which pair a new connection takes will be decided where `steering` is built, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from proxypool.core.addressing import tunnel_device_of
from proxypool.core.firewall import host_clamp, host_rewrite
from proxypool.core.model import PairSpec, PairState, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.scene import (
    GUARD_TABLE,
    WORST_METRIC,
    Address,
    AnyObject,
    PolicyRule,
    Route,
    RouteKind,
    Scene,
    Sysctl,
    Table,
)
from proxypool.core.tunnels import reach, tunnel_of

EVERY_SUBNET = "*"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a function host knows of itself."""

    name: str
    underlay: IPv4Address
    underlay_mtu: int
    tunnel_address: IPv4Address
    instance_cidrs: tuple[IPv4Network, ...]
    subnets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A subnet this host cannot serve, and why."""

    subnet: str
    why: str


def choose_subnets(
    configured: Sequence[str], instance_cidrs: Iterable[IPv4Network], snapshot: Snapshot
) -> tuple[tuple[SubnetSpec, ...], tuple[Refused, ...]]:
    """Subnets to serve, in a stable order; of two that overlap the first by id is served and the other refused."""
    instances = tuple(instance_cidrs)
    chosen: list[SubnetSpec] = []
    refused: list[Refused] = []
    for subnet in sorted(snapshot.subnets.values(), key=lambda subnet: subnet.id):
        if EVERY_SUBNET not in configured and subnet.id not in configured:
            continue
        clash = next((other for other in chosen if _overlap(subnet.cidrs, other.cidrs)), None)
        if clash is not None:
            refused.append(Refused(subnet.id, f"its CIDRs overlap those of {clash.id}, which this host serves too"))
        elif _overlap(subnet.cidrs, instances):
            refused.append(Refused(subnet.id, "its CIDRs overlap the instances' own addresses"))
        else:
            chosen.append(subnet)
    known = {subnet.id for subnet in chosen} | {item.subnet for item in refused}
    refused += [
        Refused(name, "the pool has no such subnet") for name in configured if name not in known | {EVERY_SUBNET}
    ]
    return tuple(chosen), tuple(refused)


def _overlap(left: Iterable[IPv4Network], right: Iterable[IPv4Network]) -> bool:
    others = tuple(right)
    return any(one.overlaps(other) for one in left for other in others)


def host_scene(facts: HostFacts, spec: PoolSpec, snapshot: Snapshot, subnets: Iterable[SubnetSpec]) -> Scene:
    """Tunnels, routes and rewrite of one host; nothing where it serves no subnet."""
    served = tuple(subnets)
    if not served:
        return Scene.of(None, (Table("nat", ()), Table("filter", ())))
    objects: list[AnyObject] = []
    for subnet in served:
        tunnel = tunnel_of(
            spec, subnet, local=facts.underlay, own=facts.tunnel_address, underlay_mtu=facts.underlay_mtu
        )
        objects += [tunnel, Address(tunnel.device, IPv4Interface(facts.tunnel_address))]
        objects.append(Sysctl(f"ipv4/conf/{tunnel.device}/forwarding", "1"))
        objects += steering(spec, subnet, snapshot)
    objects += [PolicyRule(7700, target=GUARD_TABLE, source=cidr) for cidr in sorted(facts.instance_cidrs)]
    objects += [host_rewrite(facts.instance_cidrs, facts.tunnel_address), host_clamp()]
    return Scene.of(None, objects)


def steering(spec: PoolSpec, subnet: SubnetSpec, snapshot: Snapshot) -> Iterable[AnyObject]:
    """Which pair packets to a subnet take: the first active one. Without one they are answered with ICMP unreachable,
    and never follow the host's default route.
    """
    device = tunnel_device_of(subnet.id)
    for cidr in subnet.cidrs:
        yield Route(cidr, RouteKind.UNREACHABLE, table=GUARD_TABLE, metric=WORST_METRIC)
    pairs = sorted(snapshot.pairs.get(subnet.id, {}).values(), key=_preference)
    for pair in pairs:
        yield from reach(spec, device, pair.havip, pair.havip)
    for pair in pairs[:1]:
        for cidr in subnet.cidrs:
            yield Route(cidr, device=device, gateway=pair.havip, is_onlink=True, table=GUARD_TABLE)


def _preference(pair: PairSpec) -> tuple[bool, str]:
    return (pair.state is not PairState.ACTIVE, pair.id)
