"""What operators want of the size of subnets and of nodes: edits like those of the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address

from msgspec.structs import replace

from proxypool.adapters.zookeeper.changes import (
    UNCHANGED,
    Change,
    orders_change,
    require_subnet,
    spares_change,
    subnet_change,
)
from proxypool.adapters.zookeeper.editing import PoolEditor
from proxypool.adapters.zookeeper.errors import NotFound
from proxypool.adapters.zookeeper.layout import ACTIONS, Extent, action_subnet, node_orders_suffix, node_suffix
from proxypool.adapters.zookeeper.reading import read_children, read_nodes
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.tree import PoolTree
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Snapshot, SubnetSpec
from proxypool.core.scaling.documents import Action, NodeOrders, Spares, by_subnet
from proxypool.core.scaling.model import ScalingSpec
from proxypool.core.scaling.orders import cordoned, draining, uncordoned
from proxypool.core.scaling.requests import (
    Card,
    ScalingRequest,
    SparesRequest,
    Taken,
    taken,
    validate_spares,
    with_spares,
    without_spares,
)


class ScalingEdits:
    """See the module's text. Blocking; the session must be connected."""

    def __init__(self, session: PoolSession, editor: PoolEditor) -> None:
        self._session, self._editor = session, editor

    def set(self, subnet: str, request: ScalingRequest) -> tuple[ScalingSpec, bool]:
        """Change how large a subnet is to be. Returns what it is now, and whether it was something else before.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: the numbers cannot be.
        """
        made: list[ScalingSpec] = []
        (change,) = self._editor.edit(lambda tree: (_sized(tree, subnet, request, made),))
        return made[-1], change.what != UNCHANGED

    def plan(self, subnet: str, request: ScalingRequest) -> tuple[ScalingSpec, bool]:
        """What `set` would do. Nothing is written.

        Raises:
            NotFound, InvalidInput: as `set` would.
        """
        made: list[ScalingSpec] = []
        change = _sized(self._editor.read(), subnet, request, made)
        return made[-1], change.what != UNCHANGED

    def pause(self, subnets: Collection[str] | None, at: float) -> Sequence[Change]:
        """Begin no action on these subnets, or on all that are managed, from wall time `at` on.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: one that was named is not managed.
        """
        return self._set_paused(subnets, lambda since: at if since is None else since)

    def resume(self, subnets: Collection[str] | None) -> Sequence[Change]:
        """End the pause of these subnets, or of all; raises what `pause` does."""
        return self._set_paused(subnets, lambda _: None)

    def _set_paused(
        self, subnets: Collection[str] | None, since: Callable[[float | None], float | None]
    ) -> Sequence[Change]:
        def alter(spec: SubnetSpec) -> SubnetSpec:
            if spec.scaling is None:
                raise InvalidInput(
                    f"subnet {spec.id} is not managed by the controller: give it a size first with "
                    f"`proxypool scale set {spec.id} --min N`"
                )
            return replace(spec, scaling=replace(spec.scaling, paused_since=since(spec.scaling.paused_since)))

        def plan(tree: PoolTree) -> Sequence[Change]:
            return tuple(subnet_change(tree, subnet, alter) for subnet in _named_or_managed(subnets, tree.snapshot()))

        return self._editor.edit(plan)

    def cordon(self, node: str, at: float, who: str, reason: str) -> Change:
        """Place no new pair on a node, from wall time `at` on. One that is cordoned already is unchanged.

        Raises:
            NotFound: no such node has registered.
        """
        return self._order(node, lambda orders: cordoned(orders, at, who, reason))

    def drain(self, node: str, at: float, who: str, reason: str) -> Change:
        """Move a node's members elsewhere, and place no new one there; raises what `cordon` does."""
        return self._order(node, lambda orders: draining(orders, at, who, reason))

    def uncordon(self, node: str, who: str, reason: str) -> Change:
        """Take either order back; raises what `cordon` does."""
        return self._order(node, lambda orders: uncordoned(orders, who, reason))

    def _order(self, node: str, alter: Callable[[NodeOrders], NodeOrders]) -> Change:
        (change,) = self._editor.edit(lambda tree: (orders_change(tree, node, alter),), Extent.PLACING)
        return change

    def orders(self, node: str) -> NodeOrders:
        """What is ordered of a node. Orders that cannot be read count as none.

        Raises:
            NotFound: no such node has registered.
        """
        layout = self._session.layout
        paths = (layout.path(node_suffix(node)), layout.path(node_orders_suffix(node)))
        spec, orders = read_nodes(self._session, paths)
        if spec is None:
            (known,) = read_children(self._session, (layout.path("nodes"),))
            raise NotFound("node", node, known or ())
        try:
            return decode(orders.data, NodeOrders, what=paths[1]) if orders is not None else NodeOrders()
        except InvalidInput:
            return NodeOrders()

    def add_spares(self, subnet: str, more: SparesRequest, *, is_dry_run: bool = False) -> Change:
        """Add spares to those of a subnet; the same again changes nothing, and a dry run nothing at all.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: one of them cannot be.
        """

        def plan(tree: PoolTree) -> Sequence[Change]:
            require_subnet(tree, subnet)
            snapshot, known = tree.snapshot(), tree.spares()
            new = with_spares(_readable(tree, subnet), more)
            validate_spares(snapshot.subnets[subnet], new, snapshot, known)
            return (spares_change(tree, subnet, new),)

        (change,) = self._spares_edit(plan, is_dry_run=is_dry_run)
        return change

    def remove_spares(
        self, subnet: str, cards: Collection[Card], addresses: Collection[IPv4Address], *, is_dry_run: bool = False
    ) -> Change:
        """Take spares away; a dry run only says whether that can be.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: one of them is no spare, or is in use.
        """

        def plan(tree: PoolTree) -> Sequence[Change]:
            require_subnet(tree, subnet)
            users = taken(subnet, tree.snapshot(), self._actions((subnet,)).get(subnet, ()))
            left = without_spares(_readable(tree, subnet), cards, addresses, users, subnet)
            return (spares_change(tree, subnet, left),)

        (change,) = self._spares_edit(plan, is_dry_run=is_dry_run)
        return change

    def _spares_edit(self, plan: Callable[[PoolTree], Sequence[Change]], *, is_dry_run: bool) -> Sequence[Change]:
        return plan(self._editor.read(Extent.PLACING)) if is_dry_run else self._editor.edit(plan, Extent.PLACING)

    def spares(self, subnet: str | None = None) -> Mapping[str, tuple[Spares, Taken]]:
        """Of one subnet or of all that have some: the spares, and who uses them.

        Raises:
            NotFound: there is no such subnet.
            InvalidInput: that subnet's spares cannot be read.
        """
        tree = self._editor.read(Extent.PLACING)
        if subnet is not None:
            require_subnet(tree, subnet)
            found: Collection[tuple[str, Spares]] = ((subnet, _readable(tree, subnet)),)
        else:
            found = tree.spares().items()
        snapshot, actions = tree.snapshot(), self._actions([name for name, _ in found])
        return {name: (spares, taken(name, snapshot, actions.get(name, ()))) for name, spares in found}

    def _actions(self, subnets: Collection[str]) -> Mapping[str, tuple[Action, ...]]:
        """Those under way in these subnets."""
        layout = self._session.layout
        (names,) = read_children(self._session, (layout.path(ACTIONS),))
        paths = [layout.path(f"{ACTIONS}/{name}") for name in names or () if action_subnet(name) in subnets]
        nodes = zip(paths, read_nodes(self._session, paths), strict=True)
        return by_subnet(decode(node.data, Action, what=path) for path, node in nodes if node is not None)


def _sized(tree: PoolTree, subnet: str, request: ScalingRequest, made: list[ScalingSpec]) -> Change:
    """The change; what the subnet is to have afterwards is added to `made`."""

    def alter(spec: SubnetSpec) -> SubnetSpec:
        made.append(request.applied(subnet, spec.scaling))
        return replace(spec, scaling=made[-1])

    return subnet_change(tree, subnet, alter)


def _named_or_managed(subnets: Collection[str] | None, snapshot: Snapshot) -> list[str]:
    if subnets is not None:
        return sorted(subnets)
    return sorted(name for name, spec in snapshot.subnets.items() if spec.scaling is not None)


def _readable(tree: PoolTree, subnet: str) -> Spares:
    problem = tree.problem(("subnets", subnet, "spares"))
    if problem is not None:
        is_too_new = tree.path(("subnets", subnet, "spares")) in tree.snapshot().too_new
        raise InvalidInput(problem if is_too_new else f"{problem}: write them again with `proxypool pool apply`")
    return tree.spares().get(subnet, Spares())
