"""Documents of pairs as actions make and change them. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from proxypool.core.addressing import allocate_vrid
from proxypool.core.draining import drained
from proxypool.core.errors import InvalidInput
from proxypool.core.model import PairSpec, PairState, Snapshot
from proxypool.core.scaling.documents import Action


def new_pair(action: Action, snapshot: Snapshot) -> PairSpec:
    """The pair of an action that has all that it takes: preparing, with the smallest VRRP id free on both nodes.

    Raises:
        InvalidInput: it has no HaVip yet, or no VRRP id is free.
    """
    if action.havip is None:
        raise InvalidInput(f"the action {action.id} has no HaVip")
    nodes = [member.node for member in action.members]
    taken = {pair.vrid for pair in snapshot.all_pairs() if any(pair.member(node) for node in nodes)}
    return PairSpec(
        id=action.pair,
        subnet=action.subnet,
        members=action.members,
        havip=action.havip,
        vrid=allocate_vrid(taken),
        egress_address=action.egress_address,
        state=PairState.PREPARING,
        provider=action.provider,
    )


def in_state(pair: PairSpec, state: PairState, at: float) -> PairSpec:
    """The pair in a state, since wall time `at`."""
    if state is PairState.DRAINING:
        return drained(pair, at)
    return replace(pair, state=state, draining_since=None)


def require_others(snapshot: Snapshot, subnet: str, pair: str, count: int) -> None:
    """Make sure that so many other pairs of the subnet take new connections.

    Raises:
        InvalidInput: there are fewer.
    """
    pairs = snapshot.pairs.get(subnet, {})
    others = sum(other.state is PairState.ACTIVE for name, other in pairs.items() if name != pair)
    if others < count:
        raise InvalidInput(f"only {others} other pairs of subnet {subnet} are active, {count} are needed")
