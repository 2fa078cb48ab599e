"""Whose an ephemeral node is: ours, a dead predecessor's of ours, or another machine's."""

from __future__ import annotations

from ipaddress import IPv4Address

from proxypool.adapters.zookeeper.reading import Node
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Alive


def underlay_of(data: bytes) -> IPv4Address | None:
    """The machine an Alive document speaks of; None if it is not one."""
    try:
        return decode(data, Alive, what="alive").underlay
    except InvalidInput:
        return None


def is_replaceable(found: Node, new: bytes) -> bool:
    """Whether an ephemeral node of another session may be replaced by ours with the data `new`.

    Proofs of life are, if both speak of the same machine: then the other is our predecessor, whose session has not yet
    timed out. Nodes of other kinds are: their name is ours, which `Registry` has made sure of.
    """
    ours = underlay_of(new)
    return ours is None or underlay_of(found.data) == ours
