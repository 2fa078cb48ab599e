"""On which line of a TOML file a key is. Pure: `tomllib` tells values and not their places.

Only for messages: what this scanner does not understand, such as keys within an inline table, has the line of the
nearest table or key around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER = re.compile(r"\s*\[\[?([^\[\]#]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_LONG = ('"""', "'''")
"""Delimiters of strings over several lines, in which nothing is a key."""
_MAX_PARTS = 16
"""Of a dotted key: no key of ours has more, and each costs a copy of all before it."""


def lines_of(text: str) -> dict[str, int]:
    """Dotted key, or name of a table -> the line where it is first named, counted from 1."""
    found: dict[str, int] = {}
    table: list[str] = []
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        header = _HEADER.match(line)
        key = None if header else _KEY.match(line)
        if header is not None:
            table = _parts(header[1])
            _note(found, table, number)
        elif key is not None:
            _note(found, [*table, *_parts(key[1])], number)
        inside = next((mark for mark in _LONG if line.count(mark) % 2), "")
    return found


def line_of(lines: Mapping[str, int], key: str) -> int | None:
    """The line of a key, or of the nearest table around it; None: nothing of it is in the file."""
    parts = key.split(".")[:_MAX_PARTS]
    for count in range(len(parts), 0, -1):
        number = lines.get(".".join(parts[:count]))
        if number is not None:
            return number
    return None


def _parts(text: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(text)]


def _note(found: dict[str, int], parts: list[str], number: int) -> None:
    for count in range(1, min(len(parts), _MAX_PARTS) + 1):
        found.setdefault(".".join(parts[:count]), number)
