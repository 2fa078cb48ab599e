"""Pausing a pair for maintenance: health and election move nothing, until it is resumed. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from proxypool.core.errors import PermanentError
from proxypool.core.model import PairSpec


class PairPaused(PermanentError):
    """What was asked for would move a pair that is to stay where it is."""


def paused(spec: PairSpec, at: float) -> PairSpec:
    """The pair, paused since wall time `at`, or since when it was."""
    return replace(spec, paused_since=at if spec.paused_since is None else spec.paused_since)


def resumed(spec: PairSpec) -> PairSpec:
    """The pair, as free to move as any."""
    return replace(spec, paused_since=None)


def require_not_paused(spec: PairSpec) -> None:
    """Refuse to move a paused pair.

    Raises:
        PairPaused: it is.
    """
    if spec.paused_since is not None:
        name = f"{spec.subnet} {spec.id}"
        raise PairPaused(f"pair {spec.subnet}/{spec.id} is paused: end that first with `proxypool pair resume {name}`")
