"""Pausing a pair for maintenance: health and election move nothing, until it is resumed. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from proxypool.core.errors import PermanentError
from proxypool.core.model import PairSpec


class PairPaused(PermanentError):
    """What was asked for would move a pair that is to stay where it is."""


def paused(spec: PairSpec, at: float, who: str = "", reason: str = "") -> PairSpec:
    """The pair, paused since wall time `at`; one that is paused stays as it is, but for a reason that is given now."""
    if spec.paused_since is None:
        return replace(spec, paused_since=at, paused_by=who, pause_reason=reason)
    return replace(spec, paused_by=who, pause_reason=reason) if reason and reason != spec.pause_reason else spec


def resumed(spec: PairSpec) -> PairSpec:
    """The pair, as free to move as any."""
    return replace(spec, paused_since=None, paused_by="", pause_reason="")


def said(who: str, reason: str) -> str:
    """`, by ann@ops: new kernel`; empty: nobody said anything."""
    by = f", by {who}" if who else ""
    return f"{by}: {reason}" if reason else by


def require_not_paused(spec: PairSpec) -> None:
    """Refuse to move a paused pair.

    Raises:
        PairPaused: it is.
    """
    if spec.paused_since is not None:
        name = f"{spec.subnet} {spec.id}"
        raise PairPaused(f"pair {spec.subnet}/{spec.id} is paused: end that first with `proxypool pair resume {name}`")
