"""Whom the node listens to: the other member of each of its pairs, so that it knows when it was heard last."""

from __future__ import annotations

import logging
from ipaddress import IPv4Address

from proxypool.adapters.vrrp_ear import VrrpEar
from proxypool.core.errors import ProxypoolError
from proxypool.core.history import Heard
from proxypool.core.model import PairSpec, Snapshot

log = logging.getLogger(__name__)


class Listening:
    """On the main loop. Without eBPF it knows nothing, and failovers are recorded without their detection."""

    def __init__(self, node: str) -> None:
        """Listen in the calling thread's network namespace."""
        self._node, self._snapshot = node, Snapshot()
        self._ear: VrrpEar | None = None
        try:
            self._ear = VrrpEar()
        except ProxypoolError as error:
            log.warning("%s: how long failures take to be detected is not measured", error)

    @property
    def is_possible(self) -> bool:
        """Whether this kernel lets us."""
        return self._ear is not None

    def follow(self, snapshot: Snapshot) -> None:
        """Listen to the members that the documents name."""
        last, self._snapshot = self._snapshot, snapshot
        if self._ear is None or (last.pairs == snapshot.pairs and last.nodes == snapshot.nodes):
            return
        senders = (self._sender(pair) for pair in snapshot.pairs_on(self._node))
        try:
            self._ear.follow(sender for sender in senders if sender is not None)
        except OSError as error:
            log.warning("cannot time the VRRP advertisements of all pairs: %s", error.strerror)

    def heard(self, pair: PairSpec) -> Heard | None:
        """When the other member of a pair was heard; None: nobody listens."""
        sender = self._sender(pair)
        return self._ear.heard(sender) if self._ear is not None and sender is not None else None

    def _sender(self, pair: PairSpec) -> tuple[IPv4Address, int] | None:
        peer = pair.peer_of(self._node)
        spec = self._snapshot.nodes.get(peer.node) if peer is not None else None
        return (spec.underlay, pair.vrid) if spec is not None else None

    def close(self) -> None:
        """Stop listening."""
        if self._ear is not None:
            self._ear.close()
