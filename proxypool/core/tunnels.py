"""The kinds of tunnel behind one small interface: overhead, device, and what reaches a peer.

GRE (RFC 2784, key by RFC 2890): a multipoint device without a remote; a permanent neighbour's link-layer address is the
peer's underlay address. VXLAN (RFC 7348): a neighbour's link-layer address is a MAC derived from the peer's tunnel
address, and a forwarding entry leads from the MAC to the underlay. IPIP is not offered: see the ADR.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from proxypool.core.addressing import mac_of, tunnel_device_of
from proxypool.core.model import PoolSpec, SubnetSpec, TunnelKind
from proxypool.core.scene import AnyObject, ForwardingEntry, Neighbour, Tunnel

OVERHEAD_BYTES = {TunnelKind.GRE: 28, TunnelKind.VXLAN: 50}
"""Outer IPv4 (20) + GRE with key (8); outer IPv4 (20) + UDP (8) + VXLAN (8) + inner Ethernet (14)."""
KERNEL_MODULE = {TunnelKind.GRE: "ip_gre", TunnelKind.VXLAN: "vxlan"}


def tunnel_of(spec: PoolSpec, subnet: SubnetSpec, local: IPv4Address, own: IPv4Address, underlay_mtu: int) -> Tunnel:
    """This end's device. `local` is the outer source address, `own` the address the peer knows this end by."""
    return device_of(
        spec,
        tunnel_device_of(subnet.id),
        local=local,
        own=own,
        key=subnet.key,
        port=spec.vxlan_port,
        underlay_mtu=underlay_mtu,
    )


def device_of(
    spec: PoolSpec,
    device: str,
    *,
    local: IPv4Address,
    own: IPv4Address,
    key: int,
    port: int | None,
    underlay_mtu: int,
) -> Tunnel:
    """A tunnel device of the pool's kind. `port` is for VXLAN only."""
    is_vxlan = spec.tunnel is TunnelKind.VXLAN
    return Tunnel(
        device=device,
        kind=spec.tunnel.value,
        local=local,
        tunnel_key=key,
        mtu=underlay_mtu - OVERHEAD_BYTES[spec.tunnel],
        mac=mac_of(own) if is_vxlan else None,
        port=port if is_vxlan else None,
    )


def reach(spec: PoolSpec, device: str, inner: IPv4Address, underlay: IPv4Address) -> tuple[AnyObject, ...]:
    """What maps the peer's inner address to its underlay address on a device."""
    if spec.tunnel is TunnelKind.GRE:
        return (Neighbour(device, inner, str(underlay)),)
    mac = mac_of(inner)
    return (Neighbour(device, inner, mac), ForwardingEntry(device, mac, underlay))
