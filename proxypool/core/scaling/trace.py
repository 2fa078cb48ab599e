"""Traffic traces: a CSV file's text into loads, with a note on everything that had to be decided on the way. Pure.

Any CSV with a column of times and one of numbers: bytes, connections or requests per interval; the unit does not
matter, because the trace is scaled to pairs. Each value is taken to hold from its time to the next one's, as a mean
over an interval does; a last one for as long as the others.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise

from proxypool.core.errors import InvalidInput
from proxypool.core.quantities import MAX_MOMENT
from proxypool.core.scaling.model import MAX_PAIRS
from proxypool.core.scaling.simulate import Load

BUSY_QUANTILE, BUSY_PAIRS = 0.99, 16
"""A trace is scaled so that this quantile of its values is what so many pairs carry at their limit ..."""
MOST_PAIRS = MAX_PAIRS - 1
"""... but no value is more than a subnet can have, one pair kept in reserve."""
GAP = 1.5
"""Intervals between two values: more are a gap, in which the load is not known."""
SAMPLE_ROWS = 50
LEAST_VALUE = 1e-200
"""Below it there is no load: a part of it would be no number any more."""
MOST_LOAD = 1_000_000
"""In pairs, of a trace whose pairs' capacity is given."""
MAX_SPAN_S = 10 * 366 * 86400.0
"""Ten years: every round of the rivals in a gap is gone through."""
_TIME = re.compile(
    r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?)?\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII,
)
_TIME_NAMES = frozenset({"time", "timestamp", "ts", "date", "datetime", "epoch", "period", "unix", "seconds"})
_UNKNOWN = frozenset({"", "nan", "null", "none", "na", "n/a", "-"})
_EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""Numbers above the first are in nanoseconds, microseconds, milliseconds."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Values over time, as the file has them."""

    column: str
    points: tuple[tuple[float, float | None], ...]
    """Seconds and value, in order, one for each time; None: not known."""
    interval_s: float
    notes: tuple[str, ...] = ()

    @property
    def until(self) -> float:
        """When the last value ends."""
        return self.points[-1][0] + self.interval_s

    @property
    def values(self) -> list[float]:
        """Those that are known."""
        return [value for _, value in self.points if value is not None]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a trace becomes pairs."""

    pair_capacity: float
    """In the trace's unit: what one pair can carry."""
    why: str


def parse(text: str, column: str | None = None) -> Trace:
    """Read a trace.

    Raises:
        InvalidInput: it is no such CSV, or it is not clear which column is meant.
    """
    rows = _rows(text)
    header, body, first_line = _header(rows)
    sample = body[:SAMPLE_ROWS]
    time_at = _time_column(header, sample)
    value_at = _value_column(header, sample, time_at, column)
    points, notes = [], []
    unknown = 0
    for number, row in enumerate(body, first_line):
        if len(row) <= max(time_at, value_at):
            raise InvalidInput(f"line {number} has {len(row)} columns instead of {len(header)}: complete or remove it")
        value = _value(row[value_at], header[value_at], number)
        unknown += value is None
        points.append((_required_time(row[time_at], header[time_at], number), value))
    if unknown:
        notes.append(f"{unknown} values are missing or NaN: the load is not known then")
    return _trace(header[value_at], points, notes)


def scale_of(trace: Trace, pair_capacity: float | None = None) -> Scale:
    """What one pair carries: as given, or chosen so that the trace keeps a subnet busy.

    Raises:
        InvalidInput: the trace has no load at all, or the capacity is not positive.
    """
    values = sorted(trace.values)
    if not values or values[-1] < LEAST_VALUE:
        raise InvalidInput(f"column {trace.column!r} has no value above zero: there is nothing to simulate")
    if pair_capacity is not None:
        if not (pair_capacity > 0 and math.isfinite(pair_capacity)):
            raise InvalidInput(f"--pair-capacity {pair_capacity:g} is no capacity: give a number above zero")
        if values[-1] > MOST_LOAD * pair_capacity:
            raise InvalidInput(
                f"--pair-capacity {pair_capacity:g} is too small: the largest value, {values[-1]:g}, would be more "
                f"than {MOST_LOAD:,} pairs carry"
            )
        return Scale(pair_capacity, "as given")
    busy = values[math.ceil(BUSY_QUANTILE * len(values)) - 1] / BUSY_PAIRS
    most = values[-1] / MOST_PAIRS
    if busy >= most:
        return Scale(busy, f"so that the {BUSY_QUANTILE:.0%} quantile is what {BUSY_PAIRS} pairs carry")
    return Scale(most, f"so that the largest value is what {MOST_PAIRS} pairs carry, the most that keep one in reserve")


def loads_of(trace: Trace, scale: Scale) -> list[Load]:
    """The trace in pairs, gaps as loads that are not known, equal neighbours joined."""
    loads: list[Load] = []
    ends = [*(at for at, _ in trace.points[1:]), trace.until]
    for (at, value), end in zip(trace.points, ends, strict=True):
        pairs = None if value is None else value / scale.pair_capacity
        if not loads or loads[-1].pairs != pairs:
            loads.append(Load(at, pairs))
        if end - at > GAP * trace.interval_s and pairs is not None:
            loads.append(Load(at + trace.interval_s, None))
    return loads


def _rows(text: str) -> list[list[str]]:
    text = text.removeprefix("\ufeff")
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InvalidInput(f"this is no CSV: {error}") from None
    if not rows:
        raise InvalidInput("the file is empty: give a CSV with a column of times and one of numbers")
    if len(rows[0]) < 2:  # noqa: PLR2004 - a time and a number
        raise InvalidInput("there is one column only: give a CSV with a column of times and one of numbers")
    return rows


def _header(rows: list[list[str]]) -> tuple[list[str], list[list[str]], int]:
    """Names, the rows below, and the number of the first of these."""
    first = [cell.strip() for cell in rows[0]]
    if any(_time(cell) is not None or _number(cell) is not None for cell in first):
        return [f"column {number}" for number in range(1, len(first) + 1)], rows, 1
    if len(rows) == 1:
        raise InvalidInput("there is a header and nothing below it")
    return first, rows[1:], 2


def _time_column(header: Sequence[str], sample: Sequence[Sequence[str]]) -> int:
    dated = [at for at in range(len(header)) if _all(sample, at, _date)]
    named = [at for at, name in enumerate(header) if name.lower() in _TIME_NAMES and _all(sample, at, _time)]
    rising = [0] if _all(sample, 0, _time) and len(header) > 1 else []
    for found in (dated, named, rising):
        if found:
            return found[0]
    raise InvalidInput(
        f"none of the columns {', '.join(header)} is one of times: "
        "give them as 2026-11-29 15:04:05 (or with T, Z, an offset), or as seconds in a column named timestamp"
    )


def _value_column(header: Sequence[str], sample: Sequence[Sequence[str]], time_at: int, asked: str | None) -> int:
    numeric = [at for at in range(len(header)) if at != time_at and _all(sample, at, _number)]
    names = ", ".join(header[at] for at in numeric)
    if asked is not None:
        if asked not in header:
            raise InvalidInput(f"there is no column {asked!r}: the numeric ones are {names or '(none)'}")
        return header.index(asked)
    if not numeric:
        others = ", ".join(name for at, name in enumerate(header) if at != time_at)
        raise InvalidInput(f"no column has numbers: looked at {others}")
    if len(numeric) > 1:
        raise InvalidInput(f"several columns have numbers: {names}. Choose one with --column")
    return numeric[0]


def _all(sample: Sequence[Sequence[str]], at: int, reads: Callable[[str], float | None]) -> bool:
    """All known values of the column can be read so, and there is one."""
    cells = [row[at].strip() for row in sample if at < len(row)]
    known = [cell for cell in cells if cell.lower() not in _UNKNOWN]
    return bool(known) and all(reads(cell) is not None for cell in known)


def _value(cell: str, name: str, line: int) -> float | None:
    cell = cell.strip()
    if cell.lower() in _UNKNOWN:
        return None
    value = _number(cell)
    if value is not None and math.isnan(value):
        return None
    if value is None or math.isinf(value):
        raise InvalidInput(f"line {line}: {cell!r} in column {name!r} is no number: correct it or leave it empty")
    if value < 0:
        raise InvalidInput(f"line {line}: {cell} in column {name!r} is negative: traffic is zero or more")
    return value


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _required_time(cell: str, name: str, line: int) -> float:
    at = _time(cell.strip())
    if at is None or abs(at) > MAX_MOMENT:
        raise InvalidInput(f"line {line}: {cell!r} in column {name!r} is no time: correct it or remove the line")
    return at


def _time(cell: str) -> float | None:
    """Seconds since 1970 of a date and time, or of a number in seconds, milli-, micro- or nanoseconds."""
    at = _date(cell)
    if at is not None:
        return at
    number = _number(cell)
    if number is None or not math.isfinite(number):
        return None
    return next((number / per_s for above, per_s in _EPOCH_UNITS if abs(number) > above), number)


def _date(cell: str) -> float | None:
    found = _TIME.fullmatch(cell)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):  # noqa: PLR2004
        return None
    at = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second + float(found[7] or 0)
    zone = found[8]
    if zone and zone[0] in "+-":
        at -= int(zone[0] + "1") * (int(zone[1:3]) * 3600 + int(zone[3:].lstrip(":") or 0) * 60)
    return float(at)


def _days(year: int, month: int, day: int) -> int:
    """Since 1970-01-01, in the Gregorian calendar; years are taken to begin in March, so that leap days are last."""
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)  # noqa: PLR2004 - March
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 719469


def _trace(column: str, points: list[tuple[float, float | None]], notes: list[str]) -> Trace:
    if any(later < earlier for (earlier, _), (later, _) in pairwise(points)):
        notes.append("the lines were not in the order of their times and were sorted")
        points = sorted(points, key=lambda point: point[0])
    latest = dict(points)
    if len(latest) < len(points):
        notes.append(f"{len(points) - len(latest)} times occur more than once: the last value counts")
    if (span := max(latest) - min(latest)) > MAX_SPAN_S:
        raise InvalidInput(
            f"from the first time to the last it is {span / 86400:.0f} days, and at most {MAX_SPAN_S / 86400:.0f} are "
            "replayed: is a time in another unit?"
        )
    if len(latest) < 2:  # noqa: PLR2004 - an interval needs two ends
        raise InvalidInput("the trace needs values at two times at least")
    steps = sorted(later - earlier for earlier, later in pairwise(latest))
    interval_s = steps[len(steps) // 2]
    if gaps := sum(step > GAP * interval_s for step in steps):
        notes.append(f"{gaps} gaps longer than the interval of {interval_s:g} s: the load is not known then")
    return Trace(column, tuple(latest.items()), interval_s, tuple(notes))
