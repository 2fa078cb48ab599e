"""Namespaces, links, addresses, routes, neighbours and ipsets through netlink: the one owner of pyroute2.

Everything here runs on the dataplane thread, which alone enters namespaces. `events`, `LinkWatch`, `SetProbe`,
`ProxyProbe`, `GuardDrops`, `LeaseHandle` and `MarkedSetHandle` are the exceptions: their sockets are opened there and
used elsewhere.
"""

from proxypool.adapters.netlink.apply import apply_object, remove_object
from proxypool.adapters.netlink.batch import apply_batch
from proxypool.adapters.netlink.decode import Memory
from proxypool.adapters.netlink.encode import BATCHED, Batched
from proxypool.adapters.netlink.events import AddressEvents, Change, EventSocket, open_event_socket
from proxypool.adapters.netlink.guard_drops import GuardDrops
from proxypool.adapters.netlink.inventory import Underlay, local_addresses, remove_local_address, underlay
from proxypool.adapters.netlink.lent import give_back, lend, lent
from proxypool.adapters.netlink.link_watch import LinkWatch
from proxypool.adapters.netlink.namespaces import (
    Home,
    create_namespace,
    list_namespaces,
    namespace_exists,
    namespace_inode,
    remove_namespace,
)
from proxypool.adapters.netlink.observe import Ownership, View
from proxypool.adapters.netlink.probe import can_guard_sources, probe_tunnel
from proxypool.adapters.netlink.proxy_probe import ProxyProbe
from proxypool.adapters.netlink.set_probe import SetProbe
from proxypool.adapters.netlink.sets import NOT_OURS, LeaseHandle, MarkedSetHandle, change_set
from proxypool.adapters.netns_names import namespace_path

__all__ = [
    "BATCHED",
    "NOT_OURS",
    "AddressEvents",
    "Batched",
    "Change",
    "EventSocket",
    "GuardDrops",
    "Home",
    "LeaseHandle",
    "LinkWatch",
    "MarkedSetHandle",
    "Memory",
    "Ownership",
    "ProxyProbe",
    "SetProbe",
    "Underlay",
    "View",
    "apply_batch",
    "apply_object",
    "can_guard_sources",
    "change_set",
    "create_namespace",
    "give_back",
    "lend",
    "lent",
    "list_namespaces",
    "local_addresses",
    "namespace_exists",
    "namespace_inode",
    "namespace_path",
    "open_event_socket",
    "probe_tunnel",
    "remove_local_address",
    "remove_namespace",
    "remove_object",
    "underlay",
]
