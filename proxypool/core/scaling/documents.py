"""Documents of scaling in ZooKeeper, besides the field `scaling` of a subnet: "Documents" in docs/scaling.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address

from msgspec import Struct, field

from proxypool.core.model import Document, MemberSpec, Name


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
    SWAP = "swap"
    RELEASE = "release"
    UNDO = "undo"
    """An add that failed: the pair's document goes, what was acquired is given back."""
    DONE = "done"


class Action(Document, frozen=True, kw_only=True):
    """What is being done to one subnet; `controller/actions/<subnet>`."""

    id: str
    """Unique in the pool: `<began in ms>-<subnet>`."""
    kind: ActionKind
    subnet: Name
    pair: Name
    step: Step
    reason: str
    """Why, as one of `Cause`'s values, or `dead-node`, `node-drain`."""
    began: float
    """Wall time."""
    step_since: float
    """Wall time of the last change of `step`."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Load in pairs by signal, when it began."""
    pairs_before: int = 0
    nodes: tuple[Name, ...] = ()
    """Chosen for an add (two) or a replacement (the new one)."""
    leaving: str = ""
    """Of a replacement: the node whose member goes."""
    members: tuple[MemberSpec, ...] = ()
    """Cards acquired so far."""
    havip: IPv4Address | None = None
    egress_address: IPv4Address | None = None
    provider: str = ""
    attempts: int = 0
    """Of this step."""
    error: str = ""
    """Of the last attempt."""
    refused: tuple[Name, ...] = ()
    """Nodes that the provider would not give a card on."""


class NodeOrders(Document, frozen=True, kw_only=True):
    """What an operator wants of a node; `nodes/<node>/orders`."""

    cordoned_since: float | None = None
    """Wall time: no new pair is placed here since then."""
    draining_since: float | None = None
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


class SubnetVerdict(Struct, frozen=True, kw_only=True):
    """What the leader thinks of one subnet."""

    active: int
    wanted: int
    asked: int
    cause: str
    signal: str = ""
    held: tuple[str, ...] = ()
    is_panic: bool = False
    load: Mapping[str, float | None] = field(default_factory=dict)
    """In pairs, by signal; None: not known."""
    blocked: str = ""
    """Why an action cannot begin or go on: no node with room, a provider's error."""


class Report(Document, frozen=True, kw_only=True):
    """What the leader saw and decided in its last round; `controller/report`."""

    leader: str = ""
    """Who wrote it: host name and process."""
    epoch: int = 0
    at: float = 0.0
    """Wall time of the round's end."""
    round_s: float = 0.0
    provider: str = ""
    subnets: Mapping[str, SubnetVerdict] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
