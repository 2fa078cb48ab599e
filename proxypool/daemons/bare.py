"""Connections that began while a subnet's rules were missing: they have no NAT, and would go on without for ever.

NAT is decided once, with a connection's first packet. So after a repair those that left with the sender's own tunnel
address begin anew: TCP gets a RST with its next packet, a datagram the NAT that it should have had.
"""

from __future__ import annotations

import logging
from contextlib import closing
from ipaddress import IPv4Network

from proxypool.adapters.conntrack import Conntrack
from proxypool.core.addressing import namespace_of
from proxypool.core.errors import ProxypoolError
from proxypool.daemons.dataplane import Dataplane

log = logging.getLogger(__name__)


def cut_bare(dataplane: Dataplane, subnet: str, tunnel_range: IPv4Network) -> None:
    """Have them cut, on the dataplane thread."""
    dataplane.submit(lambda: _cut(dataplane, subnet, tunnel_range))


def _cut(dataplane: Dataplane, subnet: str, tunnel_range: IPv4Network) -> None:
    if dataplane.home is None:
        return
    try:
        with dataplane.home.inside(namespace_of(subnet)), closing(Conntrack()) as table:
            count = table.delete(
                [flow for flow in table.flows(0, 0) if flow.source in tunnel_range and not flow.is_source_nated]
            )
    except (ProxypoolError, OSError) as error:
        log.warning("%s: connections without NAT may go on: %s", subnet, error)
        return
    if count:
        log.warning("%s: cut %d connections that began without NAT", subnet, count)
