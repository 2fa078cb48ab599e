"""The log of what happened to a pool: `history/<name>`, one record each, the newest `KEPT` of them.

Writing a record again is no second one: its name stays the same, and what is in it is brought up to date. A writer that
finds a tenth more than is to be kept removes the oldest, so that it is done now and then by one or two of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kazoo.exceptions import NodeExistsError, NoNodeError

from proxypool.adapters.zookeeper.errors import PoolMissing
from proxypool.adapters.zookeeper.layout import HISTORY, record_suffix, switchover_suffix
from proxypool.adapters.zookeeper.reading import Watch, read_children, read_nodes
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, Delete, SetData, write_all
from proxypool.core.documents import DocumentTooNew, decode, encode
from proxypool.core.errors import InvalidInput
from proxypool.core.history import KEPT, Intent, Record, name_of, surplus

log = logging.getLogger(__name__)

SLACK = KEPT // 10
BATCH = 50
"""Records written, and nodes removed, at one time: a mass failover must not keep the servers from electing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was read of the log."""

    records: Sequence[Record] = ()
    malformed: Mapping[str, str] = field(default_factory=dict)
    """Name -> why it cannot be read."""


class PoolHistory:
    """See the module's text. Blocking; the session must be connected.

    Raises, each of its methods:
        TransientError: the connection broke; to do it again is safe.
    """

    def __init__(self, session: PoolSession) -> None:
        self._session = session
        self._path = session.layout.path(HISTORY)

    def write(self, records: Sequence[Record]) -> None:
        """Write each record, or bring it up to date.

        Raises:
            PoolMissing: there is no such pool, perhaps any more.
        """
        for at in range(0, len(records), BATCH):
            self._write(records[at : at + BATCH])

    def _write(self, records: Sequence[Record]) -> None:
        paths = [self._session.layout.path(record_suffix(name_of(record).text)) for record in records]
        creations = [Create(path, encode(record)) for path, record in zip(paths, records, strict=True)]
        outcomes = write_all(self._session, creations)
        if any(isinstance(outcome, NoNodeError) for outcome in outcomes):
            # A pool of an earlier version has no log yet.
            write_all(self._session, [Create(self._path)])
            outcomes = write_all(self._session, creations)
            if any(isinstance(outcome, NoNodeError) for outcome in outcomes):
                raise PoolMissing(f"there is no {self._path} and it cannot be made: is the pool still there?")
        known = [at for at, outcome in enumerate(outcomes) if isinstance(outcome, NodeExistsError)]
        changes = []
        for at, node in zip(known, read_nodes(self._session, [paths[at] for at in known]), strict=True):
            try:
                data = encode(records[at], node.data if node else None, what=paths[at])
            except DocumentTooNew as error:
                log.debug("%s", error)
                continue
            if node is not None and node.data != data:
                changes.append(SetData(paths[at], data))
        write_all(self._session, changes)

    def names(self, watch: Watch | None = None) -> tuple[str, ...]:
        """Of all records, oldest first. `watch` is called once when another comes or goes."""
        (found,) = read_children(self._session, (self._path,), watch)
        return found or ()

    def read(self, names: Iterable[str]) -> Found:
        """The records of these names, in their order; those that were removed meanwhile are left out."""
        wanted = list(names)
        records, malformed = [], {}
        nodes = read_nodes(self._session, [f"{self._path}/{name}" for name in wanted])
        for name, node in zip(wanted, nodes, strict=True):
            if node is None:
                continue
            try:
                records.append(decode(node.data, Record, what=name))
            except InvalidInput as error:
                malformed[name] = str(error)
        return Found(records, malformed)

    @property
    def is_overfull(self) -> bool:
        """Whether it is time to remove the oldest."""
        stat = self._session.wait(self._session.client.exists_async(self._path))
        return stat is not None and stat.numChildren > KEPT + SLACK

    def prune(self) -> None:
        """Remove what is more than is to be kept. Others may do the same at the same time."""
        doomed = surplus(self.names())
        for at in range(0, len(doomed), BATCH):
            write_all(self._session, [Delete(f"{self._path}/{name}") for name in doomed[at : at + BATCH]])

    def intent(self, subnet: str, pair: str) -> Intent | None:
        """Of the last switchover that somebody asked for; None: there was none, or it cannot be read."""
        (node,) = read_nodes(self._session, (self._session.layout.path(switchover_suffix(subnet, pair)),))
        try:
            return decode(node.data, Intent, what="intent") if node is not None else None
        except InvalidInput:
            return None
