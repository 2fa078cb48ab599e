"""One pair and what its members publish: three requests, so that it can be asked for several times a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from proxypool.adapters.zookeeper.errors import NotFound
from proxypool.adapters.zookeeper.layout import member_status_suffix, node_alive_suffix, pair_suffix
from proxypool.adapters.zookeeper.reading import Node, read_children, read_nodes
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Alive, MemberStatus, PairSpec

T = TypeVar("T", bound=msgspec.Struct)


def read_pair(session: PoolSession, subnet: str, pair: str) -> tuple[PairSpec, Mapping[str, MemberStatus]]:
    """The pair, and by node what its members publish.

    Raises:
        NotFound: there is no such pair, perhaps any more.
        InvalidInput: its document cannot be read.
        TransientError: the connection broke.
    """
    path = session.layout.path(pair_suffix(subnet, pair))
    (node,) = read_nodes(session, (path,))
    if node is None:
        raise not_found(session, subnet, pair)
    return decode(node.data, PairSpec, what=path), read_statuses(session, subnet, pair)


def read_statuses(session: PoolSession, subnet: str, pair: str) -> Mapping[str, MemberStatus]:
    """By node what the members of a pair publish. What cannot be read is left out.

    Raises:
        NotFound: there is no such pair, perhaps any more.
        TransientError: the connection broke.
    """
    container = session.layout.path(f"{pair_suffix(subnet, pair)}/status")
    (names,) = read_children(session, (container,))
    if names is None:
        raise not_found(session, subnet, pair)
    found = zip(names, read_nodes(session, [f"{container}/{name}" for name in names]), strict=True)
    statuses = ((name, _decoded(node, MemberStatus, name)) for name, node in found)
    return {name: status for name, status in statuses if status is not None}


def read_members(
    session: PoolSession, pairs: Iterable[PairSpec]
) -> tuple[Mapping[str, Mapping[str, MemberStatus]], Mapping[str, Alive]]:
    """What the members of pairs publish, by `<subnet>/<pair>` and node, and by node the proof that it lives. One round
    of requests. What is not there, or cannot be read, is left out.

    Raises:
        TransientError: the connection broke.
    """
    layout = session.layout
    places = [(pair, member.node) for pair in pairs for member in pair.members]
    nodes = sorted({node for _, node in places})
    paths = [layout.path(member_status_suffix(pair.subnet, pair.id, node)) for pair, node in places]
    found = read_nodes(session, [*paths, *(layout.path(node_alive_suffix(node)) for node in nodes)])
    statuses: dict[str, dict[str, MemberStatus]] = {}
    for (pair, name), node in zip(places, found, strict=False):
        if (status := _decoded(node, MemberStatus, name)) is not None:
            statuses.setdefault(f"{pair.subnet}/{pair.id}", {})[name] = status
    proofs = ((name, _decoded(node, Alive, name)) for name, node in zip(nodes, found[len(places) :], strict=True))
    return statuses, {name: alive for name, alive in proofs if alive is not None}


def _decoded(node: Node | None, kind: type[T], what: str) -> T | None:
    try:
        return decode(node.data, kind, what=what) if node is not None else None
    except InvalidInput:
        return None


def not_found(session: PoolSession, subnet: str, pair: str) -> NotFound:
    """The error, with the pairs that there are."""
    (known,) = read_children(session, (session.layout.path(f"subnets/{subnet}/pairs"),))
    return NotFound("pair", pair, known or (), f"in subnet {subnet}")
