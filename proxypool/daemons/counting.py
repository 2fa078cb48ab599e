"""How many connections are left of pairs that drain: counted once a second where this node is their master.

Counting a hundred thousand takes a quarter of a second, so it has a thread of its own, which the first drain starts.
The dataplane thread, which alone enters namespaces, opens each table. It is closed when it was counted: nothing is held
of a namespace that is to go, and pairs that do not drain cost nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping

from proxypool.adapters.conntrack import Conntrack
from proxypool.core.addressing import namespace_of
from proxypool.core.errors import ProxypoolError
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.member import Member
from proxypool.daemons.messages import ConnectionsCounted, Message

log = logging.getLogger(__name__)


class Counting:
    """See the module's text. All methods are called on the main loop."""

    def __init__(self, members: Mapping[str, Member], dataplane: Dataplane, post: Callable[[Message], None]) -> None:
        """`members` by subnet; `post` takes the results to the main loop. No thread is started."""
        self._members, self._dataplane, self._post = members, dataplane, post
        self._under_way: set[str] = set()
        self._problems: dict[str, str] = {}
        self._tables: queue.SimpleQueue[tuple[str, Conntrack] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def stop(self) -> None:
        """End after the count under way."""
        self._tables.put(None)

    def second_passed(self, now: float) -> None:
        """Have all that drain counted again, but for those whose last count is still under way."""
        for subnet, member in self._members.items():
            member.expire_connections(now)
            if member.is_counted and subnet not in self._under_way:
                self._under_way.add(subnet)
                self._ask(subnet)

    def counted(self, message: ConnectionsCounted, now: float) -> None:
        """A result. What could not be counted is not known; why is logged once."""
        self._under_way.discard(message.subnet)
        member = self._members.get(message.subnet)
        if member is not None:
            member.saw_connections(message.count, now)
        if member is None or message.problem is None:
            self._problems.pop(message.subnet, None)
        elif self._problems.get(message.subnet) != message.problem:
            self._problems[message.subnet] = message.problem
            log.warning("%s: cannot count its connections: %s", message.subnet, message.problem)

    def _ask(self, subnet: str) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="counting", daemon=True)
            self._thread.start()
        self._dataplane.submit(lambda: self._open(subnet))

    def _open(self, subnet: str) -> None:
        """On the dataplane thread."""
        home = self._dataplane.home
        assert home is not None  # noqa: S101 - set before the first job, for mypy
        try:
            with home.inside(namespace_of(subnet)):
                table = Conntrack()
        except ProxypoolError as error:
            self._post(ConnectionsCounted(subnet, None, str(error)))
            return
        self._tables.put((subnet, table))

    def _run(self) -> None:
        while (item := self._tables.get()) is not None:
            subnet, table = item
            self._post(_count(subnet, table))


def _count(subnet: str, table: Conntrack) -> ConnectionsCounted:
    try:
        return ConnectionsCounted(subnet, table.count_living(), None)
    except ProxypoolError as error:
        return ConnectionsCounted(subnet, None, str(error))
    except Exception as error:
        # The thread must live: without it nothing would be counted any more.
        log.exception("counting the connections of %s failed", subnet)
        return ConnectionsCounted(subnet, None, str(error))
    finally:
        table.close()
