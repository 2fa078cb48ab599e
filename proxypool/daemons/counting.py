"""How many connections are left of pairs that drain: counted once a second where this node is their master.

Pairs that do not drain cost nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from proxypool.daemons.member import Member
from proxypool.daemons.messages import ConnectionsCounted
from proxypool.daemons.table_reader import Question, TableReader

log = logging.getLogger(__name__)


class Counting:
    """See the module's text. All methods are called on the main loop."""

    def __init__(self, members: Mapping[str, Member], tables: TableReader) -> None:
        """`members` by subnet."""
        self._members, self._tables = members, tables
        self._under_way: set[str] = set()
        self._problems: dict[str, str] = {}

    def second_passed(self, now: float) -> None:
        """Have all that drain counted again, but for those whose last count is still under way."""
        for subnet, member in self._members.items():
            member.expire_connections(now)
            if member.is_counted and subnet not in self._under_way:
                self._under_way.add(subnet)
                self._tables.ask(_question(subnet))

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


def _question(subnet: str) -> Question:
    return Question(
        subnet,
        lambda table: ConnectionsCounted(subnet, table.count_living(), None),
        lambda problem: ConnectionsCounted(subnet, None, problem),
    )
