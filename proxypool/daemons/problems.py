"""What is wrong with the whole machine, by topic: logged once when it begins and once when it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from proxypool.adapters.zookeeper import PoolSession
from proxypool.core.errors import ProxypoolError
from proxypool.core.role import Coordinator

T = TypeVar("T")
log = logging.getLogger(__name__)

GRACE_S = 3.0
"""Time to connect to ZooKeeper for the first time before it is called a problem."""


class Problems:
    """At most one problem of each topic."""

    def __init__(self) -> None:
        """Nothing is known to be wrong."""
        self._by_topic: dict[str, str] = {}

    def note(self, topic: str, problem: str | None) -> None:
        """What is wrong with a topic now; None: nothing."""
        if problem == self._by_topic.get(topic):
            return
        if problem is None:
            log.info("%s: well again", topic)
            del self._by_topic[topic]
        else:
            log.warning("%s", problem)
            self._by_topic[topic] = problem

    def forget(self, topic: str) -> None:
        """What was wrong with a topic, so that the same again is told again."""
        self._by_topic.pop(topic, None)

    def attempt(self, topic: str, act: Callable[[], T]) -> T | None:
        """What an act makes; None if it failed: that is noted, and the daemon goes on without it."""
        try:
            return act()
        except ProxypoolError as error:
            self.note(topic, str(error))
            return None

    def __contains__(self, topic: str) -> bool:
        """Whether something is wrong with a topic."""
        return topic in self._by_topic

    @property
    def topics(self) -> tuple[str, ...]:
        """What something is wrong with."""
        return tuple(self._by_topic)

    def __iter__(self) -> Iterator[str]:
        """The texts."""
        return iter(tuple(self._by_topic.values()))


def silence_of(session: PoolSession, hosts: tuple[str, ...], started_at: float, consequence: str) -> str | None:
    """What to say when ZooKeeper does not answer; None when it does, or may still be connecting for the first time.

    `started_at` is when the daemon started (monotonic seconds).
    """
    if session.state is Coordinator.CONNECTED:
        return None
    if session.last_seen is None and time.monotonic() - started_at < GRACE_S:
        return None
    return f"ZooKeeper {','.join(hosts)} does not answer; {consequence}"
