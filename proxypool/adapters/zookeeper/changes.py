"""From a request to the writes that make it so, checked against the whole pool. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from proxypool.adapters.zookeeper.errors import NotFound
from proxypool.adapters.zookeeper.layout import Parts
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.adapters.zookeeper.writing import Create, SetData, Write
from proxypool.core.access import HELD
from proxypool.core.documents import encode
from proxypool.core.draining import Refusal, change_refusals
from proxypool.core.errors import InvalidInput
from proxypool.core.model import PairSpec, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.requests import (
    PoolRequest,
    SubnetRequest,
    resolve_pair,
    resolve_pool,
    resolve_spares,
    resolve_subnet,
)
from proxypool.core.scaling.documents import NodeOrders, Spares
from proxypool.core.scaling.requests import validate_spares
from proxypool.core.validation import validate_pair, validate_pool, validate_subnet

UNCHANGED = "unchanged"
PAIR_CONTAINERS = ("election", "status")
"""What is made together with a pair's document."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit does to one document."""

    kind: str
    name: str
    what: str
    """`added`, `changed`, `removed` or `unchanged`."""
    writes: tuple[Write, ...] = ()


def pool_changes(request: PoolRequest, tree: PoolTree, *, is_addition: bool = False) -> Sequence[Change]:
    """One change for the pool and for each subnet and pair named. An addition must not change what is there.

    Raises:
        InvalidInput: the pool would not be valid afterwards, or a later proxypool wrote one of the documents; the first
            reason found.
    """
    now = tree.snapshot()
    wanted = _resolved(request, now)
    spec = wanted.spec or PoolSpec()
    if now.spec is not None and any(now.pairs.values()):
        _require_same_tunnels(now.spec, spec)
    validate_pool(spec, wanted.subnets.values())
    changes = [_change(tree, "pool", tree.pool, ("spec",), spec, ())]
    for subnet in request.subnets:
        at = ("subnets", subnet.id)
        change = _change(tree, "subnet", subnet.id, at, wanted.subnets[subnet.id], ("pairs", "hosts"))
        changes.append(change)
        _require_new(change, is_addition=is_addition)
        suspects: set[str] = set()
        if change.what != UNCHANGED:
            # What did not change fits to what did not; but other CIDRs concern every pair of the subnet.
            suspects |= set(wanted.pairs.get(subnet.id, {}))
            validate_subnet(wanted.subnets[subnet.id], spec, wanted.subnets.values())
        for pair in subnet.pairs:
            found = wanted.pairs[subnet.id][pair.id]
            name = f"{subnet.id}/{pair.id}"
            change = _change(tree, "pair", name, (*at, "pairs", pair.id), found, PAIR_CONTAINERS)
            changes.append(change)
            _require_new(change, is_addition=is_addition)
            suspects |= {pair.id} if change.what != UNCHANGED else set()
        for name in sorted(suspects):
            validate_pair(wanted.pairs[subnet.id][name], wanted)
        changes += _spares_changes(subnet, wanted, tree)
    return changes


def pool_refusals(request: PoolRequest, now: Snapshot) -> Iterator[Refusal]:
    """What of a request would break connections of pairs that are there."""
    wanted = _resolved(request, now)
    for subnet in request.subnets:
        is_in_use = bool(now.subnet_hosts.get(subnet.id))
        for pair in subnet.pairs:
            old = now.pairs.get(subnet.id, {}).get(pair.id)
            if old is not None:
                yield from change_refusals(old, wanted.pairs[subnet.id][pair.id], is_in_use=is_in_use)


def _spares_changes(request: SubnetRequest, wanted: Snapshot, tree: PoolTree) -> Iterator[Change]:
    if request.spares is None:
        return
    known = tree.spares()
    new = resolve_spares(request.spares, known.get(request.id))
    validate_spares(wanted.subnets[request.id], new, wanted, known)
    yield spares_change(tree, request.id, new)


def spares_change(tree: PoolTree, subnet: str, new: Spares) -> Change:
    """Give a subnet these spares, and no others. The tree must have been read with `Extent.PLACING`."""
    return _change(tree, "spares", subnet, ("subnets", subnet, "spares"), new, ())


def _resolved(request: PoolRequest, now: Snapshot) -> Snapshot:
    """The pool as it will be. Checked as a whole afterwards: two pairs may exchange their HaVips in one request."""
    subnets = dict(now.subnets)
    pairs = {subnet: dict(found) for subnet, found in now.pairs.items()}
    wanted = msgspec.structs.replace(now, spec=resolve_pool(request, now.spec), subnets=subnets, pairs=pairs)
    for subnet in request.subnets:
        subnets[subnet.id] = resolve_subnet(subnet, subnets)
        for pair in subnet.pairs:
            pairs.setdefault(subnet.id, {})[pair.id] = resolve_pair(pair, subnet.id, wanted)
    return wanted


def _require_new(change: Change, *, is_addition: bool) -> None:
    if is_addition and change.what == "changed":
        raise InvalidInput(
            f"{change.kind} {change.name} exists with other settings: remove it first, or change it with "
            "`proxypool pool apply`"
        )


def _require_same_tunnels(now: PoolSpec, new: PoolSpec) -> None:
    for what, before, after in (
        ("tunnel kind", now.tunnel, new.tunnel),
        ("tunnel range", now.tunnel_range, new.tunnel_range),
    ):
        if before != after:
            raise InvalidInput(
                f"the pool's {what} is {before} and cannot become {after} while pairs exist: remove the pairs first"
            )


def _change(
    tree: PoolTree, kind: str, name: str, parts: Parts, document: msgspec.Struct, containers: Sequence[str]
) -> Change:
    raw = tree.raw(parts)
    path = tree.path(parts)
    data = encode(document, raw, what=path)
    if raw is None:
        return Change(kind, name, "added", tuple(creation(path, data, containers)))
    if tree.document(parts) == document and tree.problem(parts) is None:
        return Change(kind, name, UNCHANGED)
    return Change(kind, name, "changed", (SetData(path, data),))


def creation(path: str, data: bytes, containers: Sequence[str]) -> Iterator[Write]:
    """Make a document and the containers that belong to it."""
    yield Create(path, data)
    for container in containers:
        yield Create(f"{path}/{container}")


def require_subnet(tree: PoolTree, subnet: str) -> None:
    """Make sure that there is such a subnet, even one that cannot be read.

    Raises:
        NotFound: there is none.
    """
    known = tree.names(("subnets",))
    if subnet not in known:
        raise NotFound("subnet", subnet, known)


def require_pair(tree: PoolTree, subnet: str, pair: str) -> None:
    """Make sure that there is such a pair, even one that cannot be read.

    Raises:
        NotFound: there is none.
    """
    require_subnet(tree, subnet)
    known = tree.names(("subnets", subnet, "pairs"))
    if pair not in known:
        raise NotFound("pair", pair, known, f"in subnet {subnet}")


def pair_change(tree: PoolTree, subnet: str, pair: str, alter: Callable[[PairSpec, Snapshot], PairSpec]) -> Change:
    """Change one pair that is there.

    Raises:
        NotFound: there is no such subnet or pair.
        InvalidInput: its document cannot be read, so that most of it would be lost.
    """
    require_pair(tree, subnet, pair)
    parts = ("subnets", subnet, "pairs", pair)
    snapshot = tree.snapshot()
    spec = snapshot.pairs.get(subnet, {}).get(pair)
    if spec is None:
        raise _unreadable(tree, parts)
    return _change(tree, "pair", f"{subnet}/{pair}", parts, alter(spec, snapshot), ())


def _unreadable(tree: PoolTree, parts: Parts) -> InvalidInput:
    problem = tree.problem(parts) or ""
    if tree.path(parts) in tree.snapshot().too_new:
        return InvalidInput(problem)
    return InvalidInput(f"{problem}: write it again with `proxypool pool apply`, or remove it")


def subnet_change(tree: PoolTree, subnet: str, alter: Callable[[SubnetSpec], SubnetSpec]) -> Change:
    """Change one subnet that is there.

    Raises:
        NotFound: there is no such subnet.
        InvalidInput: its document cannot be read, so that most of it would be lost.
    """
    require_subnet(tree, subnet)
    parts = ("subnets", subnet)
    spec = tree.snapshot().subnets.get(subnet)
    if spec is None:
        raise _unreadable(tree, parts)
    return _change(tree, "subnet", subnet, parts, alter(spec), ())


def orders_change(tree: PoolTree, node: str, alter: Callable[[NodeOrders], NodeOrders]) -> Change:
    """Change what is ordered of a node. The tree must have been read with `Extent.PLACING`. Orders that cannot be read
    count as none.

    Raises:
        NotFound: no such node has registered.
    """
    known = tree.names(("nodes",))
    if node not in known:
        raise NotFound("node", node, known)
    old = tree.orders().get(node, NodeOrders())
    new = alter(old)
    parts = ("nodes", node, "orders")
    if new == old and tree.problem(parts) is None:
        return Change("node", node, UNCHANGED)
    return _change(tree, "node", node, parts, new, (HELD,))
