"""How the pool knows this node: its document, and that it lives."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from ipaddress import IPv4Address

from proxypool import __version__
from proxypool.adapters.zookeeper import PoolSession, Presence
from proxypool.adapters.zookeeper.registry import Registry
from proxypool.core.config import NODE_METRICS, MetricsConfig, NodeConfig
from proxypool.core.errors import ProxypoolError
from proxypool.core.model import Alive, NodeSpec, Snapshot
from proxypool.core.role import Coordinator
from proxypool.daemons.beat import Beat

log = logging.getLogger(__name__)

RETRY_S = 1.0
CHECK_S = 30.0
"""Should somebody remove what was registered, it is there again after this."""
BEAT_S = 5.0
"""How often the node says that its main loop lives; what it published is true until then."""


class NodeRegistration:
    """Blocking; called from the main loop. Until it is registered a node serves nothing: another machine may have its
    name.
    """

    def __init__(
        self, session: PoolSession, presence: Presence, name: str, underlay: IPv4Address, metrics: MetricsConfig
    ) -> None:
        """Nothing is registered. `metrics`: where they are served, and how."""
        self._session, self._name, self._metrics = session, name, metrics
        self._registry = Registry(session)
        self._beat = Beat(presence, f"nodes/{name}/alive", underlay, BEAT_S)
        self._due = 0.0
        self.is_registered = False
        self.problem: str | None = None

    @property
    def underlay(self) -> IPv4Address:
        """The address by which others know this machine."""
        return self._beat.alive.underlay

    @property
    def last(self) -> Alive:
        """What was published last of the whole machine, but for its time."""
        return self._beat.last

    def hasten(self) -> None:
        """Look at it with the next call, whenever the last one was."""
        self._due = 0.0

    def refresh(self, node: NodeConfig, now: float) -> bool:
        """Register, or register again, if it is time to; whether this was the first time that it succeeded."""
        if self._session.state is not Coordinator.CONNECTED or now < self._due:
            return False
        self._due = now + (CHECK_S if self.is_registered else RETRY_S)
        listen = self._metrics.listen or NODE_METRICS
        spec = NodeSpec(
            id=self._name,
            underlay=self.underlay,
            metrics=listen.replace("0.0.0.0", str(self.underlay)),  # noqa: S104 - read from the configuration
            version=__version__,
            labels=dict(node.labels),
            metrics_tls=self._metrics.tls_cert is not None,
        )
        try:
            self._registry.register_node(spec, self._beat.alive)
        except ProxypoolError as error:
            self.problem = str(error)
            return False
        self.problem = None
        was_registered, self.is_registered = self.is_registered, True
        if not was_registered:
            log.info("registered as %s", self._name)
        return not was_registered

    def publish(self, problems: Iterable[str], snapshot: Snapshot, now: float) -> None:
        """That we live, and what is wrong."""
        if self.is_registered:
            self._beat.publish(problems, snapshot, now)
