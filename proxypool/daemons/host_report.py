"""What others see of a host agent: metrics, the local API's status, and the sentences that `status` shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from proxypool.adapters.zookeeper import PoolSession
from proxypool.core.role import Coordinator
from proxypool.daemons.attachments import Attachments
from proxypool.daemons.cutting import Cutter
from proxypool.daemons.host_registration import HostRegistration
from proxypool.daemons.pair_watch import PairWatch
from proxypool.daemons.problems import Problems
from proxypool.daemons.registrar import Registrar
from proxypool.daemons.steerer import Steerer
from proxypool.telemetry.metrics import HostView


@dataclass
class HostReport:
    """Called from any thread: reads values that the main loop replaces whole."""

    name: str
    session: PoolSession
    registration: HostRegistration
    steerer: Steerer
    attachments: Attachments
    registrar: Registrar
    pair_watch: PairWatch
    cutter: Cutter
    problems: Problems
    started_at: float
    """Monotonic seconds."""
    is_ready: bool = False

    def findings(self) -> Iterator[str]:
        """What is wrong with the machine and with single subnets."""
        yield from self.problems
        for name, why in sorted(self.steerer.refused.items()):
            yield f"subnet {name} is not served to all instances: {why}"
        for name in self.steerer.unknown_subnets:
            yield f"subnet {name} of this host's configuration: the pool has no such subnet"
        for name in sorted(self.attachments.unknown_subnets()):
            yield f"instances are attached to subnet {name}, which the pool does not have: detach them"
        for group in self.steerer.book.crowded if self.steerer.book is not None else ():
            yield f"subnet {', '.join(group)}: too many pairs or ways of sharing; some get no new connections"
        if self.pair_watch.problem is not None:
            yield self.pair_watch.problem
        if self.registrar.problem is not None and "zookeeper" not in self.problems:
            yield self.registrar.problem

    def sentence(self) -> str:
        """For the service manager."""
        subnets, attachments = len(self.steerer.subnets_in_use), self.attachments.count()
        what = f"{subnets} subnets, {attachments} attachments" if self.is_ready else f"starting: {self._unready()}"
        return "; ".join((what, *self.findings()))

    def _unready(self) -> str:
        if self.registration.address is not None:
            return "programming tunnels, routes and rules"
        is_connected = self.session.state is Coordinator.CONNECTED
        return "waiting for the pool and a tunnel address" if is_connected else "waiting for ZooKeeper"

    def status(self) -> dict[str, object]:
        """For the local API."""
        address = self.registration.address
        return {
            "host": self.name,
            "ready": self.is_ready,
            "zookeeper": self.session.state.value,
            "tunnelAddress": str(address) if address else None,
            "subnets": sorted(self.steerer.subnets_in_use),
            "problems": list(self.findings()),
        }

    def view(self) -> HostView:
        """For the metrics."""
        book = self.steerer.book
        return HostView(
            is_zookeeper_connected=self.session.state is Coordinator.CONNECTED,
            zookeeper_silence_s=time.monotonic() - (self.session.last_seen or self.started_at),
            subnets_served=len(self.steerer.subnets_in_use),
            subnets_refused=len(self.steerer.refused),
            malformed_documents=len(self.steerer.snapshot.malformed),
            attachments=self.attachments.count(),
            paths=len(book.paths) if book is not None else 0,
            retired_paths=len(book.retired()) if book is not None else 0,
            havips_silent=len(self.steerer.silent),
            havips_dead=len(self.steerer.dead),
            connections_cut=self.steerer.cuts + self.cutter.cuts,
            silent_pairs=self.steerer.silent_pairs(),
            problems=self.problems.topics,
        )
