"""Scenes on their way into the kernel, and what members may acknowledge of them. Runs on the main loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxypool.core.model import Snapshot
from proxypool.core.scene import Scene
from proxypool.daemons.dataplane import NODE_SCOPE, Dataplane, Reconciled
from proxypool.daemons.member import Member


@dataclass(slots=True)
class _Wish:
    """The last wish for a scope, its mark, and the mark of the last one that was fulfilled."""

    scene: Scene | None = None
    wanted: int = 0
    done: int = -1


@dataclass
class Wishes:
    """Of all scopes of a node."""

    dataplane: Dataplane
    _scopes: dict[str, _Wish] = field(default_factory=dict)
    _mark: int = 0

    def want(self, scope: str, scene: Scene) -> None:
        """A pool of many subnets has many snapshots; most do not change the scenes of most of them."""
        known = self._scopes.setdefault(scope, _Wish())
        if known.scene is not scene:
            self._mark += 1
            known.scene, known.wanted = scene, self._mark
            self.dataplane.want(scope, scene, self._mark)

    def forget(self, scope: str) -> None:
        """Nothing is wanted any more, or somebody else says what."""
        self._scopes.pop(scope, None)

    def list_hosts(self, members: Iterable[Member], snapshot: Snapshot, now: float) -> None:
        """What is to be acknowledged once the wishes that were just made are fulfilled."""
        for member in members:
            subnet = member.pair.subnet
            zxid, wish = snapshot.hosts_zxid.get(subnet), self._scopes.get(subnet)
            if zxid is not None and wish is not None:
                node_mark = self._scopes[NODE_SCOPE].wanted
                member.acknowledgement.listed(zxid, member.scenes.unknown, wish.wanted, node_mark, now)
                self._acknowledge(member)

    def fulfilled(self, result: Reconciled, members: Iterable[Member]) -> None:
        """A scope was worked on; `members` are all of the node."""
        wish = self._scopes.get(result.scope)
        if wish is None or result.problems:
            return
        wish.done = result.mark
        for member in members:
            if result.scope in (NODE_SCOPE, member.pair.subnet):
                self._acknowledge(member)

    def is_fulfilled(self, scope: str) -> bool:
        """Whether all that is wanted of a scope now is in place, as far as is known."""
        wish = self._scopes.get(scope)
        return wish is not None and wish.done == wish.wanted

    def second_passed(self, members: Iterable[Member], now: float) -> None:
        """Some hosts are not waited for any longer."""
        for member in members:
            member.acknowledgement.second_passed(now)
            self._acknowledge(member)

    def _acknowledge(self, member: Member) -> None:
        subnet, node = self._scopes.get(member.pair.subnet), self._scopes.get(NODE_SCOPE)
        if subnet is not None and node is not None:
            member.is_touched = member.acknowledgement.programmed(subnet.done, node.done) or member.is_touched
