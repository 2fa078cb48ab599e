"""How what we make in the cloud is recognised as ours: name, description, idempotency token. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

_OWNER = "proxypool"
TOKEN_LENGTH = 48
"""The platform allows 64."""


class Kind(StrEnum):
    """What it is for."""

    CARD = "card"
    HAVIP = "havip"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Purpose:
    """For whom something was made."""

    kind: Kind
    pool: str
    subnet: str
    pair: str
    node: str = ""
    """Of a card."""

    @property
    def description(self) -> str:
        """All of it, for people and for us; below the 200 characters that the platform keeps."""
        parts = (self.pool, self.subnet, self.pair, *((self.node,) if self.node else ()))
        return f"{_OWNER} {self.kind} {'/'.join(parts)}"

    @property
    def name(self) -> str:
        """Always the same for a purpose, and short enough for the platform's 65 characters."""
        return f"{_OWNER}-{self.kind}-{_digest(self.description)[:24]}"

    def token(self, request: str, try_number: int) -> str:
        """For the request that makes it.

        Args:
            request: the intent's; another action is another request.
            try_number: 0, unless what an earlier token had made never came about.
        """
        return _digest(f"create\n{self.description}\n{request}\n{try_number}")[:TOKEN_LENGTH]


def purpose_of(name: str, description: str) -> Purpose | None:
    """For whom something was made, or None if it was not made by us: its name must fit its description."""
    owner, _, rest = description.partition(" ")
    kind, _, path = rest.partition(" ")
    parts = path.split("/")
    if owner != _OWNER or kind not in set(Kind) or len(parts) != (4 if kind == Kind.CARD else 3):
        return None
    purpose = Purpose(Kind(kind), *parts)
    return purpose if purpose.name == name else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
