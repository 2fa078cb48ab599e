"""Writing to ZooKeeper: many single writes at once, or several as one transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from kazoo.exceptions import KazooException, RolledBackError, RuntimeInconsistency

from proxypool.adapters.zookeeper.errors import translated
from proxypool.adapters.zookeeper.reading import read_subtree
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.core.access import HELD
from proxypool.core.errors import AccessDenied

log = logging.getLogger(__name__)

ANY_VERSION = -1


@dataclass(frozen=True, slots=True)
class Create:
    """Make a node."""

    path: str
    data: bytes = b""
    is_ephemeral: bool = False
    is_sequential: bool = False


@dataclass(frozen=True, slots=True)
class SetData:
    """Change a node's data."""

    path: str
    data: bytes
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a node."""

    path: str
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Check:
    """A node must be there; only as a part of a transaction."""

    path: str
    version: int = ANY_VERSION


Write: TypeAlias = Create | SetData | Delete
Outcome: TypeAlias = str | KazooException | None
"""The path that was made, why it was refused, or None: done."""


def write_all(session: PoolSession, writes: Iterable[Write]) -> list[Outcome]:
    """Each write on its own, all at once. What the tree's state refuses is returned, not raised.

    Raises:
        TransientError: the connection broke; some may have been done.
    """
    return [_outcome(session, result) for result in [_send(session, write) for write in writes]]


def attempt_all(session: PoolSession, writes: Iterable[Write]) -> list[Outcome | AccessDenied]:
    """As `write_all`, for whoever tries again until all is done: what we may not do is returned too, and keeps nothing
    else from being done. The session's log says that something was refused.

    Raises:
        TransientError: the connection broke; some may have been done.
    """
    wanted = list(writes)
    outcomes: list[Outcome | AccessDenied] = []
    for write, result in zip(wanted, [_send(session, write) for write in wanted], strict=True):
        try:
            outcomes.append(_outcome(session, result))
        except AccessDenied as error:
            log.debug("%s: %s", write.path, error)
            outcomes.append(error)
    return outcomes


def _send(session: PoolSession, write: Write) -> Any:
    client = session.client
    match write:
        case Create(path, data, is_ephemeral, is_sequential):
            acl = session.access.of(session, path)
            return client.create_async(path, data, acl=acl, ephemeral=is_ephemeral, sequence=is_sequential)
        case SetData(path, data, version):
            return client.set_async(path, data, version=version)
        case Delete(path, version):
            return client.delete_async(path, version=version)


def _outcome(session: PoolSession, result: Any) -> Outcome:
    try:
        value = session.wait(result)
    except KazooException as error:
        return error
    return value if isinstance(value, str) else None


def held(session: PoolSession, path: str, data: bytes = b"") -> list[Write]:
    """Make a node that its owner alone can delete, if the pool has access lists; see `core.access`.

    Raises:
        TransientError: the connection broke.
    """
    below = [Create(f"{path}/{HELD}")] if session.access.is_held(session, path) else []
    return [Create(path, data), *below]


def released(session: PoolSession, path: str) -> list[Write]:
    """Delete such a node, with what holds it; nothing, if it is not there.

    Raises:
        TransientError: the connection broke.
    """
    return [Delete(doomed) for doomed in read_subtree(session, path)]


def are_there(session: PoolSession, paths: Iterable[str]) -> bool:
    """Whether all of these nodes are there, as ZooKeeper's leader says in the order of all writes.

    Raises:
        TransientError: the connection broke.
    """
    transaction = session.client.transaction()
    for path in paths:
        transaction.check(path, ANY_VERSION)
    outcomes = session.wait(transaction.commit_async())
    return not any(isinstance(outcome, Exception) for outcome in outcomes)


def commit(session: PoolSession, writes: Iterable[Write | Check]) -> None:
    """All writes or none, and none unless every check holds.

    Raises:
        KazooException: the tree's state refuses: NoNodeError, NodeExistsError, BadVersionError, NotEmptyError.
        AccessDenied: we may not do one of them.
        TransientError: the connection broke; all or none were done.
    """
    transaction = session.client.transaction()
    for write in writes:
        match write:
            case Create(path, data, is_ephemeral, is_sequential):
                acl = session.access.of(session, path)
                transaction.create(path, data, acl=acl, ephemeral=is_ephemeral, sequence=is_sequential)
            case SetData(path, data, version):
                transaction.set_data(path, data, version=version)
            case Delete(path, version):
                transaction.delete(path, version=version)
            case Check(path, version):
                transaction.check(path, version)
    for outcome in session.wait(transaction.commit_async()):
        if isinstance(outcome, Exception) and not isinstance(outcome, RolledBackError | RuntimeInconsistency):
            with translated():
                raise outcome
