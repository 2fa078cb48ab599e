"""What was read of a pool: last good documents, lists and candidates by path, and the snapshot they make. No I/O.

`take` stores one answer and says what must be read next because of it, so a whole pool is read in as many rounds as it
is deep, and a change re-reads one node and what is new below it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from proxypool.adapters.zookeeper.layout import (
    ROOTS,
    Facet,
    Layout,
    Parts,
    candidate_node,
    candidate_sequence,
    containers_below,
    facet_of,
    has_readable_children,
)
from proxypool.adapters.zookeeper.parsing import parse_document
from proxypool.adapters.zookeeper.reading import Answer, Children, Node
from proxypool.core.errors import InvalidInput
from proxypool.core.model import (
    Alive,
    Candidate,
    HostSpec,
    MemberStatus,
    NodeSpec,
    PairSpec,
    PoolSpec,
    Snapshot,
    SubnetSpec,
)

T = TypeVar("T", bound=msgspec.Struct)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A document: its bytes, its last good meaning, and what is wrong with the bytes."""

    raw: bytes
    document: msgspec.Struct | None
    problem: str | None


class PoolTree:
    """See the module's text. Not safe with several threads."""

    def __init__(self, layout: Layout, *, with_status: bool = False, node: str | None = None) -> None:
        """With `node`, elections are followed only for pairs that have a member there."""
        self._layout, self._with_status, self._node = layout, with_status, node
        self._entries: dict[Parts, Entry] = {}
        self._lists: dict[Parts, Children] = {}
        self._candidates: dict[Parts, Node] = {}
        self._held: Snapshot | None = None

    def roots(self) -> list[Parts]:
        """Where reading begins."""
        return list(ROOTS)

    def knows(self, parts: Parts) -> bool:
        """Whether a change of this node matters: it is a root, or what was read so far leads to it."""
        if facet_of(parts) is None:
            return False
        return parts in ROOTS or parts in self._entries or parts in self._lists or self._is_due(parts)

    def _is_due(self, parts: Parts) -> bool:
        above = parts[:-1]
        if facet_of(above) is Facet.CHILDREN:
            return parts[-1] in self._lists.get(above, ())
        return above in self._entries and parts in self._below(above)

    def take(self, parts: Parts, answer: Answer, *, all_below: bool) -> list[Parts]:
        """Store an answer; returns what to read next: what is new below, or with `all_below` everything below."""
        if isinstance(answer, tuple):
            return self._take_list(parts, answer, all_below=all_below)
        if answer is None:
            if facet_of(parts) is Facet.CHILDREN:
                return self._take_list(parts, (), all_below=all_below)
            self._forget(parts)
            return []
        if facet_of(parts) is Facet.STAT:
            self._candidates[parts] = answer
            return []
        return self._take_document(parts, answer, all_below=all_below)

    def _take_list(self, parts: Parts, names: Children, *, all_below: bool) -> list[Parts]:
        before = self._lists.get(parts, ())
        self._lists[parts] = names
        for name in before:
            if name not in names:
                self._forget((*parts, name))
        if not has_readable_children(parts):
            return []
        # Candidates are always looked at again: a name can come back with another epoch after its pair was re-made.
        every = all_below or parts[-1] == "election"
        return [(*parts, name) for name in names if every or name not in before]

    def _take_document(self, parts: Parts, node: Node, *, all_below: bool) -> list[Parts]:
        old = self._entries.get(parts)
        if old is None or old.raw != node.data:
            self._entries[parts] = self._parse(parts, node.data, old)
        wanted = self._below(parts)
        for container in containers_below(parts, with_status=self._with_status):
            if container not in wanted:
                self._forget(container)
        return [
            container
            for container in wanted
            if all_below or (container not in self._lists and container not in self._entries)
        ]

    def _below(self, parts: Parts) -> tuple[Parts, ...]:
        containers = containers_below(parts, with_status=self._with_status)
        pair = self._entries[parts].document
        if self._node is not None and isinstance(pair, PairSpec) and pair.member(self._node) is None:
            return tuple(container for container in containers if container[-1] != "election")
        return containers

    def _parse(self, parts: Parts, raw: bytes, old: Entry | None) -> Entry:
        path = self.path(parts)
        try:
            return Entry(raw, parse_document(parts, raw, path), None)
        except InvalidInput as error:
            log.warning("%s; the last good version stays in force", error)
            return Entry(raw, old.document if old else None, str(error))

    def _forget(self, parts: Parts) -> None:
        self._entries.pop(parts, None)
        self._candidates.pop(parts, None)
        for name in self._lists.pop(parts, ()):
            self._forget((*parts, name))
        for container in containers_below(parts, with_status=self._with_status):
            self._forget(container)

    def snapshot(self) -> Snapshot:
        """The pool as read so far. While its layout is newer than ours, the last snapshot stays in force."""
        malformed = {
            self.path(parts): entry.problem
            for parts, entry in sorted(self._entries.items())
            if entry.problem is not None
        }
        is_too_new = self.problem(("version",)) is not None
        if is_too_new and self._held is not None:
            return msgspec.structs.replace(self._held, malformed=malformed)
        subnets = dict(self._documents(("subnets",), SubnetSpec))
        pairs = {name: dict(self._documents(("subnets", name, "pairs"), PairSpec)) for name in self.names(("subnets",))}
        spec = self.document(("spec",))
        snapshot = Snapshot(
            spec=spec if isinstance(spec, PoolSpec) else None,
            subnets=subnets,
            pairs={name: found for name, found in pairs.items() if found},
            nodes=dict(self._documents(("nodes",), NodeSpec)),
            hosts=dict(self._documents(("hosts",), HostSpec)),
            subnet_hosts={name: frozenset(self.names(("subnets", name, "hosts"))) for name in subnets},
            elections={
                f"{subnet}/{pair}": self._election(subnet, pair) for subnet, found in pairs.items() for pair in found
            },
            malformed=malformed,
        )
        if not is_too_new:
            self._held = snapshot
        return snapshot

    def names(self, parts: Parts) -> Children:
        """Children of a container."""
        return self._lists.get(parts, ())

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

    def _documents(self, parts: Parts, kind: type[T]) -> Iterator[tuple[str, T]]:
        for name in self.names(parts):
            document = self.document((*parts, name))
            if isinstance(document, kind):
                yield name, document

    def _election(self, subnet: str, pair: str) -> tuple[Candidate, ...]:
        election = ("subnets", subnet, "pairs", pair, "election")
        queue = []
        for name in self.names(election):
            node, found = candidate_node(name), self._candidates.get((*election, name))
            if node is not None and found is not None:
                queue.append((candidate_sequence(name), Candidate(node=node, epoch=found.czxid, session=found.owner)))
        return tuple(candidate for _, candidate in sorted(queue, key=lambda item: item[0]))

    def statuses(self) -> Mapping[str, Mapping[str, MemberStatus]]:
        """`<subnet>/<pair>` -> node -> what it published; only with `with_status`."""
        return {
            f"{subnet}/{pair}": dict(self._documents(("subnets", subnet, "pairs", pair, "status"), MemberStatus))
            for subnet in self.names(("subnets",))
            for pair in self.names(("subnets", subnet, "pairs"))
        }

    def alive(self, kind: str) -> Mapping[str, Alive]:
        """Name -> proof of life, of `nodes` or `hosts`; only with `with_status`."""
        found = ((name, self.document((kind, name, "alive"))) for name in self.names((kind,)))
        return {name: document for name, document in found if isinstance(document, Alive)}
