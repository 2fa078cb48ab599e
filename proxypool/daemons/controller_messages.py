"""What reaches the main loop of a controller. Values only, as in `messages`; nothing here needs a kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from proxypool.adapters.zookeeper.leadership import Leader
from proxypool.core.role import Coordinator
from proxypool.core.scaling.documents import Action
from proxypool.core.scaling.leaks import Thing
from proxypool.core.scaling.series import Answer as Sample
from proxypool.core.scaling.series import Unread
from proxypool.core.scaling.turns import Answer
from proxypool.daemons.mainloop import Reload, Stop


@dataclass(frozen=True, slots=True)
class PoolChanged:
    """The pool's documents, or who of its nodes lives."""


@dataclass(frozen=True, slots=True)
class LinkMoved:
    """The ZooKeeper connection changed."""

    state: Coordinator


@dataclass(frozen=True, slots=True)
class LeadMoved:
    """We lead from now on, or (None) no longer."""

    leader: Leader | None


@dataclass(frozen=True, slots=True)
class ProviderAnswered:
    """A call is over."""

    action: Action
    """As it was when it asked."""
    answer: Answer


@dataclass(frozen=True, slots=True)
class HeldSeen:
    """All that the provider holds."""

    held: frozenset[Thing]


@dataclass(frozen=True, slots=True)
class NodesRead:
    """What nodes say that their pairs use, and why some say nothing."""

    answers: Mapping[str, Sample]
    problem: str = ""
    """Why nothing could be read."""

    @property
    def trouble(self) -> str | None:
        """What is wrong with it, for people; None: everybody has answered."""
        reasons = Counter(answer.value for answer in self.answers.values() if isinstance(answer, Unread))
        if self.problem or not reasons:
            return self.problem or None
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        return f"what pairs use is not known of {reasons.total()} of {len(self.answers)} nodes: {told}"


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is time to look."""


Message: TypeAlias = (
    PoolChanged | LinkMoved | LeadMoved | ProviderAnswered | HeldSeen | NodesRead | TimePassed | Reload | Stop
)
