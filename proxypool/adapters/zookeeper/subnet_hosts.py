"""Which hosts use a subnet. Persistent, unlike proofs of life: an agent that is away must not cut its instances off.

Nodes map the tunnel addresses of these hosts, and of no others. Blocking; the agent calls it and retries.
"""

from __future__ import annotations

from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from proxypool.adapters.zookeeper.layout import subnet_host_suffix
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, Delete, commit


def join_subnet(session: PoolSession, host: str, subnet: str) -> None:
    """Say that a host uses a subnet; again is fine, and so is a subnet that was removed meanwhile.

    Raises:
        TransientError: the connection broke.
    """
    try:
        commit(session, [Create(session.layout.path(subnet_host_suffix(subnet, host)), b"")])
    except (NodeExistsError, NoNodeError):
        return


def leave_subnet(session: PoolSession, host: str, subnet: str) -> None:
    """Take it back; never having said it is fine.

    Raises:
        TransientError: the connection broke.
    """
    try:
        commit(session, [Delete(session.layout.path(subnet_host_suffix(subnet, host)))])
    except (NoNodeError, BadVersionError):
        return
