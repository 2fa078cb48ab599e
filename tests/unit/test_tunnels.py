"""The kinds of tunnel: device, overhead, and what leads to a peer."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from proxypool.core.addressing import mac_of, tunnel_device_of
from proxypool.core.model import PoolSpec, TunnelKind
from proxypool.core.scene import ForwardingEntry, Neighbour
from proxypool.core.tunnels import KERNEL_MODULE, OVERHEAD_BYTES, reach, tunnel_of
from tests.unit import builders as make

HAVIP = IPv4Address("192.168.4.100")
INNER = IPv4Address("100.64.0.1")
UNDERLAY = IPv4Address("192.168.80.1")


def test_gre_has_the_subnets_key_and_neither_mac_nor_port() -> None:
    tunnel = tunnel_of(make.GRE, make.subnet(key=7), local=HAVIP, own=HAVIP, underlay_mtu=1500)
    assert (tunnel.kind, tunnel.tunnel_key, tunnel.local) == ("gre", 7, HAVIP)
    assert (tunnel.mac, tunnel.port) == (None, None)
    assert tunnel.mtu == 1472
    assert tunnel.device == tunnel_device_of("s1")


def test_vxlan_has_the_key_as_identifier_the_pools_port_and_a_mac_of_its_own_address() -> None:
    spec = PoolSpec(tunnel=TunnelKind.VXLAN, vxlan_port=8472)
    tunnel = tunnel_of(spec, make.subnet(key=7), local=UNDERLAY, own=INNER, underlay_mtu=9000)
    assert (tunnel.kind, tunnel.tunnel_key, tunnel.local, tunnel.port) == ("vxlan", 7, UNDERLAY, 8472)
    assert tunnel.mac == mac_of(INNER)
    assert tunnel.mtu == 8950


def test_a_gre_peer_is_reached_by_a_neighbour_with_its_underlay_address() -> None:
    assert reach(make.GRE, "ppt1", INNER, UNDERLAY) == (Neighbour("ppt1", INNER, "192.168.80.1"),)


def test_a_vxlan_peer_is_reached_by_a_mac_and_where_that_mac_is() -> None:
    mac = mac_of(INNER)
    assert reach(make.VXLAN, "ppt1", INNER, UNDERLAY) == (
        Neighbour("ppt1", INNER, mac),
        ForwardingEntry("ppt1", mac, UNDERLAY),
    )


def test_both_ends_of_a_vxlan_tunnel_agree_on_the_macs() -> None:
    """A node's own MAC is what hosts map the HaVip to; the same on both members, so that a failover changes nothing."""
    node_end = tunnel_of(make.VXLAN, make.subnet(), local=HAVIP, own=HAVIP, underlay_mtu=1500)
    neighbour, entry = reach(make.VXLAN, node_end.device, HAVIP, HAVIP)
    assert isinstance(neighbour, Neighbour)
    assert neighbour.link_address == node_end.mac
    assert isinstance(entry, ForwardingEntry)
    assert entry.mac == node_end.mac


@pytest.mark.parametrize("kind", list(TunnelKind))
def test_every_kind_has_an_overhead_and_a_module(kind: TunnelKind) -> None:
    assert OVERHEAD_BYTES[kind] > 20
    assert KERNEL_MODULE[kind]
