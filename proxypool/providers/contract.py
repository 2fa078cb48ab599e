"""What a provider does for the controller: cards in customers' subnets, HaVips and egress addresses.

Providers are found by entry point: see `registry` and docs/providers.md. Calls block, on threads of the controller's,
several at a time, also for pairs of one subnet; each is given a deadline. Every call is idempotent: asked again for the
same intent it answers the same and makes nothing twice, also by another controller after a crash in the middle. What is
released again is already released. No call is on the path of a failover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, ClassVar, Protocol

from proxypool.core.errors import PermanentError, ProxypoolError, TransientError
from proxypool.core.model import MemberSpec, NodeSpec, PairSpec, SubnetSpec
from proxypool.core.scaling.documents import Action, Spares
from proxypool.core.scaling.retry import ErrorKind

GROUP = "proxypool.providers"
"""Entry point group; the entry point's name is the provider's, its object a `Factory`."""


class ProviderError(ProxypoolError):
    """What a provider raises on purpose: one of the five below. Its text is for people."""

    kind: ClassVar[ErrorKind]
    retry_after_s: float = 0.0
    """The platform asked for so much patience."""


class Throttled(ProviderError, TransientError):
    """Too many calls: try again after `retry_after_s`."""

    kind = ErrorKind.THROTTLED

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ProviderError, TransientError):
    """The platform did not answer, or in time; whether it did what was asked is not known. Asking again finds out."""

    kind = ErrorKind.UNAVAILABLE


class QuotaExceeded(ProviderError, PermanentError):
    """There is no room: a quota, no free card or address. Another node may have some."""

    kind = ErrorKind.QUOTA


class NotAuthorised(ProviderError, PermanentError):
    """The credentials are wrong or may not do this."""

    kind = ErrorKind.AUTH


class Refused(ProviderError, PermanentError):
    """The platform will not do this, whoever asks and however often."""

    kind = ErrorKind.REFUSED


@dataclass(frozen=True, slots=True)
class Intent:
    """For which pair something is wanted: the same intent is the same thing."""

    pool: str
    subnet: SubnetSpec
    pair: str
    request: str = ""
    """The action's id. A platform remembers tokens for a day and answers with what it made then; a pair that is added
    again under an old name must get tokens of its own. It is no part of what is found again: name and node are."""


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


@dataclass(frozen=True, slots=True)
class PoolView:
    """What the controller knows of the pool at one moment, for a provider that gives what is already there."""

    spares: Mapping[str, Spares] = field(default_factory=dict)
    """By subnet."""
    pairs: Mapping[str, Mapping[str, PairSpec]] = field(default_factory=dict)
    """subnet -> pair id -> spec, of all providers and none."""
    actions: tuple[Action, ...] = ()
    """Those under way."""


class Provider(Protocol):
    """See the module's text. `deadline_s`: how long a call may take, seconds.

    Raises (every method): one of the five errors above. Anything else is a bug of the provider's.
    """

    name: str

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:
        """Node -> whether it can get a card in this subnet. A node that is left out cannot."""

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:
        """The pair's HaVip, usable from these nodes, and its egress address where the provider gives one. It is asked
        for these before the cards.
        """

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:
        """A card in the intent's subnet, attached to the node; the pair's egress address, if it has one, is usable
        from it.
        """

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:
        """Detach and give back; also if the node is gone."""

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:
        """Give back the pair's floating addresses, as a rule after its cards."""

    def held(self, pool: str, subnets: Iterable[SubnetSpec], deadline_s: float) -> tuple[Held, ...]:
        """Everything that is held for this pool, at least in these subnets."""


Factory = Callable[[Mapping[str, Any], Callable[[], PoolView]], Provider]
"""Makes a provider from its table of the configuration, `[provider.<name>]`, and a look at the pool. It checks the
table (InvalidInput) and speaks to nobody: `proxypool config check` calls it too.
"""
