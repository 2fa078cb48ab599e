"""What of the lab was whole at each moment, from the faults that were injected and healed. Pure.

The checker may ask only this, and what was observed from outside: never what the product said of itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

from proxypool.lab.fault_kinds import HEALS, Fault
from tests.chaos.history import FaultEvent, History, Pair

Active = frozenset[tuple[Fault, str | None]]
"""Faults of one machine, each with the subnet it is limited to."""
NONE: Active = frozenset()

DEAF = frozenset({Fault.CUT_UNDERLAY, Fault.CUT_UNDERLAY_IN})
MUTE = frozenset({Fault.CUT_UNDERLAY, Fault.CUT_UNDERLAY_OUT})
VRRP_DEAF = DEAF | {Fault.CUT_VRRP, Fault.CUT_VRRP_IN}
VRRP_MUTE = MUTE | {Fault.CUT_VRRP, Fault.CUT_VRRP_OUT}
LOSSY = frozenset({Fault.LOSE_VRRP, Fault.LOSE_UNDERLAY, Fault.DELAY_VRRP, Fault.DELAY_UNDERLAY})
SLOW_PATH = frozenset({Fault.LOSE_UNDERLAY, Fault.DELAY_UNDERLAY})
NO_KEEPALIVED = frozenset({Fault.KILL_KEEPALIVED, Fault.STOP_KEEPALIVED, Fault.PAUSE})
NO_DAEMON = frozenset({Fault.KILL_DAEMON, Fault.STOP_DAEMON, Fault.PAUSE})
NO_ZOOKEEPER = frozenset(
    {Fault.POWER_OFF, Fault.PAUSE, Fault.KILL_ZOOKEEPER, Fault.STOP_ZOOKEEPER, Fault.SLOW_ZOOKEEPER}
)
NO_ENI = frozenset({Fault.CUT_ENI, Fault.DELETE_ENI, Fault.FILL_CONNTRACK})
_ENDED_BY: dict[Fault, frozenset[Fault]] = {
    healer: frozenset(fault for fault, by in HEALS.items() if by is healer) for healer in set(HEALS.values())
}
_ENDED_BY[Fault.CONTINUE_ALL] |= {Fault.PAUSE}
_ENDED_BY[Fault.RESUME] |= _ENDED_BY[Fault.CONTINUE_ALL]


def after(active: Active, event: FaultEvent) -> Active:
    """A machine's faults after an event of it."""
    fault = Fault(event.fault)
    if fault is Fault.POWER_ON:
        return NONE
    if fault is Fault.POWER_OFF:
        # With the power everything else ends: the processes, the cables, the tables.
        return frozenset({(Fault.POWER_OFF, None)})
    if fault in _ENDED_BY:
        ended = _ENDED_BY[fault]
        return frozenset(item for item in active if item[0] not in ended or event.subnet not in (None, item[1]))
    return active | {(fault, event.subnet)} if fault in HEALS else active


class Moment:
    """The lab between two events."""

    def __init__(self, active: dict[str, Active], zookeepers: tuple[str, ...]) -> None:
        self.active, self.zookeepers = active, zookeepers

    def has(self, machine: str, faults: Iterable[Fault], subnet: str | None = None) -> bool:
        """Whether one of these faults lasts on a machine; with `subnet`, one that concerns it."""
        wanted = frozenset(faults)
        return any(
            fault in wanted and (limit is None or subnet is None or limit == subnet)
            for fault, limit in self.active.get(machine, NONE)
        )

    def is_on(self, machine: str) -> bool:
        """Powered on."""
        return not self.has(machine, {Fault.POWER_OFF})

    def is_connected(self, machine: str) -> bool:
        """On, and on the underlay both ways."""
        return self.is_on(machine) and not self.has(machine, DEAF | MUTE)

    def has_keepalived(self, node: str) -> bool:
        """It runs."""
        return self.is_on(node) and not self.has(node, NO_KEEPALIVED)

    def has_daemon(self, node: str) -> bool:
        """It runs."""
        return self.is_on(node) and not self.has(node, NO_DAEMON)

    def hears(self, node: str, peer: str) -> bool:
        """Whether a node gets its peer's adverts, if there are any; some may be lost or late."""
        on = self.is_on(node) and self.is_on(peer)
        return on and not self.has(node, VRRP_DEAF) and not self.has(peer, VRRP_MUTE)

    def is_lossy(self, node: str) -> bool:
        """Whether packets of a node are lost or late."""
        return self.has(node, LOSSY)

    @property
    def has_quorum(self) -> bool:
        """Whether ZooKeeper serves."""
        well = [name for name in self.zookeepers if not self.has(name, NO_ZOOKEEPER) and self.is_connected(name)]
        return 2 * len(well) > len(self.zookeepers)

    def has_zookeeper(self, node: str) -> bool:
        """Whether a node's daemon can be sure of its session."""
        hindered = self.has(node, SLOW_PATH | {Fault.CUT_ZOOKEEPER})
        lossy = any(self.has(name, SLOW_PATH) for name in self.zookeepers)
        return self.has_quorum and self.is_connected(node) and not hindered and not lossy

    def is_able(self, node: str, subnet: str) -> bool:
        """Whether a node can carry a subnet's traffic: all that it takes but the HaVip. The daemon is not among it."""
        return (
            self.is_connected(node)
            and self.has_keepalived(node)
            and not self.has(node, NO_ENI, subnet)
            and not self.has(node, SLOW_PATH)
        )

    def has_referee(self, pair: Pair) -> bool:
        """Whether there is somebody to end two masters of a pair: VRRP where they hear each other, else the election.

        A member whose keepalived is dead or stopped holds on to the HaVip until its daemon takes it away, which it does
        when it hears the other one; one without either holds on for ever.
        """
        nodes = list(pair.members)
        if any(not self.has_keepalived(node) and not self.has_daemon(node) for node in nodes):
            return False
        if all(self.hears(a, b) for a in nodes for b in nodes if a != b):
            return True
        return all(self.has_keepalived(node) and self.has_daemon(node) and self.has_zookeeper(node) for node in nodes)


class World:
    """All moments of a history."""

    def __init__(self, history: History) -> None:
        self.events = sorted(history.faults, key=lambda event: event.at)
        self.times: list[float] = [history.start]
        active: dict[str, Active] = {}
        self.moments: list[Moment] = [Moment({}, history.zookeepers)]
        for event in self.events:
            active = {**active, event.machine: after(active.get(event.machine, NONE), event)}
            self.times.append(event.at)
            self.moments.append(Moment(active, history.zookeepers))

    def at(self, time: float) -> Moment:
        """The moment that a time belongs to."""
        return self.moments[max(0, bisect_right(self.times, time) - 1)]

    def between(self, start: float, end: float) -> list[tuple[float, float, Moment]]:
        """The moments of a stretch of time, each with its part of it."""
        edges = [start, *(time for time in self.times if start < time < end), end]
        return [(a, b, self.at(a)) for a, b in pairwise(edges) if b > a]
