"""The time series that signals are made of: one list for the node that exports them and the controller that reads them.

The values are the names in `/metrics`. A number that is not known has no series. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

PORTS_PER_DESTINATION = 64_512
"""1024 to 65535: what the kernel gives to connections from one source address to one address, protocol and port."""
PORTS_INTERVAL_S = 30.0
"""From one look at the ports in use to the next, at the least."""


class Series(StrEnum):
    """Of a member of a pair; labels `subnet` and `pair`. A name that ends with `_total` is a counter."""

    MASTER = "proxypool_member_master"
    SINCE = "proxypool_counters_since_timestamp_seconds"
    """The same as long as the counters of two looks can be compared."""
    CLOCK = "proxypool_counters_seconds_total"
    """When the counters were read, counted from `SINCE` by the node's own clock: the same for the same look."""
    AGE = "proxypool_counters_age_seconds"
    CONNTRACK = "proxypool_conntrack_entries"
    CONNTRACK_LIMIT = "proxypool_conntrack_limit_entries"
    CONNECTIONS = "proxypool_new_connections_total"
    RECEIVED_BYTES = "proxypool_tunnel_receive_bytes_total"
    RECEIVED_PACKETS = "proxypool_tunnel_receive_packets_total"
    SENT_BYTES = "proxypool_tunnel_transmit_bytes_total"
    SENT_PACKETS = "proxypool_tunnel_transmit_packets_total"
    ENI_LIMIT = "proxypool_eni_limit_bytes_per_second"
    PORTS = "proxypool_snat_ports"
    PORTS_LIMIT = "proxypool_snat_ports_limit"
    PORTS_AGE = "proxypool_snat_ports_age_seconds"
    PORTS_COST = "proxypool_snat_ports_sample_cpu_seconds"
    TABLE_FULL = "proxypool_conntrack_table_full_total"
    EARLY_DROPS = "proxypool_conntrack_early_drops_total"
    INSERT_FAILURES = "proxypool_conntrack_insert_failures_total"
    TUNNEL_DROPS = "proxypool_tunnel_dropped_packets_total"
    ENI_DROPS = "proxypool_eni_dropped_packets_total"


class NodeSeries(StrEnum):
    """Of a whole node; without labels."""

    BYTES_LIMIT = "proxypool_node_limit_bytes_per_second"
    PACKETS_LIMIT = "proxypool_node_limit_packets_per_second"
    CONNECTIONS_LIMIT = "proxypool_node_limit_new_connections_per_second"
    PORTS_INTERVAL = "proxypool_snat_ports_interval_seconds"


COUNTERS = frozenset(series for series in Series if series.endswith("_total"))
Sample: TypeAlias = Mapping[str, float]
"""Of one member: by `Series`; what is not in it is not known."""
Where: TypeAlias = tuple[str, str]
"""Subnet and pair."""


@dataclass(frozen=True, slots=True)
class NodeSample:
    """What one node said of its members at one moment, as it said it."""

    node: str
    at: float
    """When; monotonic seconds of whoever asked."""
    limits: Sample = field(default_factory=dict)
    """By `NodeSeries`."""
    members: Mapping[Where, Sample] = field(default_factory=dict)


class Unread(StrEnum):
    """Why there is no sample of a node."""

    NO_ADDRESS = "no-address"
    """It has registered no address of its metrics that others can reach."""
    UNREACHABLE = "unreachable"
    """Refused, no route, reset."""
    TIMEOUT = "timeout"
    TOO_LARGE = "too-large"
    REFUSED = "refused"
    """An answer, but not 200."""
    UNTRUSTED = "untrusted"
    """Its certificate is not what it ought to be, or only one of the two sides speaks TLS."""
    GARBAGE = "garbage"
    """No answer in HTTP, one that was cut off, or one that has none of the series."""
    NOT_SCRAPED = "not-scraped"
    """The Prometheus server has none of its series."""


Answer: TypeAlias = NodeSample | Unread
"""Of one node, from whichever source."""
