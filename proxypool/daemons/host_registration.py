"""How the pool knows this host: its document, its tunnel address, and that it lives."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from ipaddress import IPv4Address

from proxypool import __version__
from proxypool.adapters.zookeeper import PoolSession, Presence
from proxypool.adapters.zookeeper.registry import Registry
from proxypool.core.errors import ProxypoolError
from proxypool.core.model import HostSpec, PoolSpec, Snapshot
from proxypool.core.role import Coordinator
from proxypool.daemons.beat import Beat

log = logging.getLogger(__name__)

RETRY_S = 1.0
CHECK_S = 30.0
"""Should somebody remove what was registered, it is there again after this."""
BEAT_S = 60.0
"""Hosts are many: a beat of each is a write to ZooKeeper."""


class HostRegistration:
    """Blocking; called from the main loop."""

    def __init__(
        self,
        session: PoolSession,
        presence: Presence,
        name: str,
        underlay: IPv4Address,
        metrics: str,
        *,
        is_tls: bool,
    ) -> None:
        """Nothing is registered. `metrics`: where they are served, `address:port`; `is_tls`: and how."""
        self._session, self._name, self._underlay = session, name, underlay
        self._metrics, self._is_tls = metrics, is_tls
        self._registry = Registry(session)
        self._beat = Beat(presence, f"hosts/{name}/alive", underlay, BEAT_S)
        self._due = 0.0
        self.address: IPv4Address | None = None
        """The host's tunnel address; None: not known yet."""
        self.is_registered = False
        self.problem: str | None = None

    def hasten(self) -> None:
        """Look at it with the next call, whenever the last one was."""
        self._due = 0.0

    def refresh(self, spec: PoolSpec | None, now: float) -> bool:
        """Register, or register again, if it is time to; whether the tunnel address is another than before."""
        if self._session.state is not Coordinator.CONNECTED or now < self._due or spec is None:
            return False
        self._due = now + RETRY_S
        try:
            address = self._registry.allocate_tunnel_address(self._name, spec.tunnel_range)
            document = HostSpec(
                id=self._name,
                underlay=self._underlay,
                tunnel_address=address,
                metrics=self._metrics.replace("0.0.0.0", str(self._underlay)),  # noqa: S104 - only read
                version=__version__,
                owner=self._session.credentials.owner,
                metrics_tls=self._is_tls,
            )
            self._registry.register_host(document, self._beat.alive)
        except ProxypoolError as error:
            self.problem = str(error)
            return False
        self.problem, self.is_registered = None, True
        self._due = now + CHECK_S
        has_changed = address != self.address
        if has_changed:
            log.info("registered as %s, tunnel address %s", self._name, address)
            self.address = address
        return has_changed

    def publish(self, problems: Iterable[str], snapshot: Snapshot, attachments: int, now: float) -> None:
        """That we live, what is wrong, and how many instances are attached."""
        if self.is_registered:
            self._beat.publish(problems, snapshot, now, attachments)
