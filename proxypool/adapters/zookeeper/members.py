"""One pair and what its members publish: three requests, so that it can be asked for several times a second."""

from __future__ import annotations

from collections.abc import Mapping

from proxypool.adapters.zookeeper.errors import NotFound
from proxypool.adapters.zookeeper.layout import pair_suffix
from proxypool.adapters.zookeeper.reading import read_children, read_nodes
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import MemberStatus, PairSpec


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
    statuses = {}
    for name, node in found:
        try:
            if node is not None:
                statuses[name] = decode(node.data, MemberStatus, what=name)
        except InvalidInput:
            continue
    return statuses


def not_found(session: PoolSession, subnet: str, pair: str) -> NotFound:
    """The error, with the pairs that there are."""
    (known,) = read_children(session, (session.layout.path(f"subnets/{subnet}/pairs"),))
    return NotFound("pair", pair, known or (), f"in subnet {subnet}")
