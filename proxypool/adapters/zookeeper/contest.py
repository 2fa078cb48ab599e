"""Candidates in the elections of pairs: ephemeral sequential nodes named `<node>-##########`; the lowest is elected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxypool.adapters.zookeeper.layout import (
    Facet,
    candidate_node,
    candidate_sequence,
    election_suffix,
    member_status_suffix,
    node_alive_suffix,
)
from proxypool.adapters.zookeeper.reading import Node, Watch, read_all, read_children, read_nodes, watch_existing
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, Delete, attempt_all


@dataclass(frozen=True, slots=True, order=True)
class Contender:
    """A node in the election of a pair."""

    subnet: str
    pair: str
    node: str

    @property
    def election(self) -> str:
        """Suffix of the election."""
        return election_suffix(self.subnet, self.pair)

    @property
    def status(self) -> str:
        """Suffix of the status that the member publishes."""
        return member_status_suffix(self.subnet, self.pair, self.node)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Candidates of a contender's name, oldest first: those of our session, and others'."""

    ours: tuple[str, ...]
    others: tuple[str, ...]


def hold_elections(
    session: PoolSession, contests: Mapping[Contender, bool], watch: Watch
) -> dict[Contender, str | None]:
    """Stand in elections, or leave them. `watch` is called when a candidate of ours vanishes.

    Returns the path of each contender's candidate, None where it has none; a contender that is missing from the result
    must be tried again.

    Raises:
        TransientError: the connection broke.
    """
    standing, without_election = _look(session, sorted(contests))
    owned = _owned_names(session, {contender.node for contender, found in standing.items() if found.others})
    doomed: list[str] = []
    for contender, found in standing.items():
        doomed += found.ours[1:] if contests[contender] else found.ours
        # We hold the name, so another session with candidates of that name is a predecessor of ours that died.
        doomed += found.others if contender.node in owned else ()
    attempt_all(session, [Delete(path) for path in doomed])
    # A pool with access lists leaves that to the administrator.
    attempt_all(session, [Create(session.layout.path(c.election)) for c in without_election if contests[c]])
    candidates = {c: found.ours[0] for c, found in standing.items() if contests[c] and found.ours}
    missing = [c for c in standing if contests[c] and c not in candidates]
    made = attempt_all(session, [_candidate(session, contender) for contender in missing])
    candidates |= {c: path for c, path in zip(missing, made, strict=True) if isinstance(path, str)}
    present = watch_existing(session, candidates.values(), watch)
    settled: dict[Contender, str | None] = {c: path for c, path in candidates.items() if path in present}
    return settled | {c: None for c, stands in contests.items() if not stands}


def _candidate(session: PoolSession, contender: Contender) -> Create:
    prefix = f"{session.layout.path(contender.election)}/{contender.node}-"
    return Create(prefix, contender.node.encode(), is_ephemeral=True, is_sequential=True)


def _look(session: PoolSession, contenders: Iterable[Contender]) -> tuple[dict[Contender, _Standing], list[Contender]]:
    """What stands under each contender's name, and the contenders whose election is not there."""
    wanted = list(contenders)
    elections = read_children(session, [session.layout.path(contender.election) for contender in wanted])
    paths: dict[Contender, list[str]] = {}
    for contender, names in zip(wanted, elections, strict=True):
        if names is not None:
            own = sorted((name for name in names if candidate_node(name) == contender.node), key=candidate_sequence)
            paths[contender] = [f"{session.layout.path(contender.election)}/{name}" for name in own]
    every = [path for found in paths.values() for path in found]
    stats = read_all(session, [(Facet.STAT, path) for path in every])
    owners = {path: stat.owner for path, stat in zip(every, stats, strict=True) if isinstance(stat, Node)}
    standing = {
        contender: _Standing(
            ours=tuple(path for path in found if owners.get(path) == session.session_id),
            others=tuple(path for path in found if path in owners and owners[path] != session.session_id),
        )
        for contender, found in paths.items()
    }
    return standing, [contender for contender in wanted if contender not in paths]


def _owned_names(session: PoolSession, nodes: Iterable[str]) -> frozenset[str]:
    """Those of the names whose proof of life is of this session."""
    names = sorted(nodes)
    alive = read_nodes(session, [session.layout.path(node_alive_suffix(name)) for name in names])
    return frozenset(
        name
        for name, found in zip(names, alive, strict=True)
        if found is not None and found.owner == session.session_id
    )
