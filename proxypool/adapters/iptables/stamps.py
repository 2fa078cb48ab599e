"""Tables of one shape: python-iptables makes the first one, the others are its bytes with their own values put in.

The tables of a node's subnets differ in addresses and devices only. To build one takes python-iptables 5 ms and to
read it again as much; a node that starts with hundreds of subnets does nothing else for seconds. Where such a value
stands in an entry is the kernel's interface (struct ipt_ip of linux/netfilter_ipv4/ip_tables.h); matches and targets,
which are the extensions' own business, are taken over as they are.

Only a table without any rule is replaced in this way, so there is nothing of others to lose. Rules that name a set are
left to python-iptables: their bytes hold the number that the set has in one namespace.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TypeAlias

from proxypool.adapters.iptables.fingerprint import NEXT_OFFSET_AT, TARGET_OFFSET_AT, Contents, TableProbe
from proxypool.adapters.iptables.rules import names_set
from proxypool.core.scene import Rule, Table, UnknownRule

MAX_STAMPS = 64
_HEAD = struct.Struct("=4s4s4s4s16s16s16s16s")
"""Begin of struct ipt_ip: source, destination, their masks, devices, their masks. Protocol and flags follow."""
_U16 = struct.Struct("=H")
_TARGET_NAME = slice(2, 31)
"""In struct xt_entry_target, after its size."""
_CHAIN_NAME = slice(32, 62)
"""In an ERROR target, with which a chain begins."""
_IFNAMSIZ = 16
Shape: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Stamp:
    base: bytes
    """What the table was before, without counters."""
    contents: Contents
    heads: tuple[int, ...]
    """Offset of each of our rules."""


_stamps: dict[Shape, _Stamp] = {}
"""The youngest last."""


def clear() -> None:
    """Forget all."""
    _stamps.clear()


def learn(desired: Table, base: bytes, contents: Contents) -> None:
    """Remember what the kernel holds: it was read and proved to be what is desired. `base` is what it was before."""
    if any(isinstance(rule, Rule) and names_set(rule) for chain in desired.chains for rule in chain.rules):
        return
    heads = _heads(desired, contents.entries)
    # Whatever this kernel does otherwise than expected shows here, and then there is no stamp.
    if heads is None or _stamped(desired, contents.entries, heads) != contents.entries:
        return
    shape = _shape(desired)
    _stamps.pop(shape, None)
    while len(_stamps) >= MAX_STAMPS:
        del _stamps[next(iter(_stamps))]
    _stamps[shape] = _Stamp(base, contents, heads)


def apply(desired: Table, before: Contents, probe: TableProbe) -> bytes | None:
    """Make an empty table be as desired. Returns what it then is, without counters; None: it was not touched.

    Raises:
        OSError: the kernel refused; the table is as it was.
    """
    if not before.is_empty:
        return None
    shape = _shape(desired)
    stamp = _stamps.get(shape)
    if stamp is None or stamp.base != before.without_counters():
        return None
    _stamps[shape] = _stamps.pop(shape)
    entries = _stamped(desired, stamp.contents.entries, stamp.heads)
    probe.replace(desired.name, Contents(stamp.contents.info, entries), before)
    return Contents(stamp.contents.info, entries).without_counters()


def _shape(table: Table) -> Shape:
    return (
        table.name,
        *((chain.name, chain.hook, chain.policy, chain.jumps, *map(_shape_of, chain.rules)) for chain in table.chains),
    )


def _shape_of(rule: Rule | UnknownRule) -> Shape:
    """All but the values that are put in; whether there are such values counts."""
    if isinstance(rule, UnknownRule):
        raise TypeError(f"an observed rule cannot be wanted: {rule}")
    has = tuple(value is not None for value in (rule.source, rule.destination, rule.in_device, rule.out_device))
    negated = (rule.is_source_negated, rule.is_out_negated, rule.is_in_negated)
    return (rule.target, rule.target_options, rule.protocol, rule.matches, has, negated)


def _heads(desired: Table, entries: bytes) -> tuple[int, ...] | None:
    """None: a chain of ours is not there, or is shorter than desired."""
    places = list(offsets(entries))
    begins = {chain_at(entries, offset): number for number, offset in enumerate(places)}
    found: list[int] = []
    for chain in desired.chains:
        begin = begins.get(chain.name.encode())
        if begin is None:
            return None
        rules = places[begin + 1 : begin + 1 + len(chain.rules)]
        if len(rules) < len(chain.rules):
            return None
        found += rules
    return tuple(found)


def offsets(entries: bytes) -> Iterator[int]:
    """Where each entry of a table begins."""
    offset = 0
    while offset < len(entries):
        yield offset
        step = _U16.unpack_from(entries, offset + NEXT_OFFSET_AT)[0]
        if step == 0:
            return
        offset += step


def chain_at(entries: bytes, offset: int) -> bytes | None:
    """The chain that begins with this entry; None: it is an entry like any other."""
    target = entries[offset + _U16.unpack_from(entries, offset + TARGET_OFFSET_AT)[0] :]
    if target[_TARGET_NAME].partition(b"\0")[0] != b"ERROR":
        return None
    return target[_CHAIN_NAME].partition(b"\0")[0]


def _stamped(desired: Table, entries: bytes, heads: tuple[int, ...]) -> bytes:
    result = bytearray(entries)
    rules = [rule for chain in desired.chains for rule in chain.rules if isinstance(rule, Rule)]
    for offset, rule in zip(heads, rules, strict=True):
        source, source_mask = _network(rule.source)
        destination, destination_mask = _network(rule.destination)
        came, came_mask = _device(rule.in_device)
        goes, goes_mask = _device(rule.out_device)
        addresses = (source, destination, source_mask, destination_mask)
        _HEAD.pack_into(result, offset, *addresses, came, goes, came_mask, goes_mask)
    return bytes(result)


def _network(network: IPv4Network | None) -> tuple[bytes, bytes]:
    if network is None:
        return bytes(4), bytes(4)
    return network.network_address.packed, network.netmask.packed


def _device(name: str | None) -> tuple[bytes, bytes]:
    """The name and which of its bytes count: with a plus sign at the end those before it, else also the zero byte."""
    if name is None:
        return b"", b""
    if name.endswith("+"):
        return name[:-1].encode(), b"\xff" * (len(name) - 1)
    return name.encode(), b"\xff" * min(len(name) + 1, _IFNAMSIZ)
