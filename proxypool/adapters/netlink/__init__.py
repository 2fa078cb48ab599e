"""Namespaces, links, addresses, routes, neighbours and ipsets through netlink: the one owner of pyroute2.

Everything here runs on the dataplane thread, which alone enters namespaces. `events` is the exception: its sockets are
opened there and read elsewhere.
"""

from proxypool.adapters.netlink.apply import apply_object, remove_object
from proxypool.adapters.netlink.events import EventSocket, open_event_socket
from proxypool.adapters.netlink.inventory import link_mtu, local_addresses, underlay_address
from proxypool.adapters.netlink.namespaces import (
    Home,
    create_namespace,
    list_namespaces,
    namespace_exists,
    remove_namespace,
)
from proxypool.adapters.netlink.observe import TunnelCounters, observe_objects, tunnel_counters
from proxypool.adapters.netlink.probe import probe_tunnel

__all__ = [
    "EventSocket",
    "Home",
    "TunnelCounters",
    "apply_object",
    "create_namespace",
    "link_mtu",
    "list_namespaces",
    "local_addresses",
    "namespace_exists",
    "observe_objects",
    "open_event_socket",
    "probe_tunnel",
    "remove_namespace",
    "remove_object",
    "tunnel_counters",
    "underlay_address",
]
