"""Numbers, times and lists of names as people read them: in sentences, in tables, and on the status page. Pure."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice


def some_of(names: Collection[str], most: int = 8) -> str:
    """Names in a row; of many only so many, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(islice(names, most)) + more


def rate(bytes_per_s: float | None) -> str:
    """Bytes per second."""
    return "" if bytes_per_s is None else f"{scaled(bytes_per_s)}B/s"


def scaled(value: float) -> str:
    """A number with a decimal prefix, three digits or so."""
    prefix = ""
    for larger in ("k", "M", "G", "T"):
        if abs(value) < 999.5:  # noqa: PLR2004 - rounds to 1000 above
            break
        value, prefix = value / 1000, larger
    digits = 1 if prefix and value < 99.5 else 0  # noqa: PLR2004 - three digits
    return f"{value:.{digits}f} {prefix}"


def ago(then: float | None, now: float) -> str:
    """How long ago, in the two largest units that matter."""
    return duration(now - then) if then else ""


def brief(seconds: float | None) -> str:
    """A short time, with two digits or three."""
    if seconds is None:
        return ""
    if seconds >= 0.9995:  # noqa: PLR2004 - rounds to 1000 ms above
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - three digits
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"  # noqa: PLR2004 - two digits


def duration(seconds: float) -> str:
    """So long, in the two largest units that matter."""
    whole = max(0, int(seconds))
    for size, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}{rest}{smaller_unit}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"
