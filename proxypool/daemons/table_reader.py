"""Reads whole connection tables: on a thread of its own, which the first one starts, one after the other.

A hundred thousand entries take a quarter of a second, so neither the main loop nor the dataplane thread waits for it.
The dataplane thread, which alone enters namespaces, opens each table. It is closed when it was read: nothing is held of
a namespace that is to go.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from proxypool.adapters.conntrack import Conntrack
from proxypool.core.addressing import namespace_of
from proxypool.core.errors import ProxypoolError
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.messages import Message

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be read of a subnet's table, and what is told if it cannot be."""

    subnet: str
    read: Callable[[Conntrack], Message]
    failed: Callable[[str], Message]


class TableReader:
    """See the module's text."""

    def __init__(self, dataplane: Dataplane, post: Callable[[Message], None]) -> None:
        """`post` takes the answers. No thread is started."""
        self._dataplane, self._post = dataplane, post
        self._tables: queue.SimpleQueue[tuple[Question, Conntrack] | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    def stop(self) -> None:
        """End after the table that is being read."""
        self._tables.put(None)

    def ask(self, question: Question) -> None:
        """Post exactly one message, sooner or later. Called on the main loop."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, name="tables", daemon=True)
            self.thread.start()
        self._dataplane.submit(lambda: self._open(question))

    def _open(self, question: Question) -> None:
        """On the dataplane thread."""
        home = self._dataplane.home
        assert home is not None  # noqa: S101 - set before the first job, for mypy
        try:
            with home.inside(namespace_of(question.subnet)):
                table = Conntrack()
        except ProxypoolError as error:
            self._post(question.failed(str(error)))
            return
        self._tables.put((question, table))

    def _run(self) -> None:
        while (item := self._tables.get()) is not None:
            self._post(_answer(*item))


def _answer(question: Question, table: Conntrack) -> Message:
    try:
        return question.read(table)
    except ProxypoolError as error:
        return question.failed(str(error))
    except Exception as error:
        # The thread must live: without it nothing would be read any more.
        log.exception("reading the connections of %s failed", question.subnet)
        return question.failed(str(error))
    finally:
        table.close()
