"""Documents of scaling in ZooKeeper, besides the field `scaling` of a subnet: "Documents" in docs/scaling.md. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address
from typing import TypeAlias

from msgspec import Struct, field

from proxypool.core.model import Document, MemberSpec, Name
from proxypool.core.quantities import Count, Measure, Moment

Key: TypeAlias = tuple[str, str]
"""Of an action: subnet, and the pair that it began with."""


class ActionKind(StrEnum):
    """What is being done to a subnet."""

    ADD = "add"
    DRAIN = "drain"
    REPLACE = "replace"


class Step(StrEnum):
    """Where an action stands: the step that is taken next. Which follow each other: docs/scaling.md."""

    PLACE = "place"
    ACQUIRE = "acquire"
    WRITE = "write"
    READY = "ready"
    OPEN = "open"
    DRAIN = "drain"
    WAIT = "wait"
    REMOVE = "remove"
    RELEASE = "release"
    AGAIN = "again"
    """A node failed: what was made is given back, as in `undo`, and other nodes are chosen."""
    UNDO = "undo"
    """An add that failed: the pair's document goes, what was acquired is given back."""
    DONE = "done"


class Action(Document, frozen=True, kw_only=True):
    """What is being done to one pair of a subnet; `controller/actions/<subnet>_<pair>`."""

    id: str
    """Unique in the pool: `<began in ms>-<subnet>-<pair>`."""
    kind: ActionKind
    subnet: Name
    pair: Name
    """That comes or goes now."""
    step: Step
    reason: str
    """Why, as one of `Cause`'s values, or `dead-node`, `node-drain`."""
    began: Moment
    """Wall time."""
    step_since: Moment
    """Wall time of the last change of `step`."""
    signals: Mapping[str, Measure] = field(default_factory=dict)
    """Load in pairs by signal, when it began."""
    pairs_before: Count = 0
    nodes: tuple[Name, ...] = ()
    """On which cards are acquired, or still to be released."""
    first: str = ""
    """The pair that it began with, once it is about another one: its place does not change."""
    opened: str = ""
    """The pair that it opened."""
    leaving: str = ""
    """Of a replacement until the new pair is open: the pair that goes then."""
    members: tuple[MemberSpec, ...] = ()
    """Cards acquired so far."""
    havip: IPv4Address | None = None
    egress_address: IPv4Address | None = None
    provider: str = ""
    attempts: Count = 0
    """Of this step."""
    retry_at: Moment = 0.0
    """Wall time: the step is not tried again before."""
    error: str = ""
    """Of the last attempt; at the end: why it was given up."""
    refused: tuple[Name, ...] = ()
    """Nodes that the provider would not give a card on, or that did not bring the pair up."""

    @property
    def key(self) -> Key:
        """Its place among the actions of the pool."""
        return self.subnet, self.first or self.pair

    @property
    def names(self) -> frozenset[str]:
        """Pairs that it is, was, or will be about: none of these names is free."""
        return frozenset(name for name in (self.pair, self.first, self.opened, self.leaving) if name)


def by_subnet(actions: Iterable[Action]) -> Mapping[str, tuple[Action, ...]]:
    """The actions of each subnet that has some, oldest first."""
    found: dict[str, list[Action]] = {}
    for action in sorted(actions, key=lambda one: (one.began, one.key)):
        found.setdefault(action.subnet, []).append(action)
    return {subnet: tuple(some) for subnet, some in found.items()}


def coming(actions: Iterable[Action]) -> int:
    """How many pairs are being added. Of a replacement none: another one goes for it."""
    return sum(action.kind is ActionKind.ADD and not action.opened for action in actions)


class NodeOrders(Document, frozen=True, kw_only=True):
    """What an operator wants of a node; `nodes/<node>/orders`."""

    cordoned_since: Moment | None = None
    """Wall time: no new pair is placed here since then."""
    draining_since: Moment | None = None
    """Wall time: its members are moved elsewhere since then; such a node is cordoned too."""
    who: str = ""
    reason: str = ""


class Spares(Document, frozen=True, kw_only=True):
    """Cards and addresses of a subnet that the provider `spare` may use; `subnets/<subnet>/spares`.

    All of them, also those in use: what a pair or an action names is taken.
    """

    members: tuple[MemberSpec, ...] = ()
    havips: tuple[IPv4Address, ...] = ()
    egress_addresses: tuple[IPv4Address, ...] = ()


class Placing(Struct, frozen=True, kw_only=True):
    """What a pool has for new pairs, besides its specs."""

    nodes_alive: frozenset[str] = frozenset()
    orders: Mapping[str, NodeOrders] = field(default_factory=dict)
    """By node."""
    spares: Mapping[str, Spares] = field(default_factory=dict)
    """By subnet."""


class ControllerAlive(Document, frozen=True, kw_only=True):
    """A controller that runs; the data of its candidate, ephemeral."""

    name: str
    version: str = ""
    since: float = 0.0
    """Wall time of its start."""


class SubnetVerdict(Struct, frozen=True, kw_only=True):
    """What the leader thinks of one subnet."""

    active: Count
    wanted: Count
    asked: Count
    cause: str
    signal: str = ""
    held: tuple[str, ...] = ()
    is_panic: bool = False
    load: Mapping[str, Measure | None] = field(default_factory=dict)
    """In pairs, by signal; None: not known."""
    blocked: str = ""
    """Why an action that it needs cannot begin: no node with room, a provider's error."""
    waits: str = ""
    """Why one has not begun that will do so by itself: its turn comes."""


class Report(Document, frozen=True, kw_only=True):
    """What the leader saw and decided in its last round; `controller/report`."""

    leader: str = ""
    """Who wrote it: host name and process."""
    epoch: Count = 0
    at: Moment = 0.0
    """Wall time of the round's end."""
    round_s: Measure = 0.0
    provider: str = ""
    subnets: Mapping[str, SubnetVerdict] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
