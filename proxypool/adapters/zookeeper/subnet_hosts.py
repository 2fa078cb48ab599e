"""Which hosts use a subnet. Persistent, unlike proofs of life: an agent that is away must not cut its instances off.

Nodes map the tunnel addresses of these hosts, and of no others; up to which change of the list they have done so they
publish. Blocking; the agent calls it and retries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from proxypool.adapters.zookeeper.layout import Facet, statuses_suffix, subnet_host_suffix
from proxypool.adapters.zookeeper.listing import Listing, RawListing
from proxypool.adapters.zookeeper.reading import Node, Watch, read_all
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import commit, held, released
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.model import MemberStatus


def join_subnet(session: PoolSession, host: str, subnet: str) -> int | None:
    """Say that a host uses a subnet; again is fine, and so is a subnet that was removed meanwhile.

    Returns the zxid since which it is said, for `is_seen`; None: there is no such subnet.

    Raises:
        TransientError: the connection broke.
    """
    path = session.layout.path(subnet_host_suffix(subnet, host))
    while True:
        try:
            if session.access.is_held(session, path):
                commit(session, held(session, path))
            else:
                # In one go: this is on the way of an instance that starts.
                acl = session.access.of(session, path)
                _, made = session.wait(session.client.create_async(path, b"", acl=acl, include_data=True))
                return int(made.czxid)
        except NoNodeError:
            return None
        except NodeExistsError:
            pass
        found = session.wait(session.client.exists_async(path))
        if found is not None:
            return int(found.czxid)


def leave_subnet(session: PoolSession, host: str, subnet: str) -> None:
    """Take it back; never having said it is fine.

    Raises:
        TransientError: the connection broke.
    """
    writes = released(session, session.layout.path(subnet_host_suffix(subnet, host)))
    try:
        if writes:
            commit(session, writes)
    except (NoNodeError, BadVersionError):
        return


def is_seen(session: PoolSession, subnet: str, pairs: Iterable[str], zxid: int, on_change: Watch) -> bool:
    """Whether the nodes of these pairs of the subnet have programmed every host that joined up to this zxid.

    Members that publish no status, being dead or away, do not count; but each pair needs one that publishes. A status
    that cannot be read says nothing, as if it were not there. `on_change` is called once, on another thread, when the
    answer may be another.

    Raises:
        TransientError: the connection broke.
    """
    places = [session.layout.path(statuses_suffix(subnet, pair)) for pair in pairs]
    listings = read_all(session, [(Facet.CHILDREN, place) for place in places], on_change)
    for place, listing in zip(places, listings, strict=True):
        names = sorted(listing.after(Listing()).names) if isinstance(listing, RawListing) else []
        paths = [f"{place}/{name}" for name in names]
        nodes = read_all(session, [(Facet.DATA, path) for path in paths], on_change)
        found = (_hosts_seen(node, path) for node, path in zip(nodes, paths, strict=True))
        said = [each for each in found if each is not None]
        if not said or min(said) < zxid:
            return False
    return True


def wait_until_seen(session: PoolSession, subnet: str, pairs: Iterable[str], zxid: int, timeout_s: float) -> bool:
    """The same for whoever may block: wait until it is seen; whether it came true in time."""
    deadline, wanted, has_changed = time.monotonic() + timeout_s, tuple(pairs), threading.Event()
    while True:
        has_changed.clear()
        if is_seen(session, subnet, wanted, zxid, lambda _: has_changed.set()):
            return True
        if not has_changed.wait(max(0.0, deadline - time.monotonic())):
            return False


def _hosts_seen(node: object, path: str) -> int | None:
    if not isinstance(node, Node):
        return None
    try:
        return decode(node.data, MemberStatus, what=path).hosts_seen
    except InvalidInput:
        return None
