"""The plot of a simulation as SVG: pure text, no library. A panel for each policy, one below the other.

However long a trace is, a panel has as many columns as pixels; a column shows the extremes of its time, so that no
spike and no overload is lost.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from proxypool.core.scaling.simulate import Load, Outcome

WIDTH, PANEL_HEIGHT = 1200, 220
LEFT, RIGHT, TOP, PANEL_GAP, BOTTOM = 60, 40, 80, 46, 40
COLUMNS = WIDTH - LEFT - RIGHT
INK, MUTED, GRID, LOAD, NEEDED, SERVING, OVERLOAD = (
    "#1b1f24",
    "#59636e",
    "#e4e8ec",
    "#c5d3e3",
    "#8a94a0",
    "#0b5fa5",
    "#d1242f",
)
_STEPS_S = (1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2678400)
MAX_TICKS = 10


@dataclass(frozen=True, slots=True)
class _Column:
    load: float | None
    """The largest."""
    fewest: int
    most: int
    last: int
    is_overload: bool


def svg(loads: Sequence[Load], until: float, outcomes: Sequence[Outcome], title: str) -> str:
    """The picture: load, pairs needed, pairs that serve, overload.

    Args:
        loads: In pairs; not empty.
        until: When the last one ends.
        outcomes: One panel each.
        title: Above all of them.
    """
    began = loads[0].at
    height = TOP + len(outcomes) * (PANEL_HEIGHT + PANEL_GAP) + BOTTOM - PANEL_GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 22, title, INK, size=16),
        *_legend(44),
    ]
    for number, outcome in enumerate(outcomes):
        top = TOP + number * (PANEL_HEIGHT + PANEL_GAP)
        parts += _panel(_columns(loads, until, outcome), outcome, top)
        parts += _time_axis(began, until, top, is_labelled=number == len(outcomes) - 1)
    return "\n".join((*parts, "</svg>", ""))


def _columns(loads: Sequence[Load], until: float, outcome: Outcome) -> list[_Column]:
    began = loads[0].at
    width_s = (until - began) / COLUMNS
    load_times, changes = [load.at for load in loads], [at for at, _ in outcome.timeline]
    columns = []
    for number in range(COLUMNS):
        start, end = began + number * width_s, began + (number + 1) * width_s
        here = loads[bisect.bisect_right(load_times, start) - 1 : bisect.bisect_left(load_times, end)]
        serving = outcome.timeline[bisect.bisect_right(changes, start) - 1 : bisect.bisect_left(changes, end)]
        known = [load.pairs for load in here if load.pairs is not None]
        pairs = [count for _, count in serving]
        columns.append(
            _Column(
                max(known, default=None), min(pairs), max(pairs), pairs[-1], _is_overload(here, serving, start, end)
            )
        )
    return columns


def _is_overload(here: Sequence[Load], serving: Sequence[tuple[float, int]], start: float, end: float) -> bool:
    """Somewhere between the two moments the load was more than the pairs that served."""
    moments = sorted({start, *(load.at for load in here if load.at > start), *(at for at, _ in serving if at > start)})
    for moment in moments:
        load = max((load for load in here if load.at <= moment), key=lambda load: load.at, default=None)
        count = max((entry for entry in serving if entry[0] <= moment), default=None)
        if moment < end and load and count and load.pairs is not None and load.pairs > count[1]:
            return True
    return False


def _panel(columns: Sequence[_Column], outcome: Outcome, top: float) -> Iterator[str]:
    bottom = top + PANEL_HEIGHT
    highest = max(max(column.most, _needed(column.load) or 0) for column in columns)
    step = _nice(highest / 4)
    scale = PANEL_HEIGHT / (math.ceil((highest + 0.5) / step) * step)
    for level in range(0, math.ceil(PANEL_HEIGHT / scale) + 1, step):
        y = bottom - level * scale
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
        yield _text(LEFT - 8, y + 4, str(level), MUTED, anchor="end")
    for number, column in enumerate(columns):
        if column.is_overload:
            x = LEFT + number
            yield f'<path d="M{x} {top}h1.5V{bottom}h-1.5Z" fill="{OVERLOAD}" opacity=".35"/>'
    yield f'<path d="{_area(columns, bottom, scale)}" fill="{LOAD}"/>'
    needed = [_needed(column.load) for column in columns]
    yield f'<path d="{_steps(needed, bottom, scale)}" fill="none" stroke="{NEEDED}" stroke-dasharray="3 2"/>'
    yield f'<path d="{_serving(columns, bottom, scale)}" fill="none" stroke="{SERVING}" stroke-width="1.6"/>'
    yield f'<path d="M{LEFT} {top}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>'
    yield _text(LEFT, top - 6, _caption(outcome), INK, size=13)
    yield (
        f'<text transform="translate(16 {top + PANEL_HEIGHT / 2:.0f}) rotate(-90)" fill="{MUTED}" '
        'text-anchor="middle">pairs</text>'
    )


def _caption(outcome: Outcome) -> str:
    return (
        f"{outcome.policy}: overload {outcome.overload_fraction:.3%}, slack {outcome.mean_slack_fraction:.0%}, "
        f"{outcome.actions_per_hour:.2f} actions/h, {outcome.pair_hours:,.0f} pair hours, "
        f"{outcome.broken_flows:,} broken flows"
    )


def _needed(load: float | None) -> int | None:
    return None if load is None else math.ceil(load) + 1


def _area(columns: Sequence[_Column], bottom: float, scale: float) -> str:
    heights = (f"V{bottom - (column.load or 0.0) * scale:.1f}h1" for column in columns)
    return f"M{LEFT} {bottom}{''.join(heights)}V{bottom}Z"


def _steps(values: Sequence[int | None], bottom: float, scale: float) -> str:
    """A step line, interrupted where nothing is known."""
    path, is_down = [], False
    for number, value in enumerate(values):
        if value is None:
            is_down = False
            continue
        y = bottom - value * scale
        path.append(f"V{y:.1f}h1" if is_down else f"M{LEFT + number} {y:.1f}h1")
        is_down = True
    return "".join(path) or f"M{LEFT} {bottom}"


def _serving(columns: Sequence[_Column], bottom: float, scale: float) -> str:
    path = [f"M{LEFT} {bottom - columns[0].last * scale:.1f}"]
    for column in columns:
        levels = dict.fromkeys((column.most, column.fewest, column.last))
        path += [f"V{bottom - level * scale:.1f}" for level in levels]
        path.append("h1")
    return "".join(path)


def _time_axis(began: float, until: float, top: float, *, is_labelled: bool) -> Iterator[str]:
    bottom, span = top + PANEL_HEIGHT, until - began
    step = next((step for step in _STEPS_S if span / step <= MAX_TICKS), math.ceil(span / MAX_TICKS))
    moment = math.ceil(began / step) * step
    while moment <= until:
        x = LEFT + (moment - began) / span * COLUMNS
        yield f'<path d="M{x:.1f} {bottom}v5" stroke="{INK}"/>'
        if is_labelled:
            yield _text(x, bottom + 20, _moment(moment, step), MUTED, anchor="middle")
        moment += step


def _moment(moment: float, step_s: float) -> str:
    """UTC; seconds, if the trace counts from zero."""
    there = time.gmtime(moment)
    form = "%Y-%m-%d" if step_s >= 86400 else "%m-%d %H:%M" if step_s >= 60 else "%H:%M:%S"  # noqa: PLR2004 - day, minute
    return time.strftime(form, there)


def _legend(y: float) -> Iterator[str]:
    x = float(LEFT)
    for label, mark in (
        ("load", f'<rect x="{{x}}" y="{y - 9}" width="18" height="10" fill="{LOAD}"/>'),
        (
            "needed (whole pairs and one in reserve)",
            f'<path d="M{{x}} {y - 4}h18" stroke="{NEEDED}" stroke-dasharray="3 2"/>',
        ),
        ("serving", f'<path d="M{{x}} {y - 4}h18" stroke="{SERVING}" stroke-width="2"/>'),
        ("overload", f'<rect x="{{x}}" y="{y - 10}" width="18" height="12" fill="{OVERLOAD}" opacity=".35"/>'),
    ):
        yield mark.format(x=x)
        yield _text(x + 24, y, label, INK)
        x += 24 + 7 * len(label) + 24


def _nice(value: float) -> int:
    """A round number of at least this, for the distance of grid lines."""
    if value <= 1:
        return 1
    power: int = 10 ** int(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def _text(x: float, y: float, text: str, fill: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
    )
