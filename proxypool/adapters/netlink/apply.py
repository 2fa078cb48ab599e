"""Write one object in the namespace the thread is in. Every function may be called twice with the same result."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from pyroute2 import IPRoute, IPSet
from pyroute2.netlink.exceptions import NetlinkError

from proxypool.adapters.netlink.batch import apply_batch
from proxypool.adapters.netlink.errors import absent_is_fine, translated
from proxypool.adapters.netlink.inventory import index_of
from proxypool.adapters.netlink.links import give_eni_back, make_tunnel, take_eni
from proxypool.adapters.netlink.namespaces import Home
from proxypool.core.errors import ProxypoolError
from proxypool.core.scene import (
    Address,
    AddressSet,
    AnyObject,
    Eni,
    ForwardingEntry,
    Neighbour,
    PolicyRule,
    Route,
    Tunnel,
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
            case AddressSet():
                _put_set(item)
            case Address() | Route() | PolicyRule() | Neighbour() | ForwardingEntry():
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
            case AddressSet():
                with IPSet() as ipset:
                    _ignore_missing_set(ipset, item.name)
            case Tunnel(device):
                index = index_of(device)
                if index is not None:
                    with IPRoute() as ip, absent_is_fine():
                        ip.link("del", index=index)
            case Address() | Route() | PolicyRule() | Neighbour() | ForwardingEntry():
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


def _put_set(item: AddressSet) -> None:
    """Fill a set of ours; it is created empty first, and members change one by one, so that rules never see a gap."""
    with IPSet() as ipset:
        present: set[str] = set()
        try:
            for message in ipset.list(item.name):
                entries = message.get_attr("IPSET_ATTR_ADT")
                for entry in entries.get_attrs("IPSET_ATTR_DATA") if entries else ():
                    present.add(str(entry.get_attr("IPSET_ATTR_IP_FROM").get_attr("IPSET_ATTR_IPADDR_IPV4")))
        except NetlinkError:
            ipset.create(item.name, stype="hash:ip", family=socket.AF_INET, exclusive=False)
        wanted = {str(member) for member in item.members}
        for member in sorted(wanted - present):
            ipset.add(item.name, member, family=socket.AF_INET, exclusive=False)
        for member in sorted(present - wanted):
            ipset.delete(item.name, member, family=socket.AF_INET, exclusive=False)


def _ignore_missing_set(ipset: IPSet, name: str) -> None:
    try:
        ipset.destroy(name)
    except NetlinkError as error:
        if error.code != 2:  # noqa: PLR2004 - ENOENT
            raise
