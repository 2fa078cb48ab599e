"""Reading many ZooKeeper nodes at once: all requests are sent before the first answer is awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from kazoo.exceptions import NoNodeError

from proxypool.adapters.zookeeper.layout import Facet
from proxypool.adapters.zookeeper.listing import Listing, RawListing, list_async
from proxypool.adapters.zookeeper.session import PoolSession


@dataclass(frozen=True, slots=True)
class Node:
    """A node's data, version and birth. `owner` is the session of an ephemeral node, else 0."""

    data: bytes
    version: int
    czxid: int
    owner: int


Answer: TypeAlias = Node | RawListing | None
"""None: there is no such node."""
Read: TypeAlias = tuple[Facet, str]
_WATCHED_IF_THERE = (Facet.DATA, Facet.CHILDREN)
"""Of these a read that finds nothing leaves no watch behind."""
Watch: TypeAlias = Callable[[Any], None]


def read_all(session: PoolSession, reads: Iterable[Read], watch: Watch | None = None) -> list[Answer]:
    """Answers in the order of the reads. With `watch`, a change of any of them, even its coming into being, calls it.

    Raises:
        TransientError: the connection broke.
    """
    wanted = list(reads)
    answers = _collect(session, wanted, [_send(session, facet, path, watch) for facet, path in wanted])
    if watch is not None:
        missing = [at for at, answer in enumerate(answers) if answer is None and wanted[at][0] in _WATCHED_IF_THERE]
        made = [session.client.exists_async(wanted[at][1], watch=watch) for at in missing]
        late = [at for at, result in zip(missing, made, strict=True) if session.wait(result) is not None]
        again = [_send(session, *wanted[at], watch) for at in late]
        for at, answer in zip(late, _collect(session, [wanted[at] for at in late], again), strict=True):
            answers[at] = answer
    return answers


def _send(session: PoolSession, facet: Facet, path: str, watch: Watch | None) -> Any:
    match facet:
        case Facet.DATA:
            return session.client.get_async(path, watch=watch)
        case Facet.CHILDREN | Facet.LIFE:
            return list_async(session.client, path, watch)
        case Facet.STAT:
            return session.client.exists_async(path)
        case Facet.CANDIDATE:
            return session.client.get_async(path)
        case Facet.PRESENCE:
            return session.client.exists_async(path, watch=watch)


def _collect(session: PoolSession, reads: Sequence[Read], results: Sequence[Any]) -> list[Answer]:
    if results:
        # Answers come in the order of the requests. Waiting for the last one first spares a thread switch for each.
        results[-1].wait(session.timeout_s)
    return [_answer(session, facet, result) for (facet, _), result in zip(reads, results, strict=True)]


def _answer(session: PoolSession, facet: Facet, result: Any) -> Answer:
    try:
        value = session.wait(result)
    except NoNodeError:
        return None
    if value is None:
        return None
    match facet:
        case Facet.CHILDREN | Facet.LIFE:
            listing: RawListing = value
            return listing
        case Facet.DATA | Facet.CANDIDATE:
            data, stat = value
        case Facet.STAT | Facet.PRESENCE:
            data, stat = b"", value
    return Node(data, stat.version, stat.czxid, stat.ephemeralOwner)


def read_nodes(session: PoolSession, paths: Iterable[str], watch: Watch | None = None) -> list[Node | None]:
    """Data and stat of many nodes; None where there is none."""
    answers = read_all(session, [(Facet.DATA, path) for path in paths], watch)
    return [answer if isinstance(answer, Node) else None for answer in answers]


def read_children(
    session: PoolSession, paths: Iterable[str], watch: Watch | None = None
) -> list[tuple[str, ...] | None]:
    """Names of the children of many nodes, sorted; None where there is no such node."""
    answers = read_all(session, [(Facet.CHILDREN, path) for path in paths], watch)
    return [
        tuple(sorted(answer.after(Listing()).names)) if isinstance(answer, RawListing) else None for answer in answers
    ]


def watch_existing(session: PoolSession, paths: Iterable[str], watch: Watch) -> frozenset[str]:
    """Those of the paths that are there; `watch` is called once when one of them changes or vanishes."""
    wanted = list(paths)
    results = [session.client.exists_async(path, watch=watch) for path in wanted]
    return frozenset(path for path, result in zip(wanted, results, strict=True) if session.wait(result) is not None)


def read_subtree(session: PoolSession, path: str) -> list[str]:
    """Every node at and below a path, children before their parents; empty if it is not there."""
    found: list[str] = []
    level = [path]
    while level:
        lists = read_children(session, level)
        present = [(at, names) for at, names in zip(level, lists, strict=True) if names is not None]
        found += [at for at, _ in present]
        level = [f"{at}/{name}" for at, names in present for name in names]
    return found[::-1]
