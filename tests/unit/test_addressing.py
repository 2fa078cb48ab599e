"""Derived names, MACs and numbers: the same everywhere, and within what the kernel allows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from proxypool.core.addressing import (
    KEY_RANGE,
    allocate_key,
    allocate_tunnel_address,
    allocate_vrid,
    mac_of,
    namespace_of,
    tunnel_device_of,
)
from proxypool.core.errors import InvalidInput

POOL = IPv4Network("100.64.0.0/29")


def test_a_namespace_carries_the_subnets_name() -> None:
    assert namespace_of("s1") == "pp-s1"


@pytest.mark.parametrize("name", ["s", "s1", "a" * 40])
def test_a_tunnel_devices_name_fits_the_kernel_whatever_the_subnets_length(name: str) -> None:
    device = tunnel_device_of(name)
    assert device.startswith("ppt")
    assert len(device) <= 15


def test_tunnel_devices_of_different_subnets_have_different_names() -> None:
    names = [f"subnet-{number}" for number in range(1000)]
    assert len({tunnel_device_of(name) for name in names}) == len(names)


def test_a_mac_is_locally_administered_unicast_and_tells_its_address() -> None:
    mac = mac_of(IPv4Address("192.168.4.100"))
    assert mac == "02:50:c0:a8:04:64"
    first = int(mac[:2], 16)
    assert first & 0b10, "locally administered"
    assert not first & 0b1, "unicast"


def test_a_host_gets_the_same_tunnel_address_while_it_is_free() -> None:
    first = allocate_tunnel_address("h1", POOL, frozenset())
    assert allocate_tunnel_address("h1", POOL, frozenset()) == first
    assert first in set(POOL.hosts())


def test_a_host_takes_the_next_address_when_its_own_is_taken() -> None:
    first = allocate_tunnel_address("h1", POOL, frozenset())
    second = allocate_tunnel_address("h1", POOL, {first})
    assert second != first
    assert second in set(POOL.hosts())


def test_every_address_of_the_range_but_network_and_broadcast_is_given_out() -> None:
    taken: set[IPv4Address] = set()
    for number in range(POOL.num_addresses - 2):
        taken.add(allocate_tunnel_address(f"h{number}", POOL, taken))
    assert taken == set(POOL.hosts())


def test_a_full_range_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidInput, match=r"100\.64\.0\.0/29 is full: choose a larger one with `proxypool pool init`"):
        allocate_tunnel_address("h1", POOL, set(POOL.hosts()))


def test_vrids_fill_gaps_from_one() -> None:
    assert allocate_vrid([]) == 1
    assert allocate_vrid([1, 2, 4]) == 3
    assert allocate_vrid(range(1, 255)) == 255


def test_no_vrid_is_left_after_255() -> None:
    with pytest.raises(InvalidInput, match="choose other nodes"):
        allocate_vrid(range(1, 256))


def test_keys_fill_gaps_from_one_and_fit_a_vxlan_identifier() -> None:
    assert allocate_key([]) == 1
    assert allocate_key([1, 3]) == 2
    assert KEY_RANGE.stop == 1 << 24
