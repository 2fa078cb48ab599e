"""The newest records of the pool's history, read often: what cannot change any more is read once."""

from __future__ import annotations

import time
from collections.abc import Callable

from proxypool.adapters.zookeeper import PoolHistory, PoolSession
from proxypool.core.history import Name, Record, RecordList, name_of, newest, parse_name

NEWEST = 200
FINAL_S = 120.0
"""Older than this, a record is not brought up to date any more: its election is over, or nobody will tell of it."""


class Recent:
    """Of one pool; used by one thread."""

    def __init__(self, session: PoolSession, is_wanted: Callable[[Name], bool] = lambda _: True) -> None:
        """`is_wanted`: of which records, by what their names say."""
        self._log, self._is_wanted = PoolHistory(session), is_wanted
        self._final: dict[str, Record] = {}
        """By name."""

    def read(self) -> RecordList:
        """The newest, oldest first. What cannot be read is left out.

        Raises:
            TransientError: the connection broke.
        """
        names = [text for text in self._log.names() if (name := parse_name(text)) is not None and self._is_wanted(name)]
        wanted = newest(names, NEWEST)
        found = self._log.read(text for text in wanted if text not in self._final)
        records = {**self._final, **{name_of(record).text: record for record in found.records}}
        kept = {text: records[text] for text in wanted if text in records}
        settled_at = time.time() - FINAL_S
        self._final = {text: record for text, record in kept.items() if record.at < settled_at}
        return RecordList(items=tuple(kept.values()))
