"""How things are printed: aligned tables, never wrapped or cut, JSON, YAML, colours. Pure but for `show`.

rich takes 0.1 s to import; a table here is twenty lines.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from proxypool.core.documents import to_builtins
from proxypool.core.one_line import for_cell, for_terminal


class Format(StrEnum):
    """Formats of what a command prints."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Show it again when it changes, until Ctrl-C.")]
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="Format; json and yaml are versioned documents.")]


class Colour(StrEnum):
    """SGR codes."""

    GOOD = "32"
    WARN = "33"
    BAD = "1;31"
    DIM = "2"


_SGR = re.compile(r"\x1b\[[0-9;]*m")


def wants_colour() -> bool:
    """On a terminal that can, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: Colour | None, *, enabled: bool) -> str:
    """The text in a colour."""
    return f"\x1b[{colour.value}m{text}\x1b[0m" if colour is not None and enabled and text else text


def terminal_width() -> int | None:
    """Columns of the terminal; None if standard output is none: then nothing is fitted to any width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


GAP = 2
"""Blanks between columns."""


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    width: int | None = None,
    optional: Sequence[str] = (),
    says_so: bool = True,
) -> str:
    """Aligned columns, two blanks between them, nothing at line ends. Colours do not count as width.

    What is wider than `width` goes without columns of `optional`, the first of them first, and says so below.
    """
    lines = [list(header), *([for_cell(cell) or "-" for cell in row] for row in rows)]
    widths = [max(_width(line[at]) for line in lines) for at in range(len(header))]
    left_out = _too_many(header, widths, width, optional)
    kept = [at for at, name in enumerate(header) if name not in left_out]
    text = "\n".join(
        (" " * GAP).join(line[at] + " " * (widths[at] - _width(line[at])) for at in kept).rstrip() for line in lines
    )
    return (
        f"{text}\n(not shown here: {', '.join(left_out)}; -o wide shows everything)" if left_out and says_so else text
    )


def _too_many(
    header: Sequence[str], widths: Sequence[int], width: int | None, optional: Sequence[str]
) -> Sequence[str]:
    """Columns to leave out, in the table's order."""
    left_out: set[str] = set()
    size = dict(zip(header, widths, strict=True))
    for name in optional:
        if width is None or sum(size.values()) + GAP * (len(size) - 1) <= width:
            break
        if name in size:
            del size[name]
            left_out.add(name)
    return [name for name in header if name in left_out]


def wrap(text: str, width: int | None, indent: str = "") -> str:
    """The text in lines of at most `width` columns, all but the first indented; None: one line.

    A command in backquotes stays in one line, so that it can be copied.
    """
    if width is None:
        return text
    held = _COMMAND.sub(lambda found: found[0].replace(" ", _HELD), text)
    lines = textwrap.fill(
        held, max(width, MIN_WRAP), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace(_HELD, " ")


_COMMAND = re.compile("`[^`]*`")
_HELD = "\x00"


MIN_WRAP = 40
"""A narrower terminal than this wraps the rest itself."""


def _width(cell: str) -> int:
    return len(_SGR.sub("", cell)) if "\x1b" in cell else len(cell)


def fields(items: Iterable[tuple[str, str]]) -> str:
    """One `name: value` per line, values aligned."""
    pairs = [(name, for_cell(value) or "-") for name, value in items]
    width = max(len(name) for name, _ in pairs) + 1
    return "\n".join(f"{name + ':':<{width}}  {value}" for name, value in pairs)


def show(document: Any, output: Format, text: Callable[[bool], str]) -> None:
    """Print a document, or what `text` makes of it (its argument: whether the table is wide)."""
    typer.echo(render(document, output, text), color=wants_colour())


def render(document: Any, output: Format, text: Callable[[bool], str]) -> str:
    """See `show`."""
    match output:
        case Format.JSON:
            return to_json(document)
        case Format.YAML:
            return to_yaml(to_builtins(document))
        case _:
            return for_terminal(text(output is Format.WIDE))


def listing(kind: str, items: Sequence[Any]) -> dict[str, Any]:
    """A versioned document of several things."""
    return {"apiVersion": "proxypool/v1", "kind": f"{kind}List", "items": [to_builtins(item) for item in items]}


def single(kind: str, item: Any) -> dict[str, Any]:
    """A versioned document of one thing."""
    return {"apiVersion": "proxypool/v1", "kind": kind, **to_builtins(item)}


def to_json(document: Any, indent: int | None = 2) -> str:
    """JSON, in one line without indent."""
    text = json.dumps(to_builtins(document), indent=indent, ensure_ascii=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON need not escape and a terminal minds: controls, and what turns the direction of writing."""
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
MAX_U = 0xFFFF
"""Largest code point that `\\uXXXX` can say."""
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def to_yaml(value: Any) -> str:
    """YAML 1.2 (and 1.1) of the JSON data model, in block style."""
    return "\n".join(_yaml_lines(value, ""))


def _yaml_lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _yaml_item(f"{indent}{_yaml_scalar(key)}:", item, indent)
    elif isinstance(value, list | tuple) and value:
        for item in value:
            if isinstance(item, dict | list | tuple) and item:
                first, *rest = _yaml_lines(item, f"{indent}  ")
                yield f"{indent}- {first[len(indent) + 2 :]}"
                yield from rest
            else:
                yield f"{indent}- {_yaml_scalar(item)}"
    else:
        yield f"{indent}{_yaml_scalar(value)}"


def _yaml_item(prefix: str, item: Any, indent: str) -> Iterator[str]:
    if isinstance(item, dict | list | tuple) and item:
        yield prefix
        yield from _yaml_lines(item, f"{indent}  ")
    else:
        yield f"{prefix} {_yaml_scalar(item)}"


def _yaml_scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _yaml_float(value)
        case str():
            return value if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED else _yaml_quoted(value)
        case _:
            return "{}" if isinstance(value, dict) else "[]"


def _yaml_float(value: float) -> str:
    text = repr(value)
    special = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}
    # YAML 1.1 wants a point and a sign in numbers with an exponent.
    return special.get(text) or re.sub(r"^(-?\d+)e", r"\1.0e", text)


def _yaml_quoted(text: str) -> str:
    """Double-quoted; what YAML calls unprintable is escaped."""
    out = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append(f"\\{char}")
        elif char == "\n":
            out.append("\\n")
        elif char.isprintable():
            out.append(char)
        elif code > MAX_U:
            out.append(f"\\U{code:08x}")
        else:
            out.append(f"\\u{code:04x}")
    return f'"{"".join(out)}"'


def yes(value: bool | None) -> str:  # noqa: FBT001 - the value is what is shown
    """A boolean in a table."""
    return "" if value is None else ("yes" if value else "no")
