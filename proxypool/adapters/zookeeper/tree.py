"""What was read of a pool: last good documents, lists and candidates by path, and the snapshot they make. No I/O.

`take` stores one answer and says what must be read next because of it, so a whole pool is read in as many rounds as it
is deep, and a change re-reads one node and what is new below it. A snapshot takes over from the last one, as the same
objects, whatever was not touched since (`snapshots`): a pool has ten thousand hosts, and one more of them is news.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from proxypool.adapters.zookeeper.layout import (
    LIFE,
    Extent,
    Facet,
    Layout,
    Parts,
    containers_below,
    facet_of,
    has_readable_children,
    roots,
)
from proxypool.adapters.zookeeper.listing import Listing, RawListing
from proxypool.adapters.zookeeper.parsing import parse_document
from proxypool.adapters.zookeeper.reading import Answer, Node
from proxypool.adapters.zookeeper.snapshots import SnapshotMaker, unread_of
from proxypool.core.documents import DocumentTooNew
from proxypool.core.errors import InvalidInput
from proxypool.core.model import (
    Alive,
    MemberStatus,
    PairSpec,
    Snapshot,
    SubnetSpec,
)
from proxypool.core.scaling.documents import Action, ControllerAlive, NodeOrders, Placing, Report, Spares

T = TypeVar("T", bound=msgspec.Struct)
log = logging.getLogger(__name__)
_NOTHING = Placing()
_OF_PLACING = frozenset({LIFE, "orders", "spares"})
_PROOF = frozenset({"alive"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A document: its bytes, its last good meaning, and what is wrong with the bytes."""

    raw: bytes
    document: msgspec.Struct | None
    problem: str | None


class PoolTree:
    """See the module's text. Not safe with several threads."""

    def __init__(
        self, layout: Layout, extent: Extent = Extent.SERVING, *, node: str | None = None, host: str | None = None
    ) -> None:
        """With `node`, elections and lists of hosts are followed only for pairs that have a member there; with `host`,
        of all hosts only whether this one is in a subnet's list: neither all nodes nor ten thousand agents must read
        anew when a host joins a subnet. Either is no business of the controller: how large a subnet is to be is left
        out, so that a change of that alone is none.
        """
        self._layout, self._extent, self._node, self._host = layout, extent, node, host
        self._entries: dict[Parts, Entry] = {}
        self._lists: dict[Parts, Listing] = {}
        self._candidates: dict[Parts, Node] = {}
        self._problems: dict[str, str] = {}
        """path -> why its document cannot be read"""
        self._too_new: set[str] = set()
        """Those of them that a later proxypool wrote."""
        self._touched: set[Parts] = set()
        """What changed since the last snapshot."""
        self._snapshots = SnapshotMaker(self)
        self._held: Snapshot | None = None
        self._placing: Placing | None = None
        """None: it is no longer so."""

    def roots(self) -> list[Parts]:
        """Where reading begins."""
        return [parts for parts in roots(self._extent) if self._host is None or parts != ("hosts",)]

    def knows(self, parts: Parts) -> bool:
        """Whether a change of this node matters: it is a root, or what was read so far leads to it."""
        if facet_of(parts) is None:
            return False
        return parts in roots(self._extent) or parts in self._entries or parts in self._lists or self._is_due(parts)

    def _is_due(self, parts: Parts) -> bool:
        above = parts[:-1]
        if facet_of(parts) is Facet.PRESENCE:
            return parts[-1] == self._host and parts[:2] in self._entries
        if facet_of(above) is Facet.CHILDREN:
            return parts[-1] in self._names(above)
        return above in self._entries and parts in self._below(above)

    def take(self, parts: Parts, answer: Answer, *, all_below: bool) -> list[Parts]:
        """Store an answer; returns what to read next: what is new below, or with `all_below` everything below."""
        if facet_of(parts) is Facet.PRESENCE:
            listing = Listing(frozenset((parts[-1],) if answer is not None else ()))
            return self._take_list(parts[:-1], listing, all_below=all_below)
        if facet_of(parts) is Facet.LIFE:
            return self._take_life(parts, answer)
        if isinstance(answer, RawListing):
            listing = answer.after(self._lists.get(parts) or Listing())
            return self._take_list(parts, listing, all_below=all_below)
        if answer is None:
            if facet_of(parts) is Facet.CHILDREN:
                return self._take_list(parts, Listing(), all_below=all_below)
            self._forget(parts)
            return []
        if facet_of(parts) is Facet.CANDIDATE:
            self._candidates[parts] = answer
            self._touched.add(parts)
            return []
        return self._take_document(parts, answer, all_below=all_below)

    def _take_life(self, parts: Parts, answer: Answer) -> list[Parts]:
        if not isinstance(answer, RawListing):
            self._forget(parts)
            return []
        return self._take_list(parts, Listing(answer.after(Listing()).names & _PROOF), all_below=False)

    def _take_list(self, parts: Parts, now: Listing, *, all_below: bool) -> list[Parts]:
        before = self._lists.get(parts)
        names_before = before.names if before else frozenset()
        if before is None or before.pzxid != now.pzxid or names_before is not now.names:
            self._touched.add(parts)
        self._lists[parts] = now
        for name in names_before - now.names:
            self._forget((*parts, name))
        if not has_readable_children(parts):
            return []
        # Candidates are always looked at again: a name can come back with another epoch after its pair was re-made.
        every = all_below or parts[-1] == "election"
        return [(*parts, name) for name in sorted(now.names if every else now.names - names_before)]

    def _take_document(self, parts: Parts, node: Node, *, all_below: bool) -> list[Parts]:
        old = self._entries.get(parts)
        if old is None or old.raw != node.data:
            now = self._entries[parts] = self._parse(parts, node.data, old)
            # Of a proof of life it matters that it is there: it changes with every beat of every machine.
            if old is None or (now.document is not old.document and parts[-1] != "alive"):
                self._touched.add(parts)
        wanted = self._below(parts)
        for container in containers_below(parts, self._extent):
            if container not in wanted and container[-1] != "hosts":
                self._forget(container)
        self._leave_hosts(parts)
        return [
            container
            for container in wanted
            if all_below or (container not in self._lists and container not in self._entries)
        ]

    def _below(self, parts: Parts) -> tuple[Parts, ...]:
        containers = containers_below(parts, self._extent)
        if self._host is not None:
            # Not the list, but our place in it.
            containers = tuple((*at, self._host) if at[-1] == "hosts" else at for at in containers)
        if self._node is None:
            return containers
        pair = self._entries[parts].document
        if isinstance(pair, PairSpec):
            if pair.member(self._node) is None:
                return tuple(at for at in containers if at[-1] != "election")
            return (*containers, (*parts[:2], "hosts"))
        return tuple(at for at in containers if at[-1] != "hosts")

    def _leave_hosts(self, pair: Parts) -> None:
        """A node that is in no pair of the subnet any more follows its hosts no longer."""
        if self._node is None or len(pair) != 4 or pair[2] != "pairs":  # noqa: PLR2004 - subnets/<subnet>/pairs/<pair>
            return
        pairs = (each for _, each in self.documents(pair[:3], PairSpec))
        if not any(each.member(self._node) for each in pairs):
            self._forget((*pair[:2], "hosts"))

    def _parse(self, parts: Parts, raw: bytes, old: Entry | None) -> Entry:
        path = self.path(parts)
        self._too_new.discard(path)
        try:
            entry = Entry(raw, self._as_known(parse_document(parts, raw, path), old), None)
            self._problems.pop(path, None)
        except InvalidInput as error:
            if isinstance(error, DocumentTooNew):
                self._too_new.add(path)
            log.warning("%s; the last good version stays in force", error)
            entry = Entry(raw, old.document if old else None, str(error))
            self._problems[path] = str(error)
        return entry

    def _as_known(self, document: msgspec.Struct, old: Entry | None) -> msgspec.Struct:
        """The document, without what does not concern this tree's reader; the old one if that makes it the same."""
        if isinstance(document, SubnetSpec) and (self._node is not None or self._host is not None):
            document = msgspec.structs.replace(document, scaling=None)
        return old.document if old is not None and old.document == document else document

    def _forget(self, parts: Parts) -> None:
        self._touched.add(parts)
        if self._entries.pop(parts, None) is not None:
            self._problems.pop(self.path(parts), None)
            self._too_new.discard(self.path(parts))
        self._candidates.pop(parts, None)
        listed = self._lists.pop(parts, None)
        for name in listed.names if listed else ():
            self._forget((*parts, name))
        for container in containers_below(parts, self._extent):
            self._forget(container)
        self._leave_hosts(parts)

    def snapshot(self) -> Snapshot:
        """The pool as read so far. While its layout is newer than ours, the last snapshot stays in force."""
        unread = unread_of(self._layout, dict(sorted(self._problems.items())), self._too_new)
        is_too_new = self.problem(("version",)) is not None
        if is_too_new and self._held is not None:
            return msgspec.structs.replace(
                self._held,
                malformed=unread.malformed,
                too_new=unread.too_new,
                unread_subnets=unread.subnets,
                unread_nodes=unread.nodes,
            )
        touched, self._touched = self._touched, set()
        if any(parts[-1] in _OF_PLACING for parts in touched):
            self._placing = None
        snapshot = self._snapshots.next(touched, unread)
        if not is_too_new:
            self._held = snapshot
        return snapshot

    def _names(self, parts: Parts) -> frozenset[str]:
        listing = self._lists.get(parts)
        return listing.names if listing else frozenset()

    def names(self, parts: Parts) -> list[str]:
        """Children of a container, sorted."""
        return sorted(self._names(parts))

    def listing(self, parts: Parts) -> Listing:
        """Children of a container, and when they last changed."""
        return self._lists.get(parts) or Listing()

    def candidate(self, parts: Parts) -> Node | None:
        """A candidate of an election."""
        return self._candidates.get(parts)

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self._layout.pool

    def path(self, parts: Parts) -> str:
        """Absolute path."""
        return self._layout.path("/".join(parts))

    def raw(self, parts: Parts) -> bytes | None:
        """A document's bytes as they are in ZooKeeper, None if it is not there."""
        entry = self._entries.get(parts)
        return entry.raw if entry else None

    def document(self, parts: Parts) -> msgspec.Struct | None:
        """A document's last good version."""
        entry = self._entries.get(parts)
        return entry.document if entry else None

    def problem(self, parts: Parts) -> str | None:
        """Why the document cannot be read, or None."""
        entry = self._entries.get(parts)
        return entry.problem if entry else None

    def documents(self, parts: Parts, kind: type[T]) -> Iterator[tuple[str, T]]:
        """Name and last good version of each in a container, sorted."""
        for name in self.names(parts):
            document = self.document((*parts, name))
            if isinstance(document, kind):
                yield name, document

    def statuses(self) -> Mapping[str, Mapping[str, MemberStatus]]:
        """`<subnet>/<pair>` -> node -> what it published; only with `Extent.STATUS`."""
        return {
            f"{subnet}/{pair}": dict(self.documents(("subnets", subnet, "pairs", pair, "status"), MemberStatus))
            for subnet in self.names(("subnets",))
            for pair in self.names(("subnets", subnet, "pairs"))
        }

    def alive(self, kind: str) -> Mapping[str, Alive]:
        """Name -> proof of life, of `nodes` or `hosts`; what there is of it with this tree's extent."""
        return self._each(kind, "alive", Alive)

    def living(self, kind: str) -> frozenset[str]:
        """Names of `nodes` or `hosts` that have a proof of life, with an extent by which either is read."""
        known = (kind,)
        return frozenset(
            name
            for name in self._names(known)
            if self._names((kind, name, LIFE)) or (kind, name, "alive") in self._entries
        )

    def orders(self) -> Mapping[str, NodeOrders]:
        """Node -> what an operator wants of it; with `Extent.PLACING` or `STATUS`."""
        return self._each("nodes", "orders", NodeOrders)

    def spares(self) -> Mapping[str, Spares]:
        """Subnet -> its spares; with `Extent.PLACING` or `STATUS`."""
        return self._each("subnets", "spares", Spares)

    def placing(self) -> Placing:
        """What there is for new pairs, as of the last snapshot. Nothing unless it is this tree's extent."""
        if self._extent is not Extent.PLACING:
            return _NOTHING
        if self._placing is None:
            self._placing = Placing(nodes_alive=self.living("nodes"), orders=self.orders(), spares=self.spares())
        return self._placing

    def actions(self) -> tuple[Action, ...]:
        """What the controller is doing; with `Extent.SIZES` or `STATUS`."""
        return tuple(action for _, action in self.documents(("controller", "actions"), Action))

    def report(self) -> Report | None:
        """What the leading controller wrote last; as `actions`."""
        found = self.document(("controller", "report"))
        return found if isinstance(found, Report) else None

    def controllers(self) -> int:
        """How many stand in the controllers' election; as `actions`."""
        return len(self._names(("controller", "election")))

    def controllers_alive(self) -> tuple[ControllerAlive, ...]:
        """What those say of themselves; as `actions`."""
        return tuple(found for _, found in self.documents(("controller", "election"), ControllerAlive))

    def _each(self, kind: str, below: str, of: type[T]) -> Mapping[str, T]:
        found = ((name, self.document((kind, name, below))) for name in self.names((kind,)))
        return {name: document for name, document in found if isinstance(document, of)}
