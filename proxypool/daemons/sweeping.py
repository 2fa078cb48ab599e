"""Looks now and then for what the provider holds and nothing needs, and gives it back.

It is rare: a leader that was paused between its write and its call, or a pair that an operator removed. What is found
twice is released: the first time something may be on its way that is in no document yet.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from proxypool.core.model import PairSpec
from proxypool.core.scaling.documents import Action
from proxypool.core.scaling.leaks import Thing, leaks
from proxypool.daemons.provider_calls import Pool, ProviderCalls

log = logging.getLogger(__name__)

SWEEP_S = 300.0


class Sweeping:
    """Of a leader's time. Times are monotonic seconds."""

    def __init__(self, calls: ProviderCalls) -> None:
        """Nothing was seen."""
        self._calls = calls
        self._suspects: frozenset[Thing] = frozenset()
        self._due = 0.0

    def lead(self, now: float) -> None:
        """Another has led until now: what was suspect then is not."""
        self._suspects, self._due = frozenset(), now + SWEEP_S

    def second_passed(self, pool: Pool, now: float) -> None:
        """Ask again when it is time."""
        if now >= self._due:
            self._due = now + SWEEP_S
            self._calls.ask_held(pool)

    def saw(
        self,
        held: frozenset[Thing],
        pairs: Mapping[str, Mapping[str, PairSpec]],
        actions: Collection[Action],
        pool: Pool,
    ) -> None:
        """The provider's answer."""
        found = leaks(held, pairs, actions)
        with_cards = {thing[:2] for thing in found if thing[2]}
        for thing in sorted(found & self._suspects):
            if not thing[2] and thing[:2] in with_cards:
                # Its cards go first.
                continue
            log.warning("%s/%s: nothing needs what the provider holds%s: releasing it", *thing[:2], _where(thing))
            self._calls.release(thing, pool)
        self._suspects = found


def _where(thing: Thing) -> str:
    return f" on {thing[2]}" if thing[2] else " for it (addresses)"
