"""Which hosts use a subnet. Persistent, unlike proofs of life: an agent that is away must not cut its instances off.

Nodes map the tunnel addresses of these hosts, and of no others; up to which change of the list they have done so they
publish. Blocking; the agent calls it and retries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from proxypool.adapters.zookeeper.layout import Facet, statuses_suffix, subnet_host_suffix
from proxypool.adapters.zookeeper.listing import Listing, RawListing
from proxypool.adapters.zookeeper.reading import Node, Watch, read_all
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Delete, commit
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import MemberStatus


def join_subnet(session: PoolSession, host: str, subnet: str) -> int | None:
    """Say that a host uses a subnet; again is fine, and so is a subnet that was removed meanwhile.

    Returns the zxid since which it is said, for `wait_until_seen`; None: there is no such subnet.

    Raises:
        TransientError: the connection broke.
    """
    path = session.layout.path(subnet_host_suffix(subnet, host))
    while True:
        try:
            _, made = session.wait(session.client.create_async(path, b"", include_data=True))
            return int(made.czxid)
        except NoNodeError:
            return None
        except NodeExistsError:
            found = session.wait(session.client.exists_async(path))
            if found is not None:
                return int(found.czxid)


def leave_subnet(session: PoolSession, host: str, subnet: str) -> None:
    """Take it back; never having said it is fine.

    Raises:
        TransientError: the connection broke.
    """
    try:
        commit(session, [Delete(session.layout.path(subnet_host_suffix(subnet, host)))])
    except (NoNodeError, BadVersionError):
        return


def wait_until_seen(session: PoolSession, subnet: str, pairs: Iterable[str], zxid: int, timeout_s: float) -> bool:
    """Wait until the nodes of these pairs of the subnet have programmed every host that joined up to this zxid.

    Members that publish no status, being dead or away, are not waited for; but each pair needs one that publishes.

    Returns whether it came true in time.

    Raises:
        TransientError: the connection broke.
    """
    deadline = time.monotonic() + timeout_s
    wanted = tuple(pairs)
    has_changed = threading.Event()

    def on_change(_: Any) -> None:
        has_changed.set()

    while True:
        has_changed.clear()
        seen = _read_seen(session, subnet, wanted, on_change)
        if all(members and min(members) >= zxid for members in seen):
            return True
        if not has_changed.wait(max(0.0, deadline - time.monotonic())):
            return False


def _read_seen(session: PoolSession, subnet: str, pairs: Iterable[str], watch: Watch) -> list[list[int]]:
    """For each pair what its members say. A status that cannot be read says nothing, as if it were not there."""
    places = [session.layout.path(statuses_suffix(subnet, pair)) for pair in pairs]
    listings = read_all(session, [(Facet.CHILDREN, place) for place in places], watch)
    found: list[list[int]] = []
    for place, listing in zip(places, listings, strict=True):
        names = sorted(listing.after(Listing()).names) if isinstance(listing, RawListing) else []
        paths = [f"{place}/{name}" for name in names]
        nodes = read_all(session, [(Facet.DATA, path) for path in paths], watch)
        said = [_hosts_seen(node, path) for node, path in zip(nodes, paths, strict=True)]
        found.append([each for each in said if each is not None])
    return found


def _hosts_seen(node: object, path: str) -> int | None:
    if not isinstance(node, Node):
        return None
    try:
        return decode(node.data, MemberStatus, what=path).hosts_seen
    except InvalidInput:
        return None
