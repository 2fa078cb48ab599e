"""When a provider is asked again after an error. Pure: the kind of error and the number of the attempt decide.

Two kinds pass by themselves, so that an action waits for them; the others need a change from outside, so that an action
that makes something is undone instead (docs/scaling.md), and only what must be finished, a release, goes on asking.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class ErrorKind(StrEnum):
    """What stands in the way."""

    THROTTLED = "throttled"
    """Too many calls."""
    UNAVAILABLE = "unavailable"
    """No answer, or not in time; what was asked may have been done."""
    QUOTA = "quota"
    """No room: a quota is used up, no card or address is free."""
    AUTH = "auth"
    """The credentials are wrong or may not do this."""
    REFUSED = "refused"
    """The platform will not do this, whoever asks and however often."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds until the next attempt: `first_s`, doubled with each attempt, `longest_s` at most."""

    first_s: float
    longest_s: float
    passes: bool = False
    """It goes away by itself."""


BACKOFF: dict[ErrorKind, Backoff] = {
    ErrorKind.THROTTLED: Backoff(1.0, 60.0, passes=True),
    ErrorKind.UNAVAILABLE: Backoff(2.0, 60.0, passes=True),
    # Somebody has to give something back, or to raise a limit.
    ErrorKind.QUOTA: Backoff(60.0, 900.0),
    # Somebody has to change the configuration; asking often may lock an account.
    ErrorKind.AUTH: Backoff(600.0, 600.0),
    ErrorKind.REFUSED: Backoff(600.0, 600.0),
}
SPREAD = 0.25
"""Up to this share is added, so that what failed together is not tried again together."""


def passes(kind: ErrorKind) -> bool:
    """Whether the error goes away by itself: the step is tried again. Else an action that makes something is undone."""
    return BACKOFF[kind].passes


def delay_s(kind: ErrorKind, attempts: int, *, retry_after_s: float = 0.0, key: str = "") -> float:
    """Seconds from a failure to the next attempt.

    Args:
        kind: of the failure.
        attempts: so many have failed, this one included; from 1.
        retry_after_s: what the platform asked for; never less is waited.
        key: of whom attempts are spread: the same key and number give the same delay on every controller.
    """
    backoff = BACKOFF[kind]
    # 2 ** 20 is far beyond every cap, and a number that grew for weeks must not overflow.
    exponent = min(max(attempts, 1) - 1, 20)
    delay = max(min(backoff.first_s * 2.0**exponent, backoff.longest_s), retry_after_s)
    return delay * (1.0 + SPREAD * _fraction(f"{key}/{attempts}"))


def is_due(
    kind: ErrorKind,
    attempts: int,
    failed_at: float,
    now: float,
    *,
    retry_after_s: float = 0.0,
    has_changed: bool = False,
    key: str = "",
) -> bool:
    """Whether to ask again now.

    Args:
        kind: of the last failure.
        attempts: see `delay_s`.
        failed_at: when it failed; any clock.
        now: by the same clock. A clock that went back makes it due: better once too often than never again.
        retry_after_s: see `delay_s`.
        has_changed: the configuration, the nodes or what is free is not what it was at the failure, which is what
            errors that do not pass wait for.
        key: see `delay_s`.
    """
    if has_changed and not passes(kind):
        return True
    return not 0.0 <= now - failed_at < delay_s(kind, attempts, retry_after_s=retry_after_s, key=key)


def _fraction(text: str) -> float:
    """From 0 to 1, always the same for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 0xFFFFFFFF
