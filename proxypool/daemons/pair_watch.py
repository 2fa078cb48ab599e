"""Which HaVips answer: asked from time to time with an ICMP echo, on a thread of its own.

ZooKeeper tells of a pair whose members have both died only when their sessions end, seconds later; and it tells of
nothing when only their daemons died and traffic goes on. So the HaVip itself is asked. Silence moves no connection: new
ones go elsewhere as long as another pair answers. And a pair that has just been added gets none until it has answered:
its members take seconds to elect one that claims the HaVip.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Address

from proxypool.adapters.echo import EchoSocket
from proxypool.core.errors import ProxypoolError
from proxypool.daemons.messages import HavipsAsked

log = logging.getLogger(__name__)

RETRY_S = 1.0
MISSES = 3
"""Rounds without an answer before a HaVip counts as silent: longer than a failover takes. It may have died just after a
round: with 200 ms from one to the next new connections go elsewhere after 0.8 s at the latest.
"""
PROOF_ROUNDS = 25
"""After so many a HaVip that never answered is taken for one that cannot, as echo may be filtered here; 5 s with 200 ms
from one round to the next.
"""


class PairWatch:
    """Owner of the thread. `on_change` is called on it when there is something else to say than before."""

    def __init__(self, interval_s: float, on_change: Callable[[HavipsAsked], None]) -> None:
        """Nothing is started. `interval_s`: from one round to the next."""
        self._interval_s, self._on_change = interval_s, on_change
        self._changed = threading.Condition()
        self._wanted: frozenset[IPv4Address] = frozenset()
        self._misses: dict[IPv4Address, int] = {}
        """Rounds since the last answer; a HaVip that never answered is not in there: echo may be filtered here."""
        self._unanswered: dict[IPv4Address, int] = {}
        """Rounds without an answer of those that are not in there."""
        self._said = HavipsAsked(frozenset(), frozenset())
        self._is_stopping = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="pair-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout=5)

    def want(self, havips: frozenset[IPv4Address]) -> None:
        """The HaVips to ask."""
        with self._changed:
            self._wanted = havips
            self._changed.notify()

    @property
    def problem(self) -> str | None:
        """Why HaVips cannot be asked; None: they can."""
        return self._problem

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                with closing(EchoSocket()) as echo:
                    self._problem = None
                    self._watch(echo)
            except ProxypoolError as error:
                self._problem = f"HaVips cannot be asked for an echo: {error}"
            except Exception:
                log.exception("the watch of HaVips failed")
                self._problem = "HaVips cannot be asked for an echo: see the log"
            if not self._is_stopping:
                self._say(HavipsAsked(self._said.silent, self._wanted))
            self._sleep(time.monotonic() + RETRY_S)

    def _watch(self, echo: EchoSocket) -> None:
        while True:
            with self._changed:
                while not self._is_stopping and not self._wanted:
                    self._misses.clear()
                    self._unanswered.clear()
                    self._changed.wait()
                if self._is_stopping:
                    return
                wanted = self._wanted
            echo.send(wanted)
            self._sleep(time.monotonic() + self._interval_s)
            self.count(wanted, echo.receive())

    def _sleep(self, until: float) -> None:
        with self._changed:
            while not self._is_stopping and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def count(self, asked: frozenset[IPv4Address], answered: frozenset[IPv4Address]) -> None:
        """One round: who was asked, and who has answered since."""
        self._misses = {
            havip: 0 if havip in answered else self._misses[havip] + 1
            for havip in asked
            if havip in answered or havip in self._misses
        }
        self._unanswered = {havip: self._unanswered.get(havip, 0) + 1 for havip in asked - self._misses.keys()}
        silent = frozenset(havip for havip, misses in self._misses.items() if misses >= MISSES)
        mute = frozenset(havip for havip, rounds in self._unanswered.items() if rounds >= PROOF_ROUNDS)
        self._say(HavipsAsked(silent, mute | self._misses.keys()))

    def _say(self, what: HavipsAsked) -> None:
        if what != self._said:
            self._said = what
            self._on_change(what)
