"""What the command line reads and writes: the whole pool at once, and edits that cannot race (see `editing`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from kazoo.exceptions import NodeExistsError

from proxypool.adapters.zookeeper.changes import (
    Change,
    pool_changes,
    pool_refusals,
    require_subnet,
)
from proxypool.adapters.zookeeper.editing import PoolEditor
from proxypool.adapters.zookeeper.layout import (
    ACTIONS,
    HISTORY,
    LAYOUT_VERSION,
    Extent,
    action_subnet,
    subnet_suffix,
)
from proxypool.adapters.zookeeper.pairs import PairEdits
from proxypool.adapters.zookeeper.reading import read_children, read_nodes
from proxypool.adapters.zookeeper.registry import TUNNEL_ADDRESSES
from proxypool.adapters.zookeeper.scaling import ScalingEdits
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.switchover import Elections
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.adapters.zookeeper.view import view_of
from proxypool.adapters.zookeeper.writing import Create, commit, write_all
from proxypool.core.draining import (
    Risk,
    require_accepted,
)
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Snapshot, SubnetSpec
from proxypool.core.pool_view import PoolView
from proxypool.core.requests import PoolRequest, SubnetRequest, resolve_subnet
from proxypool.core.scaling.overview import ScalingView


class PoolStore:
    """See the module's text. Blocking; the session must be connected."""

    def __init__(self, session: PoolSession) -> None:
        self._session, self._layout = session, session.layout
        self._version_path = self._layout.path("version")
        self._editor = PoolEditor(session)
        self.elections = Elections(session)
        self.pairs = PairEdits(session, self._editor)
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

    def require_subnet(self, subnet: str) -> None:
        """Make sure that there is such a subnet, even one that cannot be read.

        Raises:
            NotFound: there is none.
        """
        require_subnet(self._editor.read(), subnet)

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
            return (self._editor.removal("subnet", subnet, subnet_suffix(subnet)),)

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
