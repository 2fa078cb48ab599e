"""The words of the state machine of actions: what it sees, what it wants done, what comes back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeAlias

from proxypool.core.draining import Left
from proxypool.core.model import MemberSpec, PairSpec, PairState
from proxypool.core.scaling.documents import Action
from proxypool.core.scaling.placement import CardOffer, NodeRoom, Spread
from proxypool.core.scaling.readiness import Readiness
from proxypool.core.scaling.retry import ErrorKind


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds."""

    place_s: float = 30.0
    acquire_s: float = 300.0
    ready_s: float = 120.0
    drain_s: float = 3600.0
    """How long a draining pair may keep its connections, or wait for a member that is not alive; then it is removed."""
    settle_s: float = 5.0
    """From the removal of a pair to the release of what it had: its nodes let go of it meanwhile."""


# ---- what is to be done ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PutPair:
    """Write the action's pair, preparing, with the lowest VRRP id that is free on its nodes."""


@dataclass(frozen=True, slots=True)
class SetState:
    """Change the state of a pair. With `others_active`, only if so many other pairs of the subnet are active."""

    pair: str
    state: PairState
    others_active: int = 0


@dataclass(frozen=True, slots=True)
class RemovePair:
    """Remove a pair, only in this state."""

    pair: str
    state: PairState


Write: TypeAlias = PutPair | SetState | RemovePair


@dataclass(frozen=True, slots=True)
class AskOffers:
    """Which nodes can get a card."""


@dataclass(frozen=True, slots=True)
class AcquireAddresses:
    """HaVip and egress address, usable from these nodes."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AcquireCard:
    """A card on a node."""

    node: str


@dataclass(frozen=True, slots=True)
class ReleaseCard:
    """Give a card back."""

    node: str


@dataclass(frozen=True, slots=True)
class ReleaseAddresses:
    """Give the addresses back."""


Call: TypeAlias = AskOffers | AcquireAddresses | AcquireCard | ReleaseCard | ReleaseAddresses


# ---- what has been found out -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offered:
    """Answer to `AskOffers`."""

    offers: Mapping[str, CardOffer]


@dataclass(frozen=True, slots=True)
class GotAddresses:
    """Answer to `AcquireAddresses`."""

    havip: IPv4Address
    egress_address: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class GotCard:
    """Answer to `AcquireCard`."""

    member: MemberSpec


@dataclass(frozen=True, slots=True)
class Released:
    """Answer to `ReleaseCard`, and with an empty node to `ReleaseAddresses`."""

    node: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A call or a write that failed."""

    why: str
    kind: ErrorKind
    node: str = ""
    """Of a card: where, as another node may do."""
    retry_after_s: float = 0.0


Answer: TypeAlias = Offered | GotAddresses | GotCard | Released | Failed


@dataclass(frozen=True, slots=True)
class Seen:
    """What the controller sees of the action's subnet. What the present step does not look at may be left out."""

    pairs: Mapping[str, PairSpec]
    """All of the subnet."""
    min_pairs: int = 1
    nodes: tuple[NodeRoom, ...] = ()
    spread: Spread = Spread.SPREAD
    readiness: Readiness = field(default_factory=Readiness)
    left: Left = field(default_factory=lambda: Left(None))
    """Connections of the pair that drains."""
    unreachable: frozenset[str] = frozenset()
    """Registered nodes that are not alive: cut off from ZooKeeper, they may still answer for a pair's HaVip."""
    others: tuple[Action, ...] = ()
    """The subnet's other actions: neither their nodes nor their names are free."""
    is_short: bool = False
    """Whether the subnet needs more pairs than it has and than are coming."""
    is_in_the_way: bool = False
    """Whether a pair of a dead node is not replaced before this action is over."""
    answer: Answer | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)


@dataclass(frozen=True, slots=True)
class Turn:
    """What `step` says: the action as it is afterwards, and what is to be done."""

    action: Action
    write: Write | None = None
    call: Call | None = None
