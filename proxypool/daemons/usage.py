"""What one member's part of the data path is used for: the counters of its namespace, as last read.

Read on the main loop, some tens of microseconds every second tick; looked at by the metrics' thread, for which every
value is replaced whole. And what the node as a whole can carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxypool.adapters.counters import Counters, NamespaceCounters, TableDrops, Traffic, link_bytes_per_s
from proxypool.core.config import NodeConfig
from proxypool.core.scaling.series import PORTS_PER_DESTINATION, NodeSeries, Sample, Series

INTERVAL_S = 1.5
"""Time between two looks at the counters, at the least: every second tick."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look; times are monotonic seconds."""

    counters: Counters
    at: float
    is_master: bool


@dataclass(frozen=True, slots=True)
class PortsSeen:
    """A look at the source ports that are in use toward the busiest destination."""

    ports: int
    cpu_s: float
    """What it took."""
    at: float


@dataclass(frozen=True, slots=True)
class Beginning:
    """Of a life of the counters: the daemon's start, a change of role, new handles into the namespace."""

    wall: float
    at: float
    """The same moment, monotonic."""


@dataclass(slots=True)
class Usage:
    """Of one member. What was read before it began anew is not comparable with what is read after it."""

    beginning: Beginning
    look: Look | None = None
    ports: PortsSeen | None = None
    rates: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Bytes per second in and out, packets per second."""

    def begin(self, wall: float, now: float) -> None:
        """Something changed by which a rate over this moment would be wrong."""
        self.beginning = Beginning(wall, now)

    @property
    def counters(self) -> Counters | None:
        """The last ones, of whenever."""
        return self.look.counters if self.look is not None else None

    def observe(self, source: NamespaceCounters, now: float, wall: float, *, is_master: bool) -> None:
        """Read the counters if it is time, and derive rates."""
        last = self.look
        if last is not None and last.is_master is not is_master:
            self.begin(wall, now)
        if last is not None and self.beginning.at <= last.at and now < last.at + INTERVAL_S:
            return
        try:
            counters = source.read(is_master=is_master)
        except (OSError, ValueError):
            return
        if last is not None and last.counters.tunnel is not None and counters.tunnel is not None:
            self._derive(last.counters.tunnel, counters.tunnel, now - last.at)
        self.look = Look(counters, now, is_master)

    def _derive(self, before: Traffic, after: Traffic, span_s: float) -> None:
        if span_s > 0 and after.rx_bytes >= before.rx_bytes:
            packets = after.rx_packets + after.tx_packets - before.rx_packets - before.tx_packets
            self.rates = (
                (after.rx_bytes - before.rx_bytes) / span_s,
                (after.tx_bytes - before.tx_bytes) / span_s,
                packets / span_s,
            )

    def sample(self, now: float, *, is_master: bool) -> Sample:
        """For the metrics: whatever is not known, or not of this role, is left out."""
        found: dict[str, float | None] = {Series.MASTER: float(is_master)}
        beginning, look, ports = self.beginning, self.look, self.ports
        if look is not None and look.at >= beginning.at and look.is_master is is_master:
            clock_s, age_s = look.at - beginning.at, now - look.at
            found |= {Series.SINCE: beginning.wall, Series.CLOCK: clock_s, Series.AGE: age_s} | _of(look.counters)
        if ports is not None and ports.at >= beginning.at and is_master:
            found |= {
                Series.PORTS: ports.ports,
                Series.PORTS_LIMIT: PORTS_PER_DESTINATION,
                Series.PORTS_AGE: now - ports.at,
                Series.PORTS_COST: ports.cpu_s,
            }
        return {series: value for series, value in found.items() if value is not None}


def _of(counters: Counters) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        Series.CONNTRACK: counters.conntrack,
        Series.CONNTRACK_LIMIT: counters.conntrack_limit,
        Series.CONNECTIONS: counters.new_connections,
        Series.ENI_LIMIT: counters.eni_bytes_per_s,
    }
    if counters.tunnel is not None:
        found |= _of_tunnel(counters.tunnel)
    if counters.eni is not None:
        found[Series.ENI_DROPS] = counters.eni.rx_dropped + counters.eni.tx_dropped
    if counters.drops is not None:
        found |= _of_table(counters.drops)
    return found


def _of_tunnel(tunnel: Traffic) -> dict[str, float]:
    return {
        Series.RECEIVED_BYTES: tunnel.rx_bytes,
        Series.RECEIVED_PACKETS: tunnel.rx_packets,
        Series.SENT_BYTES: tunnel.tx_bytes,
        Series.SENT_PACKETS: tunnel.tx_packets,
        Series.TUNNEL_DROPS: tunnel.rx_dropped + tunnel.tx_dropped,
    }


def _of_table(drops: TableDrops) -> dict[str, float]:
    return {
        Series.TABLE_FULL: drops.table_full,
        Series.EARLY_DROPS: drops.early,
        Series.INSERT_FAILURES: drops.insert_failed,
    }


def limits_of(node: NodeConfig) -> Sample:
    """What the machine can carry: as configured, else what the driver of the underlay's card says of its link."""
    configured = node.bandwidth_bytes_per_s
    found = {
        NodeSeries.BYTES_LIMIT: link_bytes_per_s(node.underlay) if configured is None else float(configured),
        NodeSeries.PACKETS_LIMIT: node.packets_per_s,
        NodeSeries.CONNECTIONS_LIMIT: node.new_connections_per_s,
    }
    return {series: float(value) for series, value in found.items() if value is not None}
