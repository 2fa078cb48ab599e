"""Pairs as the simulator has them: they take time to come and to go, and every second of theirs is counted. Pure.

The same for every policy: how long an added pair takes, what a pair carries, how long a flow lives. What differs is
what becomes of the flows on a pair that goes (`Leaving`).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Annotated

from msgspec import Meta, Struct

from proxypool.core.scaling.model import MAX_PAIRS

Seconds = Annotated[float, Meta(gt=0.0, le=86_400.0)]


class World(Struct, frozen=True, kw_only=True):
    """What is the same for all policies."""

    add_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] = 10.0
    """From the decision until a new pair serves: provider, namespaces, readiness, the first echo."""
    adds_at_once: Annotated[int, Meta(ge=1)] = MAX_PAIRS
    """More pairs than these wait for one another."""
    round_s: Seconds = 2.0
    """Between two looks of the controller."""
    flow_s: Seconds = 10.0
    """Mean life of a flow; lives are exponential."""
    flows_per_pair: Annotated[float, Meta(ge=1.0)] = 5000.0
    """On a pair that is full."""
    deadline_s: Seconds = 3600.0
    """A drain ends after so long; what is left then is cut."""
    max_pairs: Annotated[int, Meta(ge=1)] = MAX_PAIRS
    rival_reserve: Annotated[int, Meta(ge=0)] = 1
    """Pairs that a rival gets beyond what it asks for, so that it too survives the loss of one."""


class Leaving(Struct, frozen=True):
    """How a pair goes."""

    patience_s: float
    """Flows that live on after so long are cut."""
    is_early: bool
    """Go as soon as no flow is left."""


class Fleet:
    """Serving, coming and leaving pairs of one subnet, and what they amount to."""

    def __init__(self, world: World, leaving: Leaving, at: float, serving: int) -> None:
        self.now = at
        self.serving = serving
        self.load: float | None = None
        """In pairs; None: not known, and then neither overload nor slack is counted."""
        self.timeline = [(at, serving)]
        """Each change of `serving`."""
        self.actions = self.added = self.removed = 0
        self.overload_s = self.unsafe_s = self.known_s = self.pair_s = 0.0
        self.slack_s = self.capacity_s = 0.0
        """Pair seconds beyond the reserve: without work, and all of them."""
        self.broken_flows = 0.0
        self.reactions: list[float] = []
        self._world = world
        self._leaving_terms = leaving
        self._coming: deque[float] = deque()
        self._leaving: deque[float] = deque()
        self._short_since: float | None = None

    @property
    def coming(self) -> int:
        """Pairs that are being added."""
        return len(self._coming)

    @property
    def leaving(self) -> int:
        """Pairs that drain."""
        return len(self._leaving)

    @property
    def next_change(self) -> float:
        """When a pair begins to serve, or one that drains is gone; infinity: none."""
        coming = self._coming[0] if self._coming else math.inf
        return min(coming, self._leaving[0]) if self._leaving else coming

    def advance(self, until: float) -> None:
        """Let time pass."""
        while (change := self.next_change) <= until:
            self._pass(change)
            while self._leaving and self._leaving[0] <= change:
                self._leaving.popleft()
            arrived = 0
            while self._coming and self._coming[0] <= change:
                self._coming.popleft()
                arrived += 1
            if arrived:
                self._serve(self.serving + arrived)
        self._pass(until)

    def offer(self, load: float | None) -> None:
        """From now on this is the load."""
        self.load = load
        self._watch()

    def resize(self, wanted: int) -> None:
        """Add or remove pairs until this many serve or come. Those that come are removed first: they carry nothing."""
        have = self.serving + len(self._coming)
        if wanted == have:
            return
        self.actions += 1
        if wanted > have:
            self.added += wanted - have
            for _ in range(wanted - have):
                self._begin_add()
            return
        self.removed += have - wanted
        while self._coming and have > wanted:
            self._coming.pop()
            have -= 1
        if have > wanted:
            self._remove(have - wanted)

    def _begin_add(self) -> None:
        coming, at_once = self._coming, self._world.adds_at_once
        begins = coming[-at_once] if len(coming) >= at_once else self.now
        coming.append(begins + self._world.add_s)

    def _remove(self, pairs: int) -> None:
        # Flows are on all pairs alike. Those of a pair that goes end one by one; new ones go elsewhere.
        full = min(1.0, (self.load or 0.0) / self.serving)
        flows = self._world.flows_per_pair * full
        mean, terms = self._world.flow_s, self._leaving_terms
        empty_s = mean * math.log(flows) if flows > 1 else 0.0
        stay_s = min(empty_s, terms.patience_s) if terms.is_early else terms.patience_s
        if empty_s > terms.patience_s:
            self.broken_flows += pairs * flows * math.exp(-terms.patience_s / mean)
        gone = self.now + stay_s
        self._leaving = deque(sorted((*self._leaving, *[gone] * pairs)))
        self._serve(self.serving - pairs)

    def _serve(self, serving: int) -> None:
        self.serving = serving
        self.timeline.append((self.now, serving))
        self._watch(is_arrival=True)

    def _watch(self, *, is_arrival: bool = False) -> None:
        """Time how long the load did not fit with one pair lost, if it was new pairs that ended it."""
        is_short = self.load is not None and self.load > self.serving - 1
        if is_short and self._short_since is None:
            self._short_since = self.now
        elif not is_short and self._short_since is not None:
            if is_arrival:
                self.reactions.append(self.now - self._short_since)
            self._short_since = None

    def _pass(self, until: float) -> None:
        span = until - self.now
        self.now = until
        serving = self.serving
        self.pair_s += span * (serving + len(self._coming) + len(self._leaving))
        load = self.load
        if load is None:
            return
        self.known_s += span
        beyond = serving - 1
        self.capacity_s += span * beyond
        if load <= beyond:
            self.slack_s += span * (beyond - load)
            return
        self.unsafe_s += span
        if load > serving:
            self.overload_s += span
