"""The connections of instances that were detached: they end before the answer, not some time later.

A platform gives the address of an instance that it stopped to the next one, of another customer with the same CIDR: a
datagram of that one must not follow the entry of a flow of the first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from proxypool.adapters.conntrack import Conntrack, Flow
from proxypool.core.errors import ProxypoolError
from proxypool.core.steering import MarkLayout

log = logging.getLogger(__name__)

FEW = 8
"""Instances that are looked for one by one: more of them are found quicker in one listing of everything."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """What an instance may no longer reach."""

    cidrs: tuple[IPv4Network, ...]
    group: int | None
    """Number of the group that the instance is in now, if any: what carries it is new, and stays."""


class Cutter:
    """Deletes connections. May be called from any thread. `conntrack` must be of the machine's own namespace, and is
    used by nobody else.
    """

    def __init__(self, conntrack: Conntrack, marks: MarkLayout) -> None:
        self._conntrack, self._marks = conntrack, marks
        self._lock = threading.Lock()
        self.cuts = 0
        """Connections cut since the start."""

    def cut(self, let_go: Mapping[IPv4Address, LetGo]) -> bool:
        """End the connections of instances (by address) that they may no longer have; whether it could be done.

        What such a connection sends next is new, and refused or steered as anything that is new.
        """
        try:
            with self._lock:
                self.cuts += self._conntrack.delete(
                    [flow for flow in self._flows(let_go) if self._is_over(flow, let_go)]
                )
        except ProxypoolError as error:
            log.warning("connections could not be cut: %s", error)
            return False
        return True

    def _flows(self, let_go: Mapping[IPv4Address, LetGo]) -> Iterator[Flow]:
        if len(let_go) > FEW:
            yield from self._conntrack.flows(0, 0)
            return
        for address in let_go:
            yield from self._conntrack.flows_of(address)

    def _is_over(self, flow: Flow, let_go: Mapping[IPv4Address, LetGo]) -> bool:
        found = let_go.get(flow.source)
        return (
            found is not None
            and bool(flow.mark & self._marks.mask)
            and self._marks.group(flow.mark) != found.group
            and flow.goes_to(found.cidrs)
        )
