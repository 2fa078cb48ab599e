"""Names of machines and tunnel addresses of hosts: each is given once. Blocking; daemons call it and retry."""

from __future__ import annotations

import logging
import time
from ipaddress import IPv4Address, IPv4Network

import msgspec
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from proxypool.adapters.zookeeper.errors import Conflict, NameInUse, PoolMissing
from proxypool.adapters.zookeeper.layout import host_alive_suffix, host_suffix, node_alive_suffix, node_suffix
from proxypool.adapters.zookeeper.ownership import underlay_of
from proxypool.adapters.zookeeper.reading import Node, read_children, read_nodes
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, Delete, SetData, Write, commit, held, released
from proxypool.core import addressing
from proxypool.core.documents import DocumentTooNew, decode, encode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import Alive, HostSpec, NodeSpec

log = logging.getLogger(__name__)

ATTEMPTS = 10
TUNNEL_ADDRESSES = "tunnel-addresses"


class Registry:
    """See the module's text."""

    def __init__(self, session: PoolSession) -> None:
        self._session = session

    def register_node(self, spec: NodeSpec, alive: Alive) -> bool:
        """Register a node: its spec, and that it lives in our session. A spec of a later version of the documents stays
        as it is, and so do those who read it go on with what they know: the machine went back to an older proxypool.

        Returns whether it was not registered in this session yet. To keep the proof of life through later sessions,
        hand it to `Presence` as well.

        Raises:
            NameInUse: another machine lives under this name.
            TransientError: the connection broke, or the pool was not initialised yet (PoolMissing).
        """
        return self._register("node", spec.id, node_suffix(spec.id), node_alive_suffix(spec.id), spec, alive)

    def register_host(self, spec: HostSpec, alive: Alive) -> bool:
        """Register a host; see `register_node`."""
        return self._register("host", spec.id, host_suffix(spec.id), host_alive_suffix(spec.id), spec, alive)

    def _register(self, kind: str, name: str, at: str, alive_at: str, spec: msgspec.Struct, alive: Alive) -> bool:
        path, alive_path = self._session.layout.path(at), self._session.layout.path(alive_at)
        for _ in range(ATTEMPTS):
            old_spec, old_alive = read_nodes(self._session, (path, alive_path))
            is_ours = old_alive is not None and old_alive.owner == self._session.session_id
            if old_alive is not None and not is_ours and underlay_of(old_alive.data) != alive.underlay:
                raise _name_in_use(kind, name, old_alive)
            writes = [*_put(path, _renewed(spec, old_spec, path), old_spec)]
            data = encode(alive)
            if is_ours:
                writes += _put(alive_path, data, old_alive)
            else:
                writes += [Delete(alive_path, old_alive.version)] if old_alive else []
                writes.append(Create(alive_path, data, is_ephemeral=True))
            if self._commit(writes):
                return not is_ours
        raise Conflict(f"the registration of {kind} {name} is changed again and again by others")

    def _commit(self, writes: list[Write]) -> bool:
        """Whether the tree was still as we saw it."""
        try:
            if writes:
                commit(self._session, writes)
        except NoNodeError as error:
            container = self._session.layout.path("nodes")
            if read_nodes(self._session, (container,)) == [None]:
                raise pool_missing(self._session.layout.pool) from error
            return False
        except (NodeExistsError, BadVersionError):
            return False
        return True

    def allocate_tunnel_address(self, host: str, pool: IPv4Network) -> IPv4Address:
        """The host's tunnel address; one that it has had before is kept if the pool's range still has it.

        Raises:
            InvalidInput: the range is full.
            TransientError: the connection broke, or the pool was not initialised yet.
        """
        container = self._session.layout.path(TUNNEL_ADDRESSES)
        for _ in range(ATTEMPTS):
            (names,) = read_children(self._session, (container,))
            if names is None:
                raise pool_missing(self._session.layout.pool)
            addresses = [IPv4Address(name) for name in names if _is_address(name)]
            owners = read_nodes(self._session, [f"{container}/{address}" for address in addresses])
            ours = [at for at, owner in zip(addresses, owners, strict=True) if owner and owner.data == host.encode()]
            kept = next((address for address in ours if address in pool), None)
            address = kept or addressing.allocate_tunnel_address(host, pool, frozenset(addresses))
            stale = [
                write for other in ours if other != address for write in released(self._session, f"{container}/{other}")
            ]
            fresh = [] if kept else held(self._session, f"{container}/{address}", host.encode())
            if self._commit([*stale, *fresh]):
                return address
        raise Conflict(f"no tunnel address for host {host}: others take them at the same time; try again")


def _is_address(name: str) -> bool:
    try:
        IPv4Address(name)
    except ValueError:
        return False
    return True


def pool_missing(pool: str) -> PoolMissing:
    """What to do about a pool that is not there."""
    return PoolMissing(f"there is no pool {pool!r} in ZooKeeper: create it with `proxypool --pool {pool} pool init`")


def _put(path: str, data: bytes, found: Node | None) -> list[Write]:
    if found is None:
        return [Create(path, data)]
    return [] if found.data == data else [SetData(path, data, found.version)]


def _renewed(spec: msgspec.Struct, found: Node | None, path: str) -> bytes:
    """What is to stand in a machine's document: as it is, if a later version of its own daemon wrote that."""
    try:
        return encode(spec, found.data if found else None, what=path)
    except DocumentTooNew as error:
        log.debug("%s", error)
        return found.data if found else b""


def _name_in_use(kind: str, name: str, found: Node) -> NameInUse:
    try:
        other = decode(found.data, Alive, what="alive")
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(other.since))
        who = f"by the machine at {other.underlay} since {since}"
    except InvalidInput:
        who = "by another machine"
    return NameInUse(
        f"the name {name!r} is used {who}: give this {kind} another name in its configuration, or stop that one"
    )
