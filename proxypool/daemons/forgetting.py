"""A member that is no longer master forgets its connections, where the pair has no egress address.

They are lost: the new master's packets leave with the address of its own ENI. But the customer's servers go on sending
to the old one's. What belongs to a connection there is to be forwarded, so the closed gate drops it without a word, and
the server waits for minutes. Once the state is gone such a packet is for the ENI's own address, of no connection, and
gets a RST.

Where there is an egress address, servers do not send here, and the state is what the members share.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from proxypool.adapters.conntrack import Conntrack
from proxypool.adapters.sysctl import read_sysctl
from proxypool.core.addressing import namespace_of
from proxypool.core.role import Role
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.member import Member

log = logging.getLogger(__name__)

AFTER_S = 0.3
"""So long the gate must have been closed: a member that gets the HaVip back at once goes on with what was idle."""


@dataclass
class Forgetting:
    """For all members of a node, by subnet. Runs on the main loop; tables are emptied on the dataplane thread."""

    members: Mapping[str, Member]
    dataplane: Dataplane
    _closed_since: dict[str, float] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def second_passed(self, now: float) -> None:
        """Have those that closed their gate a moment ago forget."""
        for subnet, member in self.members.items():
            is_closed = member.state.role in {Role.BACKUP, Role.FAULT} and member.gate is False
            if not is_closed or member.pair.egress_address is not None:
                self._closed_since.pop(subnet, None)
                self._done.discard(subnet)
            elif subnet not in self._done and now - self._closed_since.setdefault(subnet, now) >= AFTER_S:
                self._done.add(subnet)
                self.dataplane.submit(lambda subnet=subnet: self._forget(subnet))  # type: ignore[misc]
        for gone in self._closed_since.keys() - self.members.keys():
            del self._closed_since[gone]
            self._done.discard(gone)

    def _forget(self, subnet: str) -> None:
        """On the dataplane thread."""
        if self.dataplane.home is None:
            return
        with self.dataplane.home.inside(namespace_of(subnet)), closing(Conntrack()) as table:
            if read_sysctl("ipv4/ip_forward") == "0":
                table.forget_all()
