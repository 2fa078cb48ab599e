"""Removes all that a host has registered, so that another machine may have its name."""

from __future__ import annotations

from proxypool.adapters.zookeeper.errors import NameInUse, NotFound
from proxypool.adapters.zookeeper.layout import host_alive_suffix, host_suffix, subnet_host_suffix
from proxypool.adapters.zookeeper.reading import read_children, read_nodes
from proxypool.adapters.zookeeper.registry import TUNNEL_ADDRESSES
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Write, commit, released


def entries_of(session: PoolSession, host: str) -> list[str]:
    """Paths of what a host has registered, the host itself last. Blocking.

    Raises:
        NotFound: there is no such host.
        TransientError: the connection broke.
    """
    layout = session.layout
    hosts, subnets, addresses = read_children(
        session, [layout.path(suffix) for suffix in ("hosts", "subnets", TUNNEL_ADDRESSES)]
    )
    if host not in (hosts or ()):
        raise NotFound("host", host, hosts or ())
    places = [layout.path(subnet_host_suffix(subnet, host)) for subnet in subnets or ()]
    places += [layout.path(f"{TUNNEL_ADDRESSES}/{address}") for address in addresses or ()]
    found = zip(places, read_nodes(session, places), strict=True)
    prefix = layout.path(f"{TUNNEL_ADDRESSES}/")
    ours = [
        path for path, node in found if node is not None and (not path.startswith(prefix) or node.data == host.encode())
    ]
    return [*ours, layout.path(host_suffix(host))]


def forget_host(session: PoolSession, host: str) -> list[str]:
    """Remove it all, as one transaction; the paths of `entries_of`. Its instances, if it still has any, are cut off.

    Raises:
        NameInUse: its agent lives.
        NotFound: there is no such host.
        TransientError: the connection broke.
    """
    paths = entries_of(session, host)
    (alive,) = read_nodes(session, (session.layout.path(host_alive_suffix(host)),))
    if alive is not None:
        raise NameInUse(f"the agent of host {host} lives: stop it first with `systemctl stop proxypool-host` on {host}")
    writes: list[Write] = [write for path in paths for write in released(session, path)]
    commit(session, writes)
    return paths
