"""What operators do to pairs: edits like those of the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address

import msgspec

from proxypool.adapters.zookeeper.changes import Change, pair_change, pool_changes, require_pair
from proxypool.adapters.zookeeper.editing import PoolEditor
from proxypool.adapters.zookeeper.errors import NotFound
from proxypool.adapters.zookeeper.layout import Extent, pair_suffix
from proxypool.adapters.zookeeper.members import read_pair
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.core.draining import (
    Risk,
    drain_refusals,
    drained,
    egress_refusals,
    pair_left,
    removal_refusals,
    require_accepted,
    undrained,
)
from proxypool.core.model import MemberStatus, PairSpec, Snapshot
from proxypool.core.pausing import paused, resumed
from proxypool.core.requests import PairRequest, PairSettings, PoolRequest, SubnetRequest, resolve_pair
from proxypool.core.validation import validate_pair


class PairEdits:
    """See the module's text. Blocking; the session must be connected."""

    def __init__(self, session: PoolSession, editor: PoolEditor) -> None:
        self._session, self._editor = session, editor

    def read(self, subnet: str, pair: str) -> tuple[PairSpec, Mapping[str, MemberStatus]]:
        """One pair and what its members publish; see `members`."""
        return read_pair(self._session, subnet, pair)

    def add(self, subnet: str, request: PairRequest) -> PairSpec:
        """Add a pair to a subnet; the same twice is once.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: it cannot be, or there is another one of that name.
        """
        self._editor.edit(lambda tree: _addition(subnet, request, tree))
        return self._editor.read().snapshot().pairs[subnet][request.id]

    def plan(self, subnet: str, request: PairRequest) -> tuple[PairSpec, Change]:
        """What `add` would do: the pair as it would be, and whether it is there already. Nothing is written.

        Raises:
            NotFound, InvalidInput: as `add` would.
        """
        tree = self._editor.read()
        *_, change = _addition(subnet, request, tree)
        return resolve_pair(request, subnet, tree.snapshot()), change

    def require(self, subnet: str, pair: str) -> None:
        """Make sure that there is such a pair, even one that cannot be read.

        Raises:
            NotFound: there is none.
        """
        require_pair(self._editor.read(), subnet, pair)

    def drain(self, subnet: str, pair: str, at: float, accepted: Collection[Risk] = ()) -> Change:
        """Have hosts send the pair no new connections, from wall time `at` on. A pair that drains already is unchanged.

        Raises:
            NotFound: there is no such subnet or pair.
            RiskNotAccepted: it is the last active pair of its subnet.
        """

        def alter(spec: PairSpec, snapshot: Snapshot) -> PairSpec:
            require_accepted(drain_refusals(spec, snapshot.pairs[subnet]), accepted)
            return drained(spec, at)

        return self._edit(subnet, pair, alter)

    def undrain(self, subnet: str, pair: str) -> Change:
        """Have hosts send the pair new connections again. A pair that does not drain is unchanged.

        Raises:
            NotFound: there is no such subnet or pair.
        """
        return self._edit(subnet, pair, lambda spec, _: undrained(spec))

    def set_egress(self, subnet: str, pair: str, egress: IPv4Address | None, accepted: Collection[Risk] = ()) -> Change:
        """Give the pair an egress address, another one, or none.

        Raises:
            NotFound: there is no such subnet or pair.
            InvalidInput: the address cannot be the pair's.
            RiskNotAccepted: connections would break.
        """

        def plan(tree: PoolTree) -> Sequence[Change]:
            def alter(spec: PairSpec, snapshot: Snapshot) -> PairSpec:
                left = pair_left(snapshot, tree.statuses(), subnet, pair, time.time())
                is_in_use = bool(snapshot.subnet_hosts.get(subnet))
                new = msgspec.structs.replace(spec, egress_address=egress)
                validate_pair(new, snapshot)
                require_accepted(egress_refusals(spec, egress, left, is_in_use=is_in_use), accepted)
                return new

            return (pair_change(tree, subnet, pair, alter),)

        (change,) = self._editor.edit(plan, Extent.STATUS)
        return change

    def set(self, subnet: str, pair: str, settings: PairSettings) -> Change:
        """Change what of a pair can be changed while it serves.

        Raises:
            NotFound: there is no such subnet or pair.
            InvalidInput: no such weight, or a probe target that no route leads to.
        """

        def alter(spec: PairSpec, snapshot: Snapshot) -> PairSpec:
            changed = settings.applied(spec)
            validate_pair(changed, snapshot)
            return changed

        return self._edit(subnet, pair, alter)

    def pause(self, subnet: str, pair: str, at: float, who: str = "", reason: str = "") -> tuple[PairSpec, PairSpec]:
        """Freeze the pair's roles, from wall time `at` on: as it was before and is now. One that is paused already
        is paused since when it was; another reason replaces the one it has.

        Raises:
            NotFound: there is no such subnet or pair.
        """
        return self._alter(subnet, pair, lambda spec: paused(spec, at, who, reason))

    def resume(self, subnet: str, pair: str) -> PairSpec:
        """End a pause: the pair as it was before. One that is not paused is unchanged.

        Raises:
            NotFound: there is no such subnet or pair.
        """
        return self._alter(subnet, pair, resumed)[0]

    def _alter(self, subnet: str, pair: str, alter: Callable[[PairSpec], PairSpec]) -> tuple[PairSpec, PairSpec]:
        seen: list[tuple[PairSpec, PairSpec]] = []

        def remember(spec: PairSpec, _: Snapshot) -> PairSpec:
            # An edit that somebody else overtakes is made again: the last one counts.
            seen.append((spec, alter(spec)))
            return seen[-1][1]

        self._edit(subnet, pair, remember)
        return seen[-1]

    def _edit(self, subnet: str, pair: str, alter: Callable[[PairSpec, Snapshot], PairSpec]) -> Change:
        (change,) = self._editor.edit(lambda tree: (pair_change(tree, subnet, pair, alter),))
        return change

    def remove(self, subnet: str, pair: str, accepted: Collection[Risk] = ()) -> None:
        """Remove a pair with its election and what its members publish.

        Raises:
            NotFound: there is no such subnet or pair.
            DocumentTooNew: a later proxypool wrote it.
            RiskNotAccepted: connections would break, or new ones would have nowhere to go.
        """

        def change(tree: PoolTree) -> Sequence[Change]:
            require_pair(tree, subnet, pair)
            left = pair_left(tree.snapshot(), tree.statuses(), subnet, pair, time.time())
            require_accepted(removal_refusals(subnet, pair, tree.snapshot(), left), accepted)
            return (self._editor.removal("pair", f"{subnet}/{pair}", pair_suffix(subnet, pair)),)

        self._editor.edit(change, Extent.STATUS)


def _addition(subnet: str, request: PairRequest, tree: PoolTree) -> Sequence[Change]:
    known = tree.snapshot().subnets
    spec = known.get(subnet)
    if spec is None:
        raise NotFound("subnet", subnet, known)
    wanted = SubnetRequest(id=subnet, cidrs=spec.cidrs, tenant=spec.tenant, key=spec.key, pairs=(request,))
    return pool_changes(PoolRequest(subnets=(wanted,)), tree, is_addition=True)
