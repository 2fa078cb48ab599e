"""How many source ports a pair uses toward its busiest destination: looked at now and then, where this node is master.

The kernel counts no ports, so the whole connection table is read (some 3 us of CPU an entry; see `TableReader`). One
table at a time, each every 30 s, and rarer where all of them together would take more than a hundredth of a processor:
how often is exported, so that whoever reads the number knows when it is too old. Of a table with few connections their
number is told instead: most subnets' are such, and a processor that reads one forwards nothing for some ms. For that
reason none is read just after a change of master either.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxypool.adapters.conntrack import Conntrack
from proxypool.core.role import Role
from proxypool.core.scaling.series import PORTS_INTERVAL_S
from proxypool.core.sync_supervision import CALM_S
from proxypool.daemons.member import Member
from proxypool.daemons.messages import Message, PortsCounted
from proxypool.daemons.table_reader import Question, TableReader
from proxypool.daemons.usage import PortsSeen

log = logging.getLogger(__name__)

CPU_SHARE = 0.01
"""Of one processor, for all tables of the node together."""
FEW = 256
"""Connections that cannot use more than 0.4 % of the 64,512 ports, so that nobody needs to know how many they use."""
BURST_CPU_S = 0.02
"""After so much of it in one second the other tables wait for the next."""


@dataclass
class PortSampling:
    """See the module's text. All methods are called on the main loop; `members` by subnet."""

    members: Mapping[str, Member]
    tables: TableReader
    interval_s: float = PORTS_INTERVAL_S
    """From one look at a table to the next; the metrics' thread reads it."""
    _looked_at: dict[str, float] = field(default_factory=dict)
    """When a table's turn was, also if it could not be read."""
    _costs_s: dict[str, float] = field(default_factory=dict)
    _under_way: str | None = None
    _spent_s: float = 0.0
    """In this second."""
    _problems: dict[str, str] = field(default_factory=dict)

    def second_passed(self, now: float) -> None:
        """Look at those whose turn it is."""
        for subnet in [subnet for subnet in self._looked_at if not self._is_master(subnet)]:
            for known in (self._looked_at, self._costs_s, self._problems):
                known.pop(subnet, None)
        self._spent_s = 0.0
        self._go_on(now)

    def counted(self, message: PortsCounted, now: float) -> None:
        """A result. What could not be read is not known; why is logged once."""
        subnet, self._under_way = message.subnet, None
        member = self.members.get(subnet)
        if member is not None and message.ports is not None:
            self._costs_s[subnet] = message.cpu_s
            self._spent_s += message.cpu_s
            # Its own moment, which may be before a change of role that was handled since.
            member.usage.ports = PortsSeen(message.ports, message.cpu_s, message.at)
        if message.problem is None:
            self._problems.pop(subnet, None)
        elif self._problems.get(subnet) != message.problem:
            self._problems[subnet] = message.problem
            log.warning("%s: cannot look at its ports: %s", subnet, message.problem)
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        interval_s = self.interval_s = max(PORTS_INTERVAL_S, sum(self._costs_s.values()) / CPU_SHARE)
        due = sorted(
            (self._looked_at.get(subnet, 0.0), subnet)
            for subnet in self.members
            if self._is_master(subnet)
            and now >= self._looked_at.get(subnet, -interval_s) + interval_s
            and now >= self.members[subnet].state.role_since + CALM_S
        )
        for _, subnet in due:
            if self._under_way is not None or self._spent_s >= BURST_CPU_S:
                return
            self._look(subnet, now)

    def _is_master(self, subnet: str) -> bool:
        member = self.members.get(subnet)
        return member is not None and member.state.role is Role.MASTER and member.handles is not None

    def _look(self, subnet: str, now: float) -> None:
        usage, counters = self.members[subnet].usage, self.members[subnet].usage.counters
        if counters is None or counters.conntrack is None:
            return
        self._looked_at[subnet] = now
        if counters.conntrack <= FEW:
            usage.ports = PortsSeen(counters.conntrack, 0.0, now)
            return
        self._under_way = subnet
        self._ask(subnet, now)

    def _ask(self, subnet: str, now: float) -> None:
        self.tables.ask(
            Question(
                subnet,
                lambda table: _count(subnet, table),
                lambda problem: PortsCounted(subnet, None, 0.0, now, problem),
            )
        )


def _count(subnet: str, table: Conntrack) -> Message:
    at, began_s = time.monotonic(), time.thread_time()
    ports = table.busiest_ports()
    return PortsCounted(subnet, ports, time.thread_time() - began_s, at, None)
