"""Snapshots of a pool that follow one another: what was not touched is the same object as in the last one. No I/O.

Whoever compares two of them can begin with `is`, and a change among ten thousand hosts costs no more than copying a
dictionary of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from proxypool.adapters.zookeeper.layout import CHOSEN, Layout, Parts, candidate_node, candidate_sequence
from proxypool.core.model import Candidate, HostSpec, NodeSpec, PairSpec, PoolSpec, Snapshot, SubnetSpec

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper.tree import PoolTree

T = TypeVar("T", bound=msgspec.Struct)
_BelowSubnets: TypeAlias = tuple[
    dict[str, Mapping[str, PairSpec]], dict[str, tuple[Candidate, ...]], dict[str, frozenset[str]], dict[str, int]
]


@dataclass(frozen=True, slots=True)
class Unread:
    """What cannot be read, as snapshots have it."""

    malformed: Mapping[str, str]
    too_new: frozenset[str]
    subnets: frozenset[str]
    nodes: frozenset[str]


def unread_of(layout: Layout, malformed: Mapping[str, str], too_new: Iterable[str]) -> Unread:
    """From path -> why it cannot be read, and the paths of those that are too new."""
    places = [layout.parts(path) for path in malformed]
    return Unread(
        malformed,
        frozenset(too_new),
        frozenset(at[1] for at in places if at[0] == "subnets" and at[2:3] in {(), ("pairs",)} and len(at) in {2, 4}),
        frozenset(at[1] for at in places if at[0] == "nodes" and len(at) == 2),  # noqa: PLR2004 - nodes/<node>
    )


class SnapshotMaker:
    """Of one tree."""

    def __init__(self, tree: PoolTree) -> None:
        """Nothing was read yet."""
        self._tree = tree
        self.last: Snapshot | None = None

    def next(self, touched: Iterable[Parts], unread: Unread) -> Snapshot:
        """The pool as the tree has it; `touched` are all its nodes that changed since the last one."""
        last = self.last or Snapshot()
        top: dict[str, set[str]] = {"subnets": set(), "nodes": set(), "hosts": set()}
        """Documents by kind; of subnets also those below which something changed."""
        for parts in touched:
            if parts[0] in top and (len(parts) == 2 or (len(parts) > 2 and parts[0] == "subnets")):  # noqa: PLR2004
                top[parts[0]].add(parts[1])
        spec = self._tree.document(("spec",))
        pairs, elections, subnet_hosts, hosts_zxid = self._below_subnets(last, top["subnets"])
        self.last = Snapshot(
            spec=spec if isinstance(spec, PoolSpec) else None,
            subnets=self._documents(last.subnets, "subnets", SubnetSpec, top["subnets"]),
            nodes=self._documents(last.nodes, "nodes", NodeSpec, top["nodes"]),
            hosts=self._documents(last.hosts, "hosts", HostSpec, top["hosts"]),
            pairs=pairs,
            elections=elections,
            subnet_hosts=subnet_hosts,
            hosts_zxid=hosts_zxid,
            malformed=unread.malformed,
            too_new=unread.too_new,
            unread_subnets=unread.subnets,
            unread_nodes=unread.nodes,
        )
        return self.last

    def _documents(self, last: Mapping[str, T], kind: str, of: type[T], touched: set[str]) -> Mapping[str, T]:
        found: dict[str, T] | None = None
        for name in sorted(touched):
            document = self._tree.document((kind, name))
            now = document if isinstance(document, of) else None
            if now is not last.get(name):
                found = dict(last) if found is None else found
                if now is None:
                    del found[name]
                else:
                    found[name] = now
        return last if found is None else found

    def _below_subnets(self, last: Snapshot, touched: set[str]) -> _BelowSubnets:
        pairs, elections = dict(last.pairs), dict(last.elections)
        hosts, zxids = dict(last.subnet_hosts), dict(last.hosts_zxid)
        for name in sorted(touched):
            for pair in pairs.pop(name, {}):
                elections.pop(f"{name}/{pair}", None)
            hosts.pop(name, None)
            zxids.pop(name, None)
            found = dict(self._tree.documents(("subnets", name, "pairs"), PairSpec))
            if found:
                pairs[name] = found
            for pair in found:
                elections[f"{name}/{pair}"] = self._election(name, pair)
            if isinstance(self._tree.document(("subnets", name)), SubnetSpec):
                listing = self._tree.listing(("subnets", name, "hosts"))
                hosts[name] = listing.names
                if listing.pzxid:
                    zxids[name] = listing.pzxid
        return pairs, elections, hosts, zxids

    def _election(self, subnet: str, pair: str) -> tuple[Candidate, ...]:
        election = ("subnets", subnet, "pairs", pair, "election")
        queue = []
        for name in self._tree.names(election):
            node, found = candidate_node(name), self._tree.candidate((*election, name))
            if node is not None and found is not None:
                is_chosen = found.data.endswith(CHOSEN)
                candidate = Candidate(node=node, epoch=found.czxid, session=found.owner, is_chosen=is_chosen)
                queue.append((candidate_sequence(name), candidate))
        return tuple(candidate for _, candidate in sorted(queue, key=lambda item: item[0]))
