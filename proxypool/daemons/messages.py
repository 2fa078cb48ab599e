"""What reaches a daemon's main loop. Values only; whoever posts them decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from proxypool.adapters.announcer import Announcer
from proxypool.adapters.counters import NamespaceCounters
from proxypool.adapters.gate import Gate
from proxypool.adapters.iptables import TableProbe
from proxypool.adapters.netlink import EventSocket, LeaseHandle, LinkWatch, ProxyProbe
from proxypool.core.health import Probe
from proxypool.core.history import Record
from proxypool.core.model import Snapshot
from proxypool.core.role import Coordinator
from proxypool.core.scene import Scene
from proxypool.core.sync_supervision import SyncReport
from proxypool.daemons.dataplane import Reconciled
from proxypool.daemons.mainloop import Reload, Stop


@dataclass(frozen=True, slots=True)
class SnapshotArrived:
    """The pool's documents changed."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class CoordinatorMoved:
    """The ZooKeeper connection changed."""

    state: Coordinator


@dataclass(frozen=True, slots=True)
class FifoSpoke:
    """Lines of keepalived's notify fifo, and when they were read (monotonic seconds)."""

    lines: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class AddressesSeen:
    """IPv4 addresses on the underlay interface."""

    addresses: frozenset[IPv4Address]


@dataclass(frozen=True, slots=True)
class AddressMoved:
    """An address came to the underlay interface, or left it; and when that was read (monotonic seconds)."""

    address: IPv4Address
    is_here: bool
    at: float


@dataclass(frozen=True, slots=True)
class KeepalivedSeen:
    """How keepalived is."""

    pid: int | None = None
    """None: it does not run."""
    is_connected: bool = False
    """Whether it writes to our fifo."""
    is_on_time: bool = True
    """Whether its VRRP process has the scheduling that the detection profile needs."""
    is_stopped: bool = False
    """Whether it was stopped: then it is as good as dead, but holds on to what it has."""
    is_starting: bool = False
    """Whether it may still be within its startup delay."""

    @property
    def is_up(self) -> bool:
        """Whether it does anything."""
        return self.pid is not None and not self.is_stopped


@dataclass(frozen=True, slots=True)
class KeepalivedSynced:
    """Our keepalived files were compared with what is wanted; which are in place, and what went wrong."""

    installed: frozenset[str]
    problem: str | None
    is_reloaded: bool
    needs_reload: bool
    """A reload is due, but not yet: too soon after the last one."""


@dataclass(slots=True)
class Handles:
    """Open ends into one subnet's namespace; they keep it alive, so they are closed when it is to go."""

    gate: Gate
    counters: NamespaceCounters
    probe: TableProbe
    events: EventSocket
    proxies: ProxyProbe
    announcer: Announcer
    links: LinkWatch
    lease: LeaseHandle

    def close(self) -> None:
        """Close all of them."""
        self.gate.close()
        self.counters.close()
        self.probe.close()
        self.events.close()
        self.proxies.close()
        self.announcer.close()
        self.links.close()
        self.lease.close()


@dataclass(frozen=True, slots=True)
class KeepalivedFilesTouched:
    """Our files in keepalived's directory are not those of the last look."""


@dataclass(frozen=True, slots=True)
class NamespaceOpened:
    """The handles of a subnet's namespace are ready."""

    subnet: str
    handles: Handles


@dataclass(frozen=True, slots=True)
class NamespaceGone:
    """Somebody removed a subnet's namespace."""

    subnet: str


@dataclass(frozen=True, slots=True)
class LinksSeen:
    """Which of a subnet's devices are down, have no carrier, or are gone."""

    subnet: str
    down: frozenset[str]


@dataclass(frozen=True, slots=True)
class EniProbed:
    """What a look through a subnet's ENI says now; posted when it changed."""

    subnet: str
    probe: Probe
    has_carrier: bool


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """The candidates of these pairs (subnet, pair) were there, in a session, after a moment from which on the lease
    lasts until `until` (monotonic seconds).
    """

    pairs: frozenset[tuple[str, str]]
    session: int
    until: float


@dataclass(frozen=True, slots=True)
class GateTouched:
    """Something that can be the gate changed in a subnet's namespace."""

    subnet: str


@dataclass(frozen=True, slots=True)
class ConnectionsCounted:
    """The living connections in a subnet's namespace; None: they could not be counted, and why."""

    subnet: str
    count: int | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class PortsCounted:
    """Source ports in use toward the busiest destination of a subnet; None: they could not be counted, and why."""

    subnet: str
    ports: int | None
    cpu_s: float
    at: float
    """Monotonic seconds, when it began."""
    problem: str | None


@dataclass(frozen=True, slots=True)
class SyncSeen:
    """How a subnet's connections are told to the other member of its pair."""

    subnet: str
    report: SyncReport


@dataclass(frozen=True, slots=True)
class MasterRecorded:
    """It is known why a pair's master changed, or more of it than before."""

    record: Record


@dataclass(frozen=True, slots=True)
class PeerHeard:
    """VRRP advertisements from these addresses arrive."""

    peers: frozenset[IPv4Address]
    masters: frozenset[tuple[IPv4Address, int]] = frozenset()
    """(address, VRID) of those that say that they are master."""


@dataclass(frozen=True, slots=True)
class HavipsContested:
    """Another machine on the underlay says that these are its own."""

    havips: frozenset[IPv4Address]


@dataclass(frozen=True, slots=True)
class UnderlayHeard:
    """Whether the underlay is silent: no packet of anybody arrives, though some would answer."""

    is_silent: bool


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """Our objects in the machine's own namespace, as a predecessor left them."""

    scene: Scene


@dataclass(frozen=True, slots=True)
class GroupsWanted:
    """Somebody waits for a group of subnets that is not programmed on this host."""


@dataclass(frozen=True, slots=True)
class HavipsAsked:
    """What an echo says of the HaVips in use."""

    silent: frozenset[IPv4Address]
    """Those that have stopped to answer."""
    proven: frozenset[IPv4Address]
    """Those that have answered once, or never will: echo is filtered, or cannot be sent. Any other may be of a pair
    that has just been added, and nobody holds it yet.
    """


@dataclass(frozen=True, slots=True)
class SubnetJoined:
    """This host is listed in a subnet, and its nodes know it."""

    subnet: str


@dataclass(frozen=True, slots=True)
class SecondPassed:
    """A second or so went by."""


@dataclass(frozen=True, slots=True)
class DefenceDue:
    """It is time to say whose a HaVip is."""


@dataclass(frozen=True, slots=True)
class PublicationDue:
    """What was put off by the publisher is due; it looks after every message."""


Message: TypeAlias = (
    SnapshotArrived
    | CoordinatorMoved
    | FifoSpoke
    | AddressesSeen
    | AddressMoved
    | KeepalivedSeen
    | KeepalivedSynced
    | KeepalivedFilesTouched
    | NamespaceOpened
    | NamespaceGone
    | GateTouched
    | LinksSeen
    | LeaseRenewed
    | EniProbed
    | ConnectionsCounted
    | PortsCounted
    | SyncSeen
    | MasterRecorded
    | PeerHeard
    | HavipsContested
    | UnderlayHeard
    | MachineSeen
    | GroupsWanted
    | HavipsAsked
    | SubnetJoined
    | SecondPassed
    | DefenceDue
    | PublicationDue
    | Reconciled
    | Reload
    | Stop
)
