"""Ephemeral nodes: look, then make, change, replace or remove them, all at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeAlias

from kazoo.exceptions import NoNodeError

from proxypool.adapters.zookeeper.ownership import is_replaceable, underlay_of
from proxypool.adapters.zookeeper.reading import Node, Watch, read_nodes, watch_existing
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, Delete, Outcome, SetData, Write, attempt_all
from proxypool.core.errors import AccessDenied

log = logging.getLogger(__name__)

Wanted: TypeAlias = Mapping[str, "bytes | None"]
"""suffix -> data, None: must not be there."""


def put_nodes(session: PoolSession, wanted: Wanted, known: frozenset[str], watch: Watch) -> dict[str, bytes | None]:
    """Make ephemeral nodes as wanted. Of `known` ones we know that they are there and ours.

    Returns those that are now as wanted; the others must be tried again. `watch` is called when one of them vanishes.

    Raises:
        TransientError: the connection broke; nothing is known.
    """
    unknown = [suffix for suffix in wanted if suffix not in known]
    seen = dict(zip(unknown, read_nodes(session, map(session.layout.path, unknown)), strict=True))
    refused = {suffix for suffix, found in seen.items() if _is_anothers(session, found, wanted[suffix], suffix)}
    strangers = [s for s, found in seen.items() if s not in refused and found and found.owner != session.session_id]
    attempt_all(session, [Delete(session.layout.path(suffix)) for suffix in strangers if wanted[suffix] is not None])
    absent = {suffix for suffix, found in seen.items() if found is None} | set(strangers)
    writes: dict[str, Write] = {}
    for suffix, data in wanted.items():
        if suffix not in refused:
            node = seen.get(suffix)
            write = _write(
                session.layout.path(suffix), data, is_there=suffix not in absent, now=node.data if node else None
            )
            if write is not None:
                writes[suffix] = write
    outcomes = dict(zip(writes, attempt_all(session, writes.values()), strict=True))
    _make_parents(session, writes, outcomes)
    done = {suffix: data for suffix, data in wanted.items() if suffix not in refused and _is_done(outcomes.get(suffix))}
    fresh = {session.layout.path(s): s for s, data in done.items() if data is not None and s not in known}
    present = watch_existing(session, fresh, watch)
    return {s: data for s, data in done.items() if s in known or data is None or session.layout.path(s) in present}


def _is_anothers(session: PoolSession, found: Node | None, data: bytes | None, suffix: str) -> bool:
    if found is None or data is None or found.owner == session.session_id or is_replaceable(found, data):
        return False
    # Tried again every second; `Registry` is who tells the operator.
    log.debug("%s belongs to another machine (%s): not replaced", suffix, underlay_of(found.data))
    return True


def _write(path: str, data: bytes | None, *, is_there: bool, now: bytes | None) -> Write | None:
    if data is None:
        return Delete(path) if is_there else None
    if not is_there:
        return Create(path, data, is_ephemeral=True)
    return None if data == now else SetData(path, data)


def _is_done(outcome: Outcome | AccessDenied) -> bool:
    return outcome is None or isinstance(outcome, str)


def _make_parents(
    session: PoolSession, writes: Mapping[str, Write], outcomes: Mapping[str, Outcome | AccessDenied]
) -> None:
    """Make a missing container, but not what it stands in: a pair that was removed must not come back as a shell."""
    parents = {
        write.path.rpartition("/")[0]
        for suffix, write in writes.items()
        if isinstance(write, Create) and isinstance(outcomes[suffix], NoNodeError)
    }
    attempt_all(session, [Create(path) for path in sorted(parents)])
