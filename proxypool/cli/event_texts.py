"""Events as lines. Pure."""

from __future__ import annotations

import time

from proxypool.cli.output import Colour, paint
from proxypool.core.checks import Level
from proxypool.core.events import Event, EventType
from proxypool.core.one_line import for_cell

TYPE_WIDTH, SUBJECT_WIDTH = 10, 16
"""A stream cannot know how wide what comes will be."""
_COLOURS: dict[str, Colour] = {
    EventType.FAILOVER: Colour.BAD,
    EventType.SWITCHOVER: Colour.WARN,
    EventType.SCALE_OUT: Colour.WARN,
    EventType.SCALE_IN: Colour.WARN,
    EventType.REPLACE: Colour.WARN,
}
_LEVEL_COLOURS = {Level.OK: Colour.GOOD, Level.DEGRADED: Colour.WARN, Level.CRITICAL: Colour.BAD}


def event_line(event: Event, *, wide: bool, colour: bool) -> str:
    """`11-24 18:32:01  failover    s1/p1             node-a -> node-b: silent, blackout 164 ms`, in local time."""
    chosen = _LEVEL_COLOURS[event.level] if event.level is not None else _COLOURS.get(event.type)
    kind = paint(event.type, chosen, enabled=colour) + " " * (TYPE_WIDTH - len(event.type))
    return for_cell(f"{local_time(event.at, wide=wide)}  {kind}  {event.subject:<{SUBJECT_WIDTH}}  {event.message}")


def local_time(at: float, *, wide: bool) -> str:
    """Local time, as in the logs; wide: with the year and milliseconds."""
    there = time.localtime(at)
    if wide:
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', there)}.{int(at % 1 * 1000):03d}"
    return time.strftime("%m-%d %H:%M:%S", there)
