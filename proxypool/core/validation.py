"""What the documents of a pool must be beside each other: whether one more can be let in. Pure.

Each check raises `InvalidInput` with a sentence that says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.errors import InvalidInput
from proxypool.core.model import MAX_WEIGHT, MemberSpec, PairSpec, PoolSpec, Snapshot, SubnetSpec

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?")
"""As `model.Name`, for whoever has a name and no document."""
NAME_RULE = "1-40 characters, lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
PAIR_SIZE = 2
"""Members of a pair: a master and a backup."""


def require_name(kind: str, name: str) -> None:
    """Refuse a name that cannot be a path component, a file name and a metric label.

    Raises:
        InvalidInput: the name breaks the rule.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidInput(f"{kind} name {name!r} is not valid: {NAME_RULE}")


def require_two_nodes(pair: PairSpec, what: str) -> None:
    """Refuse a pair, read from `what`, that is none.

    Raises:
        InvalidInput: it has not two members on two nodes.
    """
    if len(pair.members) != PAIR_SIZE or len({member.node for member in pair.members}) != PAIR_SIZE:
        raise InvalidInput(f"{what} does not have two members on two nodes")


def require_weight(weight: int) -> None:
    """Refuse a weight that a pair cannot have.

    Raises:
        InvalidInput: it is out of range.
    """
    if not 1 <= weight <= MAX_WEIGHT:
        raise InvalidInput(f"weight {weight} is out of range: choose 1 to {MAX_WEIGHT}")


def validate_pool(spec: PoolSpec, subnets: Iterable[SubnetSpec]) -> None:
    """A tunnel range must not collide with any customer's CIDR.

    Raises:
        InvalidInput: it does, or it is too small.
    """
    if spec.tunnel_range.prefixlen > 30:  # noqa: PLR2004 - a /30 has two usable addresses
        raise InvalidInput(f"tunnel range {spec.tunnel_range} is too small: use /30 or larger")
    for subnet in subnets:
        _require_outside_tunnel_range(subnet, spec)


def _require_outside_tunnel_range(subnet: SubnetSpec, spec: PoolSpec) -> None:
    for cidr in subnet.cidrs:
        if cidr.overlaps(spec.tunnel_range):
            raise InvalidInput(
                f"CIDR {cidr} of subnet {subnet.id} overlaps the pool's tunnel range {spec.tunnel_range}: "
                "choose another range with `proxypool pool init --tunnel-range`"
            )


def validate_subnet(new: SubnetSpec, spec: PoolSpec, subnets: Iterable[SubnetSpec]) -> None:
    """Check a subnet against the pool.

    Raises:
        InvalidInput: no CIDR, a CIDR that overlaps another of the same tenant or the tunnel range, a key in use.
    """
    require_name("subnet", new.id)
    require_name("tenant", new.tenant)
    if not new.cidrs:
        raise InvalidInput(f"subnet {new.id} has no CIDR: give at least one with --cidr")
    _require_outside_tunnel_range(new, spec)
    for index, cidr in enumerate(new.cidrs):
        if cidr.prefixlen == 0 or cidr.is_multicast or cidr.is_loopback or cidr.is_link_local:
            raise InvalidInput(f"CIDR {cidr} of subnet {new.id} cannot be a customer's subnet")
        for other in new.cidrs[index + 1 :]:
            if cidr.overlaps(other):
                raise InvalidInput(f"CIDRs {cidr} and {other} of subnet {new.id} overlap: give one of them")
    for subnet in subnets:
        if subnet.id != new.id:
            _require_subnets_apart(new, subnet)


def _require_subnets_apart(new: SubnetSpec, other: SubnetSpec) -> None:
    if other.key == new.key:
        raise InvalidInput(f"tunnel key {new.key} is used by subnet {other.id}: choose another or leave --key out")
    if other.tenant != new.tenant:
        return
    for cidr in new.cidrs:
        for theirs in other.cidrs:
            if cidr.overlaps(theirs):
                raise InvalidInput(
                    f"CIDR {cidr} overlaps {theirs} of subnet {other.id}, which belongs to the same tenant "
                    f"{new.tenant!r}: use another CIDR, or another --tenant if it is another customer"
                )


def validate_pair(new: PairSpec, snapshot: Snapshot) -> None:
    """Check a pair against the pool.

    Raises:
        InvalidInput: unknown subnet, not two different nodes, a HaVip, VRID or ENI in use, addresses that do not fit.
    """
    require_name("pair", new.id)
    subnet = snapshot.subnets.get(new.subnet)
    if subnet is None:
        raise InvalidInput(f"there is no subnet {new.subnet}: add it first with `proxypool subnet add {new.subnet}`")
    nodes = [member.node for member in new.members]
    if len(nodes) != PAIR_SIZE or len(set(nodes)) != PAIR_SIZE:
        raise InvalidInput(f"pair {new.id} needs two members on two different nodes, not {nodes}")
    _require_free_havip(new, snapshot)
    for member in new.members:
        _require_member_fits(member, new, subnet)
    first, second = new.members
    if first.address.ip == second.address.ip:
        raise InvalidInput(
            f"{first.node} and {second.node} have the same address {first.address.ip}: each ENI has its own"
        )
    _require_egress_fits(new)
    tenants = {other.id for other in snapshot.subnets.values() if other.tenant == subnet.tenant}
    for pair in _in_its_way(new, tenants, snapshot):
        _require_apart(new, pair)
        if pair.subnet in tenants:
            _require_egress_apart(new, pair)


def _in_its_way(new: PairSpec, tenants: set[str], snapshot: Snapshot) -> Iterator[PairSpec]:
    """Other pairs that share a tenant, the HaVip or a node with it, some of them twice. Of ten thousand most do not,
    and the closer look at all of them took 20 ms.
    """
    nodes = {member.node for member in new.members}
    near = [pair for pair in snapshot.all_pairs() if pair.subnet in tenants or pair.havip == new.havip]
    near += [pair for pair in snapshot.all_pairs() for member in pair.members if member.node in nodes]
    return (pair for pair in near if (pair.subnet, pair.id) != (new.subnet, new.id))


def _require_free_havip(new: PairSpec, snapshot: Snapshot) -> None:
    if snapshot.spec is not None and new.havip in snapshot.spec.tunnel_range:
        raise InvalidInput(
            f"HaVip {new.havip} is in the range of the hosts' tunnel addresses, {snapshot.spec.tunnel_range}: "
            "choose a free address of the function network"
        )
    for node in snapshot.nodes.values():
        if node.underlay == new.havip:
            raise InvalidInput(f"HaVip {new.havip} is the underlay address of node {node.id}: choose a free address")
    for host in snapshot.hosts.values():
        if host.underlay == new.havip:
            raise InvalidInput(f"HaVip {new.havip} is the underlay address of host {host.id}: choose a free address")


def _require_member_fits(member: MemberSpec, pair: PairSpec, subnet: SubnetSpec) -> None:
    require_name("node", member.node)
    onlink = member.address.network
    if member.address.ip in _reserved(onlink):
        raise InvalidInput(f"address {member.address} of node {member.node} is not a host address")
    if member.gateway is not None and member.gateway not in onlink:
        raise InvalidInput(f"gateway {member.gateway} of node {member.node} is outside {onlink}")
    if pair.probe is not None and not any(pair.probe in network for network in (onlink, *subnet.cidrs)):
        raise InvalidInput(
            f"probe target {pair.probe} is neither on the ENI's network {onlink} of node {member.node} nor in a CIDR "
            f"of subnet {subnet.id}: no route leads there"
        )
    if pair.probe is not None and pair.probe == member.address.ip:
        raise InvalidInput(f"probe target {pair.probe} is the address of node {member.node}: it would ask itself")
    for cidr in subnet.cidrs:
        if member.gateway is None and not cidr.subnet_of(onlink):
            raise InvalidInput(
                f"CIDR {cidr} of subnet {subnet.id} is not on the ENI's own network {onlink}: "
                f"give the member {member.node} a gateway=ADDRESS"
            )
    if pair.egress_address is not None and pair.egress_address not in onlink:
        raise InvalidInput(f"egress address {pair.egress_address} is outside the ENI's network {onlink}")
    if pair.egress_address is not None and pair.egress_address in _reserved(onlink):
        raise InvalidInput(f"egress address {pair.egress_address} is not a host address of {onlink}")


def _reserved(network: IPv4Network) -> tuple[IPv4Address, ...]:
    """Addresses of a network that are no host's: none of a /32, nor of a /31 (RFC 3021)."""
    return () if network.prefixlen > 30 else (network.network_address, network.broadcast_address)  # noqa: PLR2004


def _require_egress_fits(pair: PairSpec) -> None:
    egress = pair.egress_address
    if egress is None:
        return
    for member in pair.members:
        if egress == member.address.ip:
            raise InvalidInput(f"egress address {egress} is the address of node {member.node}'s ENI: choose a free one")
        if egress == member.gateway:
            raise InvalidInput(f"egress address {egress} is the gateway of node {member.node}: choose a free one")
    networks = {member.address.network for member in pair.members}
    if len(networks) > 1:
        raise InvalidInput(
            f"pair {pair.id} has an egress address, so both ENIs must be on one network, not on "
            + " and ".join(sorted(map(str, networks)))
        )


def _require_egress_apart(new: PairSpec, other: PairSpec) -> None:
    """Pairs of one tenant may have their ENIs in one network; another tenant's addresses are another network's."""
    where = f"pair {other.subnet}/{other.id}"
    if new.egress_address is not None and new.egress_address == other.egress_address:
        raise InvalidInput(f"egress address {new.egress_address} is in use by {where}: choose a free address")
    for one, another in ((new, other), (other, new)):
        taken = {member.address.ip for member in another.members}
        if one.egress_address in taken:
            raise InvalidInput(
                f"{one.egress_address} is the egress address of pair {one.subnet}/{one.id} and the address of an ENI "
                f"of pair {another.subnet}/{another.id}: choose a free address"
            )


def _require_apart(new: PairSpec, other: PairSpec) -> None:
    where = f"pair {other.subnet}/{other.id}"
    if other.havip == new.havip:
        raise InvalidInput(f"HaVip {new.havip} is in use by {where}: choose a free address")
    if other.subnet == new.subnet:
        taken = {member.address.ip: member.node for member in other.members}
        for member in new.members:
            if member.address.ip in taken and taken[member.address.ip] != member.node:
                raise InvalidInput(f"address {member.address.ip} of node {member.node} is in use by {where}")
    for member in new.members:
        theirs = other.member(member.node)
        if theirs is None:
            continue
        if other.subnet == new.subnet:
            raise InvalidInput(f"node {member.node} already serves subnet {new.subnet} in {where}: choose another node")
        if theirs.eni.lower() == member.eni.lower():
            raise InvalidInput(f"ENI {member.eni} of node {member.node} is in use by {where}: choose another")
        if other.vrid == new.vrid:
            raise InvalidInput(f"VRRP id {new.vrid} is in use on node {member.node} by {where}: leave --vrid out")
