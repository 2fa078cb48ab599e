"""What a provider does for the controller: cards in customers' subnets, HaVips and egress addresses.

Providers are found by entry point (group `proxypool.providers`, name = the provider's). Calls block, on a thread of the
controller's; each is given a deadline. Every call is idempotent: asked again for the same intent it answers the same and
makes nothing twice, also by another controller after a crash in the middle. What is released again is already released.
No call is on the path of a failover.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from proxypool.core.errors import PermanentError, TransientError
from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec

GROUP = "proxypool.providers"
"""Entry point group."""


class Throttled(TransientError):
    """Too many calls: try again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(TransientError):
    """The platform did not answer, or in time; whether it did what was asked is not known. Asking again finds out."""


class QuotaExceeded(PermanentError):
    """There is no room: a quota, no free card or address. Another node may have some."""


class NotAuthorised(PermanentError):
    """The credentials are wrong or may not do this."""


class Refused(PermanentError):
    """The platform will not do this, whoever asks and however often."""


@dataclass(frozen=True, slots=True)
class Intent:
    """For which pair something is wanted: the same intent is the same thing."""

    pool: str
    subnet: SubnetSpec
    pair: str


@dataclass(frozen=True, slots=True)
class Offer:
    """Whether a node can get a card in a subnet."""

    cards: int | None
    """So many more; None: no limit is known."""
    why_not: str = ""
    """Why it is none, for people."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The floating addresses of a pair."""

    havip: IPv4Address
    egress_address: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Something that a provider holds for a pair. What belongs to no pair and no action is a leak."""

    subnet: str
    pair: str
    node: str = ""
    """Of a card; empty: floating addresses."""
    handle: str = ""
    """The platform's own id, for people."""


class Provider(Protocol):
    """See the module's text. `deadline_s`: how long a call may take, seconds."""

    name: str

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:
        """Node -> whether it can get a card in this subnet. A node that is left out cannot."""

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:
        """The pair's HaVip, usable from these nodes, and its egress address where the provider gives one."""

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:
        """A card in the intent's subnet, attached to the node and visible there."""

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:
        """Detach and give back; also if the node is gone."""

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:
        """Give back the pair's floating addresses."""

    def held(self, pool: str, deadline_s: float) -> tuple[Held, ...]:
        """Everything that is held for this pool."""
