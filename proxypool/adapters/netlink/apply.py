"""Write one object in the namespace the thread is in. Every function may be called twice with the same result."""

from __future__ import annotations

from collections.abc import Sequence

from pyroute2 import IPRoute

from proxypool.adapters.netlink.batch import apply_batch
from proxypool.adapters.netlink.errors import absent_is_fine, translated
from proxypool.adapters.netlink.inventory import index_of
from proxypool.adapters.netlink.links import give_eni_back, make_tunnel, take_eni
from proxypool.adapters.netlink.namespaces import Home
from proxypool.adapters.netlink.sets import put_set, remove_set
from proxypool.adapters.netlink.source_guard import put_guard, remove_guard
from proxypool.core.errors import ProxypoolError
from proxypool.core.scene import (
    Address,
    AddressSet,
    AnyObject,
    Eni,
    ForwardingEntry,
    LeaseSet,
    MarkedSet,
    Neighbour,
    PolicyRule,
    ProxyNeighbour,
    Route,
    SourceGuard,
    Tunnel,
    UnknownSet,
)


def apply_object(item: AnyObject, namespace: str | None, home: Home) -> None:
    """Make a netlink object be as described.

    Raises:
        TransientError, PermanentError: what the kernel refused, with the object in the text.
    """
    with translated(f"set {describe(item)}"):
        match item:
            case Eni():
                take_eni(item, namespace, home)
            case Tunnel():
                make_tunnel(item, namespace, home)
            case SourceGuard():
                put_guard(item)
            case AddressSet() | MarkedSet() | LeaseSet():
                put_set(item)
            case Address() | Route() | PolicyRule() | Neighbour() | ProxyNeighbour() | ForwardingEntry():
                _require_done(apply_batch([(item, True)]))
            case _:
                raise TypeError(f"not a netlink object: {item}")


def remove_object(item: AnyObject, namespace: str | None, home: Home) -> None:
    """Make a netlink object not exist; an absent one is fine.

    Raises:
        TransientError, PermanentError: what the kernel refused.
    """
    with translated(f"remove {describe(item)}"):
        match item:
            case Eni() if namespace is not None:
                give_eni_back(home)
            case AddressSet() | MarkedSet() | LeaseSet() | UnknownSet():
                remove_set(item.name)
            case SourceGuard(device):
                remove_guard(device)
            case Tunnel(device):
                index = index_of(device)
                if index is not None:
                    with IPRoute() as ip, absent_is_fine():
                        ip.link("del", index=index)
            case Address() | Route() | PolicyRule() | Neighbour() | ProxyNeighbour() | ForwardingEntry():
                _require_done(apply_batch([(item, False)]))
            case _:
                raise TypeError(f"not a netlink object: {item}")


def describe(item: AnyObject) -> str:
    """An object in one line, for messages."""
    return " ".join(item.key)


def _require_done(outcomes: Sequence[ProxypoolError | None]) -> None:
    for error in outcomes:
        if error is not None:
            raise error
