"""What a pair that has fallen silent leaves behind on a host: connections of which nothing but the SYN was sent. Pure.

A connection stays with its pair, also with a silent one, because a HaVip that moves is silent for a moment. But one
whose SYN was not answered is none yet: its client sends the SYN again, and where new connections take another pair by
now, that one may too. With the mark of its first SYN it would go to the silent pair until the client gives up.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from ipaddress import IPv4Address

from proxypool.core.steering import INDEX_BITS, Book, Group


def left_behind(book: Book, in_force: Mapping[Group, int], silent: Container[IPv4Address]) -> dict[int, frozenset[str]]:
    """Paths that no new connection takes any more, and those of their subnets that they reach through a silent pair,
    and new connections of the same group through another one.

    `in_force`: the entries that groups have in the kernel. A group whose entry is not yet what the book says is left
    out: what begins there may still take any path.
    """
    numbers = {book.groups[group] for group, entry in in_force.items() if book.entries.get(group) == entry}
    elsewhere = {
        (number >> INDEX_BITS, leg.subnet)
        for number in book.taken() & book.paths.keys()
        for leg in book.paths[number]
        if leg.havip not in silent
    }
    found = {}
    for path in book.retired():
        group = path >> INDEX_BITS
        subnets = {leg.subnet for leg in book.paths[path] if leg.havip in silent and (group, leg.subnet) in elsewhere}
        if subnets and group in numbers:
            found[path] = frozenset(subnets)
    return found
