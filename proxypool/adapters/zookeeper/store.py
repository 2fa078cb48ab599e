"""What the command line reads and writes: the whole pool at once, and edits that cannot race (see `editing`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address

import msgspec
from kazoo.exceptions import NodeExistsError

from proxypool.adapters.zookeeper.changes import (
    Change,
    pair_change,
    pool_changes,
    pool_refusals,
    require_pair,
    require_subnet,
)
from proxypool.adapters.zookeeper.editing import PoolEditor
from proxypool.adapters.zookeeper.errors import NotFound
from proxypool.adapters.zookeeper.layout import (
    ACTIONS,
    HISTORY,
    LAYOUT_VERSION,
    Extent,
    action_subnet,
    pair_suffix,
    subnet_suffix,
)
from proxypool.adapters.zookeeper.members import read_pair
from proxypool.adapters.zookeeper.reading import read_children, read_nodes, read_subtree
from proxypool.adapters.zookeeper.registry import TUNNEL_ADDRESSES
from proxypool.adapters.zookeeper.scaling import ScalingEdits
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.switchover import Elections
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.adapters.zookeeper.view import view_of
from proxypool.adapters.zookeeper.writing import Create, Delete, commit, write_all
from proxypool.core.documents import require_known
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
from proxypool.core.errors import InvalidInput
from proxypool.core.model import MemberStatus, PairSpec, Snapshot, SubnetSpec
from proxypool.core.pausing import paused, resumed
from proxypool.core.pool_view import PoolView
from proxypool.core.requests import PairRequest, PairSettings, PoolRequest, SubnetRequest, resolve_pair, resolve_subnet
from proxypool.core.scaling.overview import ScalingView
from proxypool.core.validation import require_weight, validate_pair


class PoolStore:
    """See the module's text. Blocking; the session must be connected."""

    def __init__(self, session: PoolSession) -> None:
        self._session, self._layout = session, session.layout
        self._version_path = self._layout.path("version")
        self._editor = PoolEditor(session)
        self.elections = Elections(session)
        self.scaling = ScalingEdits(session, self._editor)

    # --- reading

    def read_snapshot(self) -> Snapshot:
        """The pool's documents and elections.

        Raises:
            PoolMissing: it was not initialised.
            LayoutTooNew: it was written by a later proxypool.
            TransientError: the connection broke.
        """
        return self._editor.read().snapshot()

    def read_view(self) -> PoolView:
        """Documents, elections, and what daemons publish; see `read_snapshot`."""
        return view_of(self._editor.read(Extent.STATUS))

    def read_scaling(self) -> ScalingView:
        """Subnets, pairs, and what the controller says and does; see `read_snapshot`."""
        tree = self._editor.read(Extent.SIZES)
        return ScalingView(
            pool=self._layout.pool,
            snapshot=tree.snapshot(),
            actions=tree.actions(),
            report=tree.report(),
            controllers=tree.controllers(),
        )

    def read_pair(self, subnet: str, pair: str) -> tuple[PairSpec, Mapping[str, MemberStatus]]:
        """One pair and what its members publish; see `members`."""
        return read_pair(self._session, subnet, pair)

    # --- writing

    def init_pool(self, request: PoolRequest, *, is_dry_run: bool = False) -> Sequence[Change]:
        """Make the pool, or change its spec. Doing it twice is the same as once.

        Raises:
            InvalidInput: the tunnel kind or range cannot be changed now, or collides with a subnet.
        """
        if not is_dry_run:
            self._make_containers()
        return self.apply(msgspec.structs.replace(request, subnets=()), is_dry_run=is_dry_run)

    def _make_containers(self) -> None:
        for path in ("/proxypool", self._layout.root):
            write_all(self._session, [Create(path)])
        suffixes = ("subnets", "nodes", "hosts", TUNNEL_ADDRESSES, HISTORY)
        containers = [Create(self._layout.path(suffix)) for suffix in suffixes]
        try:
            commit(self._session, [Create(self._version_path, str(LAYOUT_VERSION).encode()), *containers])
        except NodeExistsError:
            # A pool that is there; or one whose containers somebody removed by hand.
            write_all(self._session, containers)

    def apply(
        self, request: PoolRequest, accepted: Collection[Risk] | None = None, *, is_dry_run: bool = False
    ) -> Sequence[Change]:
        """Make the pool, its subnets and pairs as asked for; what the request does not name stays.

        Everything is checked before anything is written. It is written as one transaction, or above about 600 kB (some
        500 subnets) as several: then an error on the way leaves the first of them, and applying again does the rest.

        Args:
            request: what there is to be.
            accepted: risks that may be taken; None: any, as for a program that knows what it does.
            is_dry_run: change nothing, and say what would be.

        Raises:
            InvalidInput: the first thing that cannot be; nothing was changed.
            RiskNotAccepted: connections would break. A dry run does not look at risks.
        """
        has_spares = any(subnet.spares is not None for subnet in request.subnets)
        extent = Extent.PLACING if has_spares else Extent.SERVING
        if read_nodes(self._session, (self._version_path,)) == [None]:
            # Before anything is made, not even the pool's own node.
            changes = pool_changes(request, PoolTree(self._layout))
            if is_dry_run:
                return changes
            self._make_containers()
            nothing = Snapshot()
            return self._editor.edit(
                lambda tree: changes if tree.snapshot() == nothing else pool_changes(request, tree), extent
            )
        if is_dry_run:
            return pool_changes(request, self._editor.read(extent))

        def plan(tree: PoolTree) -> Sequence[Change]:
            changes = pool_changes(request, tree)
            if accepted is not None:
                require_accepted(pool_refusals(request, tree.snapshot()), accepted)
            return changes

        return self._editor.edit(plan, extent)

    def require_safe(self, request: PoolRequest, accepted: Collection[Risk]) -> None:
        """Refuse what would break connections, before anything is done.

        Raises:
            RiskNotAccepted: connections would break.
        """
        if read_nodes(self._session, (self._version_path,)) != [None]:
            require_accepted(pool_refusals(request, self.read_snapshot()), accepted)

    def plan_subnet(self, request: SubnetRequest) -> tuple[SubnetSpec, Change]:
        """What `add_subnet` would do: the subnet as it would be, and whether it is there. Nothing is written.

        Raises:
            InvalidInput: as `add_subnet` would.
        """
        tree = self._editor.read()
        _, change, *_ = pool_changes(PoolRequest(subnets=(request,)), tree, is_addition=True)
        return resolve_subnet(request, tree.snapshot().subnets), change

    def add_subnet(self, request: SubnetRequest) -> SubnetSpec:
        """Add a subnet; the same twice is once.

        Raises:
            InvalidInput: it cannot be, or there is another one of that name.
        """
        self._editor.edit(lambda tree: pool_changes(PoolRequest(subnets=(request,)), tree, is_addition=True))
        return self.read_snapshot().subnets[request.id]

    def add_pair(self, subnet: str, request: PairRequest) -> PairSpec:
        """Add a pair to a subnet; the same twice is once.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: it cannot be, or there is another one of that name.
        """
        self._editor.edit(lambda tree: _addition(subnet, request, tree))
        return self.read_snapshot().pairs[subnet][request.id]

    def plan_pair(self, subnet: str, request: PairRequest) -> tuple[PairSpec, Change]:
        """What `add_pair` would do: the pair as it would be, and whether it is there already. Nothing is written.

        Raises:
            NotFound, InvalidInput: as `add_pair` would.
        """
        tree = self._editor.read()
        *_, change = _addition(subnet, request, tree)
        return resolve_pair(request, subnet, tree.snapshot()), change

    def require_subnet(self, subnet: str) -> None:
        """Make sure that there is such a subnet, even one that cannot be read.

        Raises:
            NotFound: there is none.
        """
        require_subnet(self._editor.read(), subnet)

    def require_pair(self, subnet: str, pair: str) -> None:
        """Make sure that there is such a pair, even one that cannot be read.

        Raises:
            NotFound: there is none.
        """
        require_pair(self._editor.read(), subnet, pair)

    def remove_subnet(self, subnet: str, *, is_dry_run: bool = False) -> None:
        """Remove a subnet without pairs; as a dry run, only see whether that can be.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: it has pairs, the controller is at work on some, or a later proxypool wrote it.
        """

        def change(tree: PoolTree) -> Sequence[Change]:
            require_subnet(tree, subnet)
            pairs = tree.names(("subnets", subnet, "pairs"))
            if pairs:
                raise InvalidInput(
                    f"subnet {subnet} still has the pairs {', '.join(pairs)}: "
                    f"remove them first with `proxypool pair remove {subnet} {pairs[0]}`"
                )
            self._require_idle(subnet)
            return (self._removal("subnet", subnet, subnet_suffix(subnet)),)

        if is_dry_run:
            change(self._editor.read())
        else:
            self._editor.edit(change)

    def _require_idle(self, subnet: str) -> None:
        (names,) = read_children(self._session, (self._layout.path(ACTIONS),))
        about = [name.partition("_")[2] for name in names or () if action_subnet(name) == subnet]
        if about:
            raise InvalidInput(
                f"the controller is at work on subnet {subnet} (pair {', '.join(about)}): have it begin nothing else "
                f"with `proxypool scale set {subnet} --mode off`, and wait until `proxypool scale status {subnet}` "
                "shows that it is done"
            )

    def drain_pair(self, subnet: str, pair: str, at: float, accepted: Collection[Risk] = ()) -> Change:
        """Have hosts send the pair no new connections, from wall time `at` on. A pair that drains already is unchanged.

        Raises:
            NotFound: there is no such subnet or pair.
            RiskNotAccepted: it is the last active pair of its subnet.
        """

        def alter(spec: PairSpec, snapshot: Snapshot) -> PairSpec:
            require_accepted(drain_refusals(spec, snapshot.pairs[subnet]), accepted)
            return drained(spec, at)

        return self._edit_pair(subnet, pair, alter)

    def undrain_pair(self, subnet: str, pair: str) -> Change:
        """Have hosts send the pair new connections again. A pair that does not drain is unchanged.

        Raises:
            NotFound: there is no such subnet or pair.
        """
        return self._edit_pair(subnet, pair, lambda spec, _: undrained(spec))

    def set_weight(self, subnet: str, pair: str, weight: int) -> Change:
        """Set the pair's share of its subnet's new connections, 1 to `MAX_WEIGHT`.

        Raises:
            NotFound: there is no such subnet or pair.
            InvalidInput: no such weight.
        """
        require_weight(weight)
        return self._edit_pair(subnet, pair, lambda spec, _: msgspec.structs.replace(spec, weight=weight))

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

    def set_pair(self, subnet: str, pair: str, settings: PairSettings) -> Change:
        """Change what of a pair can be changed while it serves.

        Raises:
            NotFound: there is no such subnet or pair.
            InvalidInput: no such weight, or a probe target that no route leads to.
        """

        def alter(spec: PairSpec, snapshot: Snapshot) -> PairSpec:
            changed = settings.applied(spec)
            validate_pair(changed, snapshot)
            return changed

        return self._edit_pair(subnet, pair, alter)

    def pause_pair(
        self, subnet: str, pair: str, at: float, who: str = "", reason: str = ""
    ) -> tuple[PairSpec, PairSpec]:
        """Freeze the pair's roles, from wall time `at` on: as it was before and is now. One that is paused already
        is paused since when it was; another reason replaces the one it has.

        Raises:
            NotFound: there is no such subnet or pair.
        """
        return self._alter_pair(subnet, pair, lambda spec: paused(spec, at, who, reason))

    def resume_pair(self, subnet: str, pair: str) -> PairSpec:
        """End a pause: the pair as it was before. One that is not paused is unchanged.

        Raises:
            NotFound: there is no such subnet or pair.
        """
        return self._alter_pair(subnet, pair, resumed)[0]

    def _alter_pair(self, subnet: str, pair: str, alter: Callable[[PairSpec], PairSpec]) -> tuple[PairSpec, PairSpec]:
        seen: list[tuple[PairSpec, PairSpec]] = []

        def remember(spec: PairSpec, _: Snapshot) -> PairSpec:
            # An edit that somebody else overtakes is made again: the last one counts.
            seen.append((spec, alter(spec)))
            return seen[-1][1]

        self._edit_pair(subnet, pair, remember)
        return seen[-1]

    def _edit_pair(self, subnet: str, pair: str, alter: Callable[[PairSpec, Snapshot], PairSpec]) -> Change:
        (change,) = self._editor.edit(lambda tree: (pair_change(tree, subnet, pair, alter),))
        return change

    def remove_pair(self, subnet: str, pair: str, accepted: Collection[Risk] = ()) -> None:
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
            return (self._removal("pair", f"{subnet}/{pair}", pair_suffix(subnet, pair)),)

        self._editor.edit(change, Extent.STATUS)

    def _removal(self, kind: str, name: str, suffix: str) -> Change:
        doomed = read_subtree(self._session, self._layout.path(suffix))
        for path, node in zip(doomed, read_nodes(self._session, doomed), strict=True):
            if node is not None and not node.owner:
                require_known(node.data, what=path)
        return Change(kind, name, "removed", tuple(Delete(path) for path in doomed))


def _addition(subnet: str, request: PairRequest, tree: PoolTree) -> Sequence[Change]:
    known = tree.snapshot().subnets
    spec = known.get(subnet)
    if spec is None:
        raise NotFound("subnet", subnet, known)
    wanted = SubnetRequest(id=subnet, cidrs=spec.cidrs, tenant=spec.tenant, key=spec.key, pairs=(request,))
    return pool_changes(PoolRequest(subnets=(wanted,)), tree, is_addition=True)
