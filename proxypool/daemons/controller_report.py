"""What a controller tells of itself: its report in ZooKeeper, and the view for its metrics."""

from __future__ import annotations

import dataclasses
import os
import socket
import time

from msgspec.structs import replace

from proxypool.adapters.zookeeper import PoolMirror, PoolSession
from proxypool.adapters.zookeeper.leadership import Leader
from proxypool.core.role import Coordinator
from proxypool.core.scaling.documents import Report
from proxypool.core.scaling.model import ScalingMode
from proxypool.core.scaling.records import cut
from proxypool.daemons.controller_rounds import Rounds
from proxypool.daemons.problems import Problems
from proxypool.telemetry.controller_metrics import ControllerView, PoolContents, SubnetSize

RENEW_S = 5.0
"""A report that says nothing new is written so often: it says that we live."""


class Reporting:
    """`view` is called on another thread, and gets a value that is replaced whole."""

    def __init__(self, name: str, session: PoolSession, mirror: PoolMirror, problems: Problems) -> None:
        """Nothing was told."""
        self._who = name if name != socket.gethostname() else f"{name}:{os.getpid()}"
        self._session, self._mirror, self._problems = session, mirror, problems
        self._started_at = time.monotonic()
        self._view = ControllerView()
        self._told = Report()

    def view(self) -> ControllerView:
        """For the metrics."""
        view = self._view
        return dataclasses.replace(
            view,
            is_zookeeper_connected=self._session.state is Coordinator.CONNECTED,
            zookeeper_silence_s=time.monotonic() - (self._session.last_seen or self._started_at),
            problems=self._problems.topics,
            contents=self._contents() if view.is_leader else PoolContents(),
        )

    def _contents(self) -> PoolContents:
        snapshot, alive = self._mirror.snapshot, self._mirror.placing.nodes_alive
        return PoolContents(
            pairs=tuple((pair.subnet, pair.id, pair.state.value) for pair in snapshot.all_pairs()),
            nodes={name: name in alive for name in snapshot.nodes},
            hosts=len(snapshot.hosts),
        )

    def led_by(self, leader: Leader | None) -> None:
        """We lead from now on, or no longer."""
        self._told = Report()
        self._view = ControllerView(
            is_leader=leader is not None,
            epoch=leader.epoch if leader is not None else 0,
        )

    def report(self, rounds: Rounds, problems: tuple[str, ...], round_s: float, provider: str) -> Report | None:
        """What is to be written after a round; None: nothing is new."""
        now = time.time()
        malformed = tuple(f"document {path}: {why}" for path, why in sorted(rounds.look().malformed.items()))
        actions = tuple(f"action of subnet {name}: {why}" for name, why in sorted(rounds.malformed.items()))
        self._view = ControllerView(
            is_leader=True,
            epoch=rounds.leader.epoch,
            evaluated_at=now,
            actions=len(rounds.actions),
            malformed_documents=len(malformed) + len(actions),
            subnets=_sizes(rounds),
        )
        new = Report(
            leader=self._who,
            epoch=rounds.leader.epoch,
            at=now,
            round_s=round(round_s, 4),
            provider=provider,
            subnets=rounds.verdicts,
            problems=(*problems, *rounds.problems, *malformed, *actions),
        )
        is_same = replace(new, at=self._told.at, round_s=self._told.round_s) == self._told
        if is_same and now - self._told.at < RENEW_S:
            return None
        self._told = new
        return cut(new)


def _sizes(rounds: Rounds) -> dict[str, SubnetSize]:
    subnets = rounds.look().subnets
    failing = {action.subnet for action in rounds.actions.values() if action.error}
    found = {}
    for name, verdict in rounds.verdicts.items():
        scaling = subnets[name].scaling if name in subnets else None
        if scaling is not None:
            found[name] = SubnetSize(
                active=verdict.active,
                wanted=verdict.wanted,
                least=scaling.min_pairs,
                most=scaling.max_pairs,
                is_blocked=bool(verdict.blocked) or name in failing,
                asked=verdict.asked,
                cause=verdict.cause,
                is_paused=scaling.paused_since is not None,
                is_enforced=scaling.mode is ScalingMode.ENFORCE,
                load=verdict.load,
            )
    return found
