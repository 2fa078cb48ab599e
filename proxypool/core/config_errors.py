"""What is said of a value of the configuration that cannot be accepted: where it is, what may be meant. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from proxypool.core.errors import InvalidInput

Place = Callable[[str], str]
"""Dotted key -> the beginning of a message about it: the file and the line."""
_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_INDEX = re.compile(r"\[[^\]]*\]")
_CHOICE = re.compile(r"Invalid enum value '?([^']*)'?")
_MISSING = re.compile(r"missing required field `(\w+)`")


def nowhere(_key: str) -> str:
    """A place that has no line."""
    return ""


def explained(error: Exception, kind: type[Struct], place: Place) -> str:
    """A sentence of what msgspec says: with the line, and for a choice with the nearest value there is."""
    text = str(error)
    at = _AT.search(text)
    key = _INDEX.sub("", at[1]) if at is not None else ""
    missing = _MISSING.search(text)
    if missing is not None:
        return f"{place(key)}{text}"
    chosen = _CHOICE.match(text)
    hint = nearest(chosen[1], choices(kind, key)) if chosen is not None else ""
    return f"{place(key)}{text}{f': {hint}' if hint else ''}"


def require_known_keys(values: Mapping[str, Any], kind: type[Struct], where: str, place: Place) -> None:
    """Refuse a key of a table that is none of its type's. `where`: what its names begin with.

    Raises:
        InvalidInput: with the nearest known one, or all of them.
    """
    known = list(kind.__struct_fields__)
    for key in values:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1)
        hint = f": did you mean {where}{near[0]!s}?" if near else f"; known keys: {', '.join(known)}"
        raise InvalidInput(f"{place(where + key)}unknown key {where}{key}{hint}")


def nearest(word: str, known: list[str]) -> str:
    """`did you mean fast?`, or the list; empty: nothing is known."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(known)}" if known else ""


def choices(kind: type[Struct], key: str) -> list[str]:
    """The values that a key may have, if they are a closed list."""
    found: Any = kind
    for part in key.split("."):
        struct = next((one for one in _alternatives(found) if isinstance(one, type) and issubclass(one, Struct)), None)
        hints = get_type_hints(struct) if struct is not None else {}
        names = {} if struct is None else {item.encode_name: item.name for item in msgspec.structs.fields(struct)}
        if part not in names:
            return []
        found = hints[names[part]]
    values: list[str] = []
    for one in _alternatives(found):
        if get_origin(one) is Literal:
            values += [str(value) for value in get_args(one)]
        elif isinstance(one, type) and issubclass(one, Enum):
            values += [str(member.value) for member in one]
    return values


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union; anything else is alone."""
    is_plain = isinstance(kind, type) or get_origin(kind) is Literal
    return (kind,) if is_plain else get_args(kind) or (kind,)
