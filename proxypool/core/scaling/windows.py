"""Extremes of a value over a window of time, in a few numbers. Pure.

A value holds until the next one is seen, so it does not matter how often the same value is seen: a simulator that looks
only when something changes gets what a controller gets that looks every round. A window is a tuple of
`(until, value)`: values that were once the extreme of the window's rest, each with the moment at which another one
took its place. The last one holds still; its moment is that of the last look.
"""

from __future__ import annotations

Window = tuple[tuple[float, int], ...]


def with_highest(window: Window, now: float, value: int, span_s: float) -> Window:
    """The window after a look at `now`; its first value is the highest of the last `span_s`."""
    kept = _closed(window, now, span_s)
    while kept and kept[-1][1] <= value:
        kept = kept[:-1]
    return (*kept, (now, value))


def with_lowest(window: Window, now: float, value: int, span_s: float) -> Window:
    """The window after a look at `now`; its first value is the lowest of the last `span_s`."""
    kept = _closed(window, now, span_s)
    while kept and kept[-1][1] >= value:
        kept = kept[:-1]
    return (*kept, (now, value))


def _closed(window: Window, now: float, span_s: float) -> Window:
    """Without what ended before the window; the last value held until now."""
    if not window:
        return window
    closed = (*window[:-1], (now, window[-1][1]))
    return tuple(entry for entry in closed if entry[0] > now - span_s)


def extreme(window: Window, now: float, span_s: float) -> int:
    """The extreme of the last `span_s`, for a span not longer than the one that the window is kept for.

    The value of the last look is always one of them.
    """
    return next((value for until, value in window[:-1] if until > now - span_s), window[-1][1])


def changes_at(window: Window, now: float, span_s: float) -> float | None:
    """When the extreme of the last `span_s` leaves it, if the last value goes on. None: it is the last value."""
    return next((until + span_s for until, _ in window[:-1] if until > now - span_s), None)
