"""Names that the controller gives. Pure."""

from __future__ import annotations

from collections.abc import Container

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def pair_name(now: float, taken: Container[str]) -> str:
    """Name of a pair that begins at wall time `now`, none of those that are taken.

    It tells the moment because a provider may know the name of a pair that is gone, and take a new one for it.
    """
    number = int(now * 1000)
    while (name := f"p-{_base36(number)}") in taken:
        number += 1
    return name


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return text or "0"


def action_id(now: float, subnet: str, pair: str) -> str:
    """Id of an action that begins at wall time `now`."""
    return f"{int(now * 1000)}-{subnet}-{pair}"
