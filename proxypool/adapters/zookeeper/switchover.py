"""A planned change of a pair's master: the election decides, VRRP follows. See "Who opens the gate" in the design."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from kazoo.exceptions import NodeExistsError, NoNodeError

from proxypool.adapters.zookeeper.errors import NotFound
from proxypool.adapters.zookeeper.layout import (
    CHOSEN,
    candidate_node,
    candidate_sequence,
    election_suffix,
    member_status_suffix,
    node_alive_suffix,
    switchover_suffix,
)
from proxypool.adapters.zookeeper.members import read_statuses
from proxypool.adapters.zookeeper.reading import read_children, read_nodes
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, Delete, SetData, Write, commit
from proxypool.core.documents import DocumentTooNew, decode, encode, require_known
from proxypool.core.errors import PermanentError
from proxypool.core.history import Intent
from proxypool.core.model import FailoverMode, MemberStatus, PairSpec, Snapshot
from proxypool.core.pausing import require_not_paused
from proxypool.core.states import Role

POLL_S = 0.01
POKE = "poke"
"""A child of an election that is made and removed in one transaction, so that its watchers look."""


class NotEligible(PermanentError):
    """The wanted member cannot take over, and why."""


@dataclass(frozen=True, slots=True)
class Switchover:
    """Whom the election chose before, and whom it chooses now."""

    subnet: str
    pair: str
    old: str | None
    new: str

    @property
    def is_needed(self) -> bool:
        """False: the wanted member was elected already."""
        return self.old != self.new


@dataclass(frozen=True, slots=True)
class Served:
    """Who serves, and how long we waited for it."""

    node: str
    took_s: float


class Elections:
    """Elections as the command line sees them. Blocking; the session must be connected."""

    def __init__(self, session: PoolSession) -> None:
        self._session = session

    def switchover(
        self, snapshot: Snapshot, subnet: str, pair: str, to: str | None, *, who: str = "", note: str = ""
    ) -> Switchover:
        """Move the election to `to`, or to the member that is not elected. The others go to the end of the queue.

        Whose doing it is, and why, is left for the new master's record of it.

        Raises:
            NotFound: no such subnet, pair or member.
            PairPaused: it is paused for maintenance.
            NotEligible: that member does not stand in the election; the text says why.
            TransientError: the connection broke.
        """
        spec = _pair(snapshot, subnet, pair)
        require_not_paused(spec)
        election = self._session.layout.path(election_suffix(subnet, pair))
        while True:
            (names,) = read_children(self._session, (election,))
            queue = sorted((name for name in names or () if candidate_node(name)), key=candidate_sequence)
            nodes = [candidate_node(name) for name in queue]
            old = nodes[0] if nodes else None
            new = to if to is not None else _other(spec, old)
            if spec.member(new) is None:
                raise NotFound("member", new, (member.node for member in spec.members), f"in pair {subnet}/{pair}")
            if new not in nodes:
                raise NotEligible(f"{new} cannot take over: {self._why_not(spec, new)}")
            place = nodes.index(new)
            choice: list[Write] = [SetData(f"{election}/{queue[place]}", new.encode() + CHOSEN)]
            if place == 0 or spec.mode is FailoverMode.STRICT:
                # Nobody watches a candidate's data, but everybody the list.
                choice += [Create(f"{election}/{POKE}"), Delete(f"{election}/{POKE}")]
            if spec.mode is FailoverMode.FAST:
                # Together: whoever sees that it is elected sees that it was chosen. In mode strict the elected member
                # leaves by itself, when its gate is closed.
                choice += [Delete(f"{election}/{name}") for name in queue[:place]]
            try:
                if place or not is_master(read_statuses(self._session, subnet, pair), new):
                    intent = self._intent(spec, f"{election}/{queue[place]}", who, note)
                    commit(self._session, [*choice, *([intent] if intent is not None else [])])
            except (NoNodeError, NodeExistsError):
                continue
            return Switchover(subnet, pair, old, new)

    def _intent(self, spec: PairSpec, candidate: str, who: str, note: str) -> Write | None:
        path = self._session.layout.path(switchover_suffix(spec.subnet, spec.id))
        chosen, last = read_nodes(self._session, (candidate, path))
        if chosen is None:
            raise NoNodeError
        try:
            require_known(last.data if last is not None else b"", what=path)
        except DocumentTooNew:
            # It stays. The switchover itself must not wait for an upgrade; its record will not say who asked for it.
            return None
        data = encode(Intent(epoch=chosen.czxid, who=who, note=note, at=time.time()))
        return Create(path, data) if last is None else SetData(path, data)

    def _why_not(self, spec: PairSpec, node: str) -> str:
        layout = self._session.layout
        alive, published = read_nodes(
            self._session,
            (layout.path(node_alive_suffix(node)), layout.path(member_status_suffix(spec.subnet, spec.id, node))),
        )
        if alive is None:
            return f"its daemon is not running (start it with `proxypool run node` on {node})"
        if published is None:
            return f"its daemon runs, but does not serve this pair yet (see the log on {node})"
        status = decode(published.data, MemberStatus, what=f"status of {node}")
        return "; ".join(status.health) or "it has just left the election; try again"

    def wait_for_master(self, subnet: str, pair: str, node: str | None, timeout_s: float) -> Served | None:
        """Wait until a member is observed master: VRRP, HaVip and gate, and no other gate open. None: any member.

        Returns None if it is not so within `timeout_s`.

        Raises:
            NotFound: the pair was removed meanwhile.
            TransientError: the connection broke.
        """
        began = time.monotonic()
        while True:
            statuses = read_statuses(self._session, subnet, pair)
            passed = time.monotonic() - began
            for member in statuses if node is None else (node,):
                if is_master(statuses, member):
                    return Served(member, passed)
            if passed >= timeout_s:
                return None
            time.sleep(min(POLL_S, timeout_s - passed))


def is_master(statuses: Mapping[str, MemberStatus], node: str) -> bool:
    """Whether a member serves, and it alone."""
    found = statuses.get(node)
    if found is None or found.role != Role.MASTER or not found.gate or not found.has_havip:
        return False
    return not any(status.gate for name, status in statuses.items() if name != node)


def _pair(snapshot: Snapshot, subnet: str, pair: str) -> PairSpec:
    if subnet not in snapshot.subnets:
        raise NotFound("subnet", subnet, snapshot.subnets)
    pairs = snapshot.pairs.get(subnet, {})
    if pair not in pairs:
        raise NotFound("pair", pair, pairs, f"in subnet {subnet}")
    return pairs[pair]


def _other(spec: PairSpec, elected: str | None) -> str:
    if elected is None:
        raise NotEligible(f"nobody is elected in pair {spec.subnet}/{spec.id}: see `proxypool status {spec.subnet}`")
    peer = spec.peer_of(elected)
    return peer.node if peer else elected
