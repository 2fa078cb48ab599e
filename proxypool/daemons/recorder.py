"""Tells what happened: each change of master in the log, in the metrics and in the pool's history.

On a thread of its own, and after a short wait: when a hundred pairs fail over at once, packets wait for the main loop,
and nobody waits for this. While ZooKeeper is away records wait in memory, the newest `MAX_WAITING` of them; a daemon
that ends before they are written loses them, and its successor says of the last one that it was not seen.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from proxypool.adapters.zookeeper import PoolHistory, PoolSession
from proxypool.core.documents import to_builtins
from proxypool.core.errors import ProxypoolError
from proxypool.core.history import Kind, Phase, Reason, Record, last_of_each, name_of, parse_name
from proxypool.core.role import Coordinator

log = logging.getLogger(__name__)

SETTLE_S = 0.5
"""From the first news to the work on it; what else comes meanwhile is worked on together."""
RETRY_S = 1.0
MAX_WAITING = 200
MAX_TOLD = 1000
"""Several changes of each pair that a node can have."""
LEAVE_WITHIN_S = 1.0
PRUNE_WITHIN_S = 1.0
"""Several daemons that find the log too full wait up to so long, and look again."""


class Audience(Protocol):
    """Who counts; the metrics are one."""

    def changed(self, record: Record) -> None:
        """A change of master."""

    def measured(self, record: Record, phases: Mapping[str, float]) -> None:
        """Phases of a change that were not known before."""

    def history_waits(self, waiting: int, dropped: int) -> None:
        """So many records are not written yet; so many more were given up."""


class Recorder:
    """See the module's text. `put` may be called from any thread."""

    def __init__(
        self, session: PoolSession, audience: Audience, tell: Callable[[Record], None], *, settle_s: float = SETTLE_S
    ) -> None:
        """`tell` gets each record once it is known whose doing it was, on the recorder's thread."""
        self._session, self._audience, self._tell, self._settle_s = session, audience, tell, settle_s
        self._history = PoolHistory(session)
        self._wake = threading.Condition()
        self._news: list[Record] = []
        self._is_due = self._is_stopping = False
        self._told: OrderedDict[str, Record] = OrderedDict()
        """By name, what was told: for what becomes known later."""
        self._waiting: OrderedDict[str, Record] = OrderedDict()
        """By name, what is to be written."""
        self._doubtful: dict[str, Record] = {}
        """By pair, what a daemon found when it started: perhaps it is in the log already."""
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._session.subscribe(self._on_link)
        self._thread.start()

    def stop(self) -> None:
        """Write what can be written at once, and end."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(LEAVE_WITHIN_S)

    def put(self, record: Record) -> None:
        """A change of master, or one that more is known of now."""
        with self._wake:
            self._news.append(record)
            if len(self._news) == 1:
                # The first of many: the others must not wake a thread in the middle of a mass failover.
                self._wake.notify()

    def _on_link(self, state: Coordinator, _session: int | None) -> None:
        if state is Coordinator.CONNECTED:
            with self._wake:
                self._is_due = True
                self._wake.notify()

    def _run(self) -> None:
        while not self._is_stopping:
            with self._wake:
                has_rest = bool(self._waiting or self._doubtful) and self._is_connected
                self._wake.wait_for(
                    lambda: self._is_stopping or self._news or self._is_due, timeout=RETRY_S if has_rest else None
                )
                if not self._is_stopping:
                    self._wake.wait_for(lambda: self._is_stopping, timeout=self._settle_s)
                news, self._news = self._news, []
                self._is_due = False
            try:
                self._work(news)
            except Exception:
                # The thread must live: without it nothing would be told any more.
                log.exception("cannot record what happened")

    @property
    def _is_connected(self) -> bool:
        return self._session.state is Coordinator.CONNECTED

    def _work(self, news: list[Record]) -> None:
        for record in news:
            if record.reason == Reason.UNSEEN:
                self._doubtful[f"{record.subnet}/{record.pair}"] = record
            else:
                self._take(record)
        if self._is_connected and (self._waiting or self._doubtful):
            try:
                self._write()
            except ProxypoolError as error:
                log.debug("the history is written later: %s", error)
        self._audience.history_waits(len(self._waiting) + len(self._doubtful), self._dropped)

    def _take(self, record: Record) -> None:
        name = name_of(record).text
        before = self._told.get(name)
        if before is None:
            record = self._attributed(record)
            self._announce(record)
        else:
            record = msgspec.structs.replace(
                record, kind=before.kind, reason=before.reason, who=before.who, note=before.note
            )
            self._tell(record)
        known = before.phases if before is not None else {}
        new = {phase: seconds for phase, seconds in record.phases.items() if phase not in known}
        self._audience.measured(record, new)
        self._told[name] = self._waiting[name] = record
        while len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)
            self._dropped += 1

    def _attributed(self, record: Record) -> Record:
        """With whoever asked for it, if somebody did: the intent names the epoch that made the new master."""
        if record.reason != Reason.ELECTION or not self._is_connected:
            return record
        try:
            intent = self._history.intent(record.subnet, record.pair)
        except ProxypoolError as error:
            log.debug("%s/%s: who asked for it is not known: %s", record.subnet, record.pair, error)
            return record
        if intent is None or intent.epoch != record.epoch:
            return record
        return msgspec.structs.replace(
            record, kind=Kind.SWITCHOVER.value, reason=Reason.SWITCHOVER.value, who=intent.who, note=intent.note
        )

    def _announce(self, record: Record) -> None:
        log.info("%s", sentence(record), extra={"fields": {"event": "change-of-master", **to_builtins(record)}})
        self._audience.changed(record)
        self._tell(record)

    def _write(self) -> None:
        if self._doubtful:
            self._resolve_doubtful()
        batch = dict(self._waiting)
        if not batch:
            return
        self._history.write(list(batch.values()))
        for name, record in batch.items():
            if self._waiting.get(name) is record:
                del self._waiting[name]
        if self._history.is_overfull:
            time.sleep(random.uniform(0, PRUNE_WITHIN_S))  # noqa: S311 - spreads rivals, keeps no secret
            if self._history.is_overfull:
                self._history.prune()

    def _resolve_doubtful(self) -> None:
        """A master that the log knows, or of whose pair it knows nothing, was master before: its daemon restarted."""
        last = last_of_each((*self._history.names(), *self._waiting))
        known = self._history.read(last[pair] for pair in self._doubtful if pair in last)
        doubtful, self._doubtful = self._doubtful, {}
        for pair, record in doubtful.items():
            name = parse_name(last.get(pair, ""))
            if name is not None and name.to_node != record.to_node:
                self._take(record)
        for record in known.records:
            if record.to_node == doubtful[f"{record.subnet}/{record.pair}"].to_node:
                self._tell(record)


def sentence(record: Record) -> str:
    """`failover s1/p1: node-a -> node-b: silent; detection 0.1312 s, …; 12 connections carried over; epoch 34`."""
    parts = [f"{record.kind} {record.subnet}/{record.pair}: {record.from_node or 'nobody'} -> {record.to_node}: "]
    parts[0] += (
        record.reason + (f" by {record.who}" if record.who else "") + (f" ({record.note})" if record.note else "")
    )
    known = [f"{phase.value} {record.phases[phase.value]:.4f} s" for phase in Phase if phase.value in record.phases]
    if known:
        parts.append(", ".join(known))
    if record.carried_over is not None:
        parts.append(f"{record.carried_over} connections carried over")
    parts.append(f"epoch {record.epoch}")
    return "; ".join(parts)
