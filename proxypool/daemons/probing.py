"""Asking, for every member of this node, whether the customer's network is there behind its ENI.

One thread for all: twice a second each ENI is looked at for its carrier, and its target, if it has one, is asked; the
members take turns, so that a node with two hundred subnets asks one every few milliseconds. What changed is posted. The
sockets are opened inside the namespaces, on the dataplane thread.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from proxypool.adapters.eni_probe import EniProbe
from proxypool.core.addressing import ENI_DEVICE, namespace_of
from proxypool.core.errors import ProxypoolError
from proxypool.core.health import PROBE_INTERVAL_S, Probe, ProbeTrack
from proxypool.core.model import PairSpec
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.messages import EniProbed, Message

log = logging.getLogger(__name__)

GRAIN_S = 0.01
"""Members whose turn comes within this are asked together."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a member asks, and as whom."""

    address: IPv4Address
    target: IPv4Address | None
    is_onlink: bool

    @staticmethod
    def of(pair: PairSpec, node: str) -> Target | None:
        """The pair's probe target, else the member's gateway, else nobody."""
        member = pair.member(node)
        if member is None:
            return None
        target = pair.probe or member.gateway
        is_onlink = target is not None and target in member.address.network
        return Target(member.address.ip, target, is_onlink)


@dataclass(slots=True)
class _Asked:
    """A member on the thread."""

    probe: EniProbe
    next_at: float
    track: ProbeTrack = field(default_factory=ProbeTrack)
    told: tuple[Probe, bool] | None = None


class Probing:
    """See the module's text. `want` and `forget` are called on the main loop."""

    def __init__(self, dataplane: Dataplane, post: Callable[[Message], None]) -> None:
        """Nothing is started."""
        self._dataplane, self._post = dataplane, post
        self._targets: dict[str, Target] = {}
        """As last asked for; only the main loop touches it."""
        self._lock = threading.Lock()
        self._asked: dict[str, _Asked] = {}
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._is_stopping = False
        self._turn = 0
        self._thread = threading.Thread(target=self._run, name="probing", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._is_stopping = True
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def want(self, subnet: str, target: Target, *, anew: bool = False) -> None:
        """Ask this from now on; `anew`: the ENI may be another one than before."""
        if anew or self._targets.get(subnet) != target:
            self._targets[subnet] = target
            self._dataplane.submit(lambda: self._open(subnet, target))

    def forget(self, subnet: str) -> None:
        """Ask no longer."""
        self._targets.pop(subnet, None)
        # Closing a packet socket waits for all of the kernel's receivers: some 10 ms.
        self._dataplane.submit(lambda: self._drop(subnet) if subnet not in self._targets else None)

    def rtt_s(self, subnet: str) -> float | None:
        """Round trip of the last answer, None if there is none."""
        asked = self._asked.get(subnet)
        return asked.track.rtt_s if asked is not None else None

    def _open(self, subnet: str, target: Target) -> None:
        """On the dataplane thread, which alone enters namespaces."""
        home = self._dataplane.home
        if home is None or self._targets.get(subnet) != target:
            return
        self._drop(subnet)
        try:
            with home.inside(namespace_of(subnet)):
                probe = EniProbe(ENI_DEVICE, target.address, target.target, is_onlink=target.is_onlink)
        except (OSError, ProxypoolError) as error:
            # It is opened again when the namespace is.
            log.info("%s: cannot probe through the ENI: %s", subnet, error)
            return
        with self._lock:
            # Golden ratio: however many there are, their turns are spread over the interval.
            self._turn += 1
            phase = (self._turn * 0.618034) % 1.0 * PROBE_INTERVAL_S
            self._asked[subnet] = asked = _Asked(probe, time.monotonic() + phase)
            if probe.has_target:
                self._selector.register(probe, selectors.EVENT_READ, (subnet, asked))
        os.eventfd_write(self._wake, 1)

    def _drop(self, subnet: str) -> None:
        with self._lock:
            asked = self._asked.pop(subnet, None)
            if asked is not None:
                if asked.probe.has_target:
                    self._selector.unregister(asked.probe)
                asked.probe.close()

    def _run(self) -> None:
        while not self._is_stopping:
            with self._lock:
                due = min((asked.next_at for asked in self._asked.values()), default=None)
            events = self._selector.select(None if due is None else max(GRAIN_S, due - time.monotonic()))
            try:
                with self._lock:
                    self._hear([key.data for key, _ in events], time.monotonic())
                    self._ask(time.monotonic())
            except Exception:
                log.exception("probing through the ENIs failed")

    def _hear(self, ready: list[tuple[str, _Asked] | None], now: float) -> None:
        for item in ready:
            if item is None:
                os.eventfd_read(self._wake)
                continue
            subnet, asked = item
            if self._asked.get(subnet) is asked and asked.probe.receive():
                asked.track = asked.track.answered(now)
                self._tell(subnet, asked, has_carrier=True)

    def _ask(self, now: float) -> None:
        for subnet, asked in self._asked.items():
            if now < asked.next_at:
                continue
            # Not from when it was due: a thread that slept must not send a burst.
            asked.next_at = now + PROBE_INTERVAL_S
            if asked.probe.has_target:
                asked.probe.send()
                asked.track = asked.track.sent(now)
            self._tell(subnet, asked, has_carrier=asked.probe.has_carrier())

    def _tell(self, subnet: str, asked: _Asked, *, has_carrier: bool) -> None:
        now = (asked.track.outcome, has_carrier)
        if now != asked.told:
            asked.told = now
            self._post(EniProbed(subnet, *now))
