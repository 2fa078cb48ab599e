"""Connections that begin: their SYN went to a pair that has fallen silent, see `core.silence`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network

from proxypool.adapters.conntrack import Conntrack, Flow
from proxypool.core.steering import MarkLayout

FEW = 4
"""Paths that are looked for one by one: more of them are found quicker in one listing of everything."""


def forget_unanswered(conntrack: Conntrack, marks: MarkLayout, paths: Mapping[int, tuple[IPv4Network, ...]]) -> int:
    """Forget the SYNs without an answer that took these paths (by number) to these networks; return how many.

    The same SYN, sent again, is a new connection. Datagrams without an answer stay where they are: nobody can tell
    whether somebody waits for one.

    Raises:
        TransientError, PermanentError: the kernel did not answer, or refused.
    """
    networks = {marks.of_path(number): cidrs for number, cidrs in paths.items()}
    return conntrack.delete(
        [
            flow
            for flow in _opening(conntrack, marks, networks)
            if flow.goes_to(networks.get(flow.mark & marks.mask, ()))
        ]
    )


def _opening(conntrack: Conntrack, marks: MarkLayout, networks: Mapping[int, object]) -> Iterator[Flow]:
    if len(networks) > FEW:
        yield from conntrack.opening(0, 0)
        return
    for mark in networks:
        yield from conntrack.opening(mark, marks.mask)
