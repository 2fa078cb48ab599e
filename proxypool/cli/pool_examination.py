"""What `proxypool doctor` finds out from ZooKeeper and the provider. Blocking, on a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from proxypool.adapters.zookeeper import (
    PoolSession,
    PoolStore,
    Securing,
    host_alive_suffix,
    node_alive_suffix,
    round_trip_s,
    written,
)
from proxypool.core.config import Config
from proxypool.core.doctor.facts import DaemonRole, QuotaFacts, ZooKeeperFacts
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput, ProxypoolError
from proxypool.core.model import Alive, NodeSpec, Snapshot, SubnetSpec
from proxypool.core.pool_view import PoolView
from proxypool.providers import registry
from proxypool.providers.contract import PoolView as ProviderView
from proxypool.providers.contract import Provider, ProviderError

MAX_LISTS = 5000
"""So many access lists are looked at."""
MAX_NAMED = 5
"""And so many that are wrong are named."""


@contextmanager
def _connected(config: Config, within_s: float) -> Iterator[PoolSession]:
    session = PoolSession(config.zookeeper, config.pool)
    is_connected = False
    try:
        session.connect(within_s)
        is_connected = True
        yield session
    finally:
        session.stop(close_session=is_connected)


def zookeeper(config: Config, role: DaemonRole, name: str, within_s: float) -> ZooKeeperFacts:
    """How the ensemble answers, and what the pool in it asks of this machine."""
    try:
        with _connected(config, within_s) as session:
            found = ZooKeeperFacts(round_trip_s=round_trip_s(session), skew_s=_skew_s(session, role, name))
            try:
                found = _with_access(found, session)
                return _with_pool(found, PoolStore(session).read_snapshot(), name)
            except ProxypoolError as error:
                return msgspec.structs.replace(found, pool_problem=str(error))
    except ProxypoolError as error:
        return ZooKeeperFacts(problem=str(error))


def _with_access(found: ZooKeeperFacts, session: PoolSession) -> ZooKeeperFacts:
    securing = Securing(session)
    access = securing.read()
    if access is None:
        return msgspec.structs.replace(found, has_access_lists=False)
    wrong = [one.path for one in securing.differences(access, MAX_LISTS)]
    return msgspec.structs.replace(
        found, has_access_lists=True, open_nodes=tuple(wrong[:MAX_NAMED]), open_count=len(wrong)
    )


def _with_pool(found: ZooKeeperFacts, snapshot: Snapshot, name: str) -> ZooKeeperFacts:
    ours = [pair for pair in snapshot.all_pairs() if pair.member(name) is not None]
    return msgspec.structs.replace(
        found,
        tunnel=snapshot.spec.tunnel.value if snapshot.spec is not None else "",
        has_egress=any(pair.egress_address is not None for pair in ours),
    )


def _skew_s(session: PoolSession, role: DaemonRole, name: str) -> float | None:
    """From what the daemon of this machine published last: the time it says, and the time ZooKeeper took it."""
    if role is DaemonRole.CONTROLLER:
        return None
    found = written(session, node_alive_suffix(name) if role is DaemonRole.NODE else host_alive_suffix(name))
    if found is None:
        return None
    try:
        alive = decode(found[0], Alive, what="alive")
    except InvalidInput:
        return None
    return alive.at - found[1] if alive.at else None


def quota(config: Config, within_s: float, deadline_s: float, limit: int) -> tuple[QuotaFacts, ...]:
    """What the provider would give, for so many subnets that the controller looks after.

    Raises:
        InvalidInput: there is no such provider.
        TransientError: ZooKeeper cannot be reached.
    """
    with _connected(config, within_s) as session:
        view = PoolStore(session).read_view()
    provider = registry.create(config.provider, lambda: _provider_view(view))
    nodes = tuple(node for name, node in sorted(view.snapshot.nodes.items()) if name in view.nodes_alive)
    managed = [spec for _, spec in sorted(view.snapshot.subnets.items()) if spec.scaling is not None]
    return tuple(_ask(provider, spec, nodes, deadline_s) for spec in managed[:limit])


def _provider_view(view: PoolView) -> ProviderView:
    return ProviderView(spares=view.spares, pairs=view.snapshot.pairs, actions=view.actions)


def _ask(provider: Provider, subnet: SubnetSpec, nodes: tuple[NodeSpec, ...], deadline_s: float) -> QuotaFacts:
    try:
        offers = provider.offers(subnet, nodes, deadline_s)
    except ProviderError as error:
        return QuotaFacts(subnet=subnet.id, problem=str(error))
    return QuotaFacts(subnet=subnet.id, cards={name: offer.cards for name, offer in sorted(offers.items())})
