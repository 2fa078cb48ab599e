"""Small pieces of the page: marks of how something is, tables that become cards on a narrow screen, bars. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from proxypool.core.checks import Level
from proxypool.web.markup import Child, Markup, join, tag

FULL = 0.9
"""A bar fuller than this is bad, than `HALF_FULL` worth a look."""
HALF_FULL = 0.7
_BAR = 64
"""Pixels."""


def mark(kind: str) -> Markup:
    """A shape: a disc is well, a triangle needs a look, a square is bad. For eyes only, a word stands beside it."""
    return tag("span", class_=f"mark {kind}", aria_hidden="true")


def badge(kind: str, text: str) -> Markup:
    """A shape and its word."""
    return tag("span", mark(kind), tag("span", text), class_=f"badge {kind}")


def level_badge(level: Level) -> Markup:
    """How something is."""
    return badge(level.value, level.value)


def boxed_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Child]]) -> Markup:
    """A table; the first cell of a row says what the row is about. What is not known is a dash."""
    return grouped_table(caption, header, [tag("tbody", [row(header, cells) for cells in rows])])


def grouped_table(caption: str, header: Sequence[str], bodies: Sequence[Markup]) -> Markup:
    """A table of several bodies. What is too wide can be scrolled, also with the keyboard."""
    head = tag("thead", tag("tr", [tag("th", name, scope="col") for name in header]))
    table = tag("table", tag("caption", caption), head, list(bodies))
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label=caption)


def row(header: Sequence[str], cells: Sequence[Child]) -> Markup:
    """A row; on a narrow screen each cell says its column's name itself."""
    first, *others = cells
    found = [tag("td", _known(cell), data_label=name) for name, cell in zip(header[1:], others, strict=True)]
    return tag("tr", tag("th", _known(first), scope="row", data_label=header[0]), found)


def _known(cell: Child) -> Child:
    return tag("span", "-", class_="unknown") if cell is None or cell == "" else cell


def bar(value: float | None, limit: float | None, text: str) -> Markup | None:
    """How full something is, and the number; None if it is not known."""
    if value is None:
        return None
    if not limit:
        return tag("span", text, class_="number")
    share = min(1.0, max(0.0, value / limit))
    kind = "critical" if share >= FULL else "degraded" if share >= HALF_FULL else "ok"
    width = max(round(share * _BAR, 1), 1.5 if value else 0)
    drawing = tag(
        "svg",
        tag("rect", width=_BAR, height=6, rx=3, class_="rest"),
        tag("rect", width=f"{width:g}", height=6, rx=3, class_=f"used {kind}"),
        class_="bar",
        viewBox=f"0 0 {_BAR} 6",
        width=_BAR,
        height=6,
        aria_hidden="true",
    )
    return tag("span", tag("span", text, class_="number"), drawing, class_="gauge")


def moment(at: float) -> Markup:
    """A time; in UTC, as nobody knows where the reader is."""
    machine = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}Z" if _is_date(at) else ""
    return tag("time", machine.replace("T", " ").replace("Z", " UTC") or "-", datetime=machine or None)


def _is_date(at: float) -> bool:
    return 0 < at < 253402300800  # noqa: PLR2004 - the year 10000


def section(name: str, title: str, *children: Child, note: str = "") -> Markup:
    """A part of the page with a heading. It is replaced as a whole when it changed."""
    heading = tag("h2", title, id=f"{name}-title")
    about = tag("p", note, class_="note") if note else None
    return tag("section", heading, about, list(children), id=name, aria_labelledby=f"{name}-title", data_live=True)


def code(text: str) -> Markup:
    """What is typed."""
    return tag("code", text)


def prose(text: str) -> Markup:
    """A sentence with commands between backquotes."""
    return join([code(part) if at % 2 else part for at, part in enumerate(text.split("`"))])


def count(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
