"""Names, MACs and numbers derived from what the pool already knows, so that nothing has to be remembered.

Every derivation is deterministic: a restarted daemon and the other member of a pair compute the same value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from ipaddress import IPv4Address, IPv4Network

from proxypool.core.errors import InvalidInput

NAMESPACE_PREFIX = "pp-"
TUNNEL_DEVICE_PREFIX = "ppt"
SYNC_DEVICE_PREFIX = f"{TUNNEL_DEVICE_PREFIX}s"
"""No tunnel device of a subnet has it: what follows there is hexadecimal."""
ENI_DEVICE = "eni0"
VRID_RANGE = range(1, 256)
KEY_RANGE = range(1, 1 << 24)
"""Tunnel keys fit both a GRE key (32 bits, RFC 2890) and a VXLAN network identifier (24 bits, RFC 7348)."""


def namespace_of(subnet: str) -> str:
    """Name of the network namespace that holds a subnet on a node."""
    return f"{NAMESPACE_PREFIX}{subnet}"


def tunnel_device_of(subnet: str) -> str:
    """Tunnel device of a subnet: unique on a machine and within IFNAMSIZ (15 characters), whatever the id's length."""
    return TUNNEL_DEVICE_PREFIX + hashlib.blake2s(subnet.encode(), digest_size=5).hexdigest()


def sync_device_of(subnet: str) -> str:
    """Device of the link between the members of the subnet's pair, as `tunnel_device_of`."""
    return SYNC_DEVICE_PREFIX + tunnel_device_of(subnet).removeprefix(TUNNEL_DEVICE_PREFIX)


def mac_of(address: IPv4Address) -> str:
    """MAC of the tunnel end with this address: locally administered, unicast.

    For a pair the address is the HaVip, so both members have the same MAC and a failover changes nothing on the hosts.
    """
    return "02:50:" + ":".join(f"{byte:02x}" for byte in address.packed)


def allocate_tunnel_address(host: str, pool: IPv4Network, taken: Container[IPv4Address]) -> IPv4Address:
    """First free address for a host, starting at a place derived from its name so that hosts rarely race for one.

    Raises:
        InvalidInput: every address of the range is taken.
    """
    size = pool.num_addresses - 2
    start = int.from_bytes(hashlib.blake2s(host.encode(), digest_size=8).digest(), "big") % size
    for offset in range(size):
        candidate = pool[1 + (start + offset) % size]
        if candidate not in taken:
            return candidate
    raise InvalidInput(f"the tunnel address range {pool} is full: choose a larger one with `proxypool pool init`")


def allocate_vrid(taken: Iterable[int]) -> int:
    """Smallest free VRRP virtual router id (1-255, RFC 5798 section 5.2.3).

    Raises:
        InvalidInput: all 255 are taken on the nodes of the pair.
    """
    used = set(taken)
    for vrid in VRID_RANGE:
        if vrid not in used:
            return vrid
    raise InvalidInput("no VRRP id left: these nodes already serve 255 pairs; choose other nodes")


def allocate_key(taken: Iterable[int]) -> int:
    """Smallest free tunnel key at or above 1."""
    used = set(taken)
    return next(key for key in KEY_RANGE if key not in used)
