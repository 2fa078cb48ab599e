"""TOML as plain values, in bounds: Python's parser takes numbers of any size and nests as deeply as it can. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from proxypool.core.config_lines import line_of, lines_of
from proxypool.core.errors import InvalidInput
from proxypool.core.quantities import MAX_COUNT

MAX_DEPTH = 16
"""Of tables and lists within each other. Ours have four."""


def load(text: str, *, what: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        InvalidInput: it is none, is nested too deeply, or a number in it is beyond 64 bits or not finite.
    """
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise InvalidInput(
            f"{what}: tables or lists are nested too deeply: at most {MAX_DEPTH} within each other"
        ) from None
    except ValueError as error:
        # Of a number with thousands of digits Python says less than of what is no TOML.
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a number has too many digits"
        raise InvalidInput(f"{what}: {why}") from error
    _require_bounds(found, text, what)
    return found


def _require_bounds(found: Mapping[str, Any], text: str, what: str) -> None:
    todo: list[tuple[str, int, Any]] = [("", 0, found)]
    while todo:
        key, depth, value = todo.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput(f"{what}: tables or lists are nested too deeply: at most {MAX_DEPTH} within each other")
        if isinstance(value, Mapping):
            todo += [(f"{key}.{name}" if key else name, depth + 1, item) for name, item in value.items()]
        elif isinstance(value, list):
            todo += [(key, depth + 1, item) for item in value]
        elif isinstance(value, int | float) and not abs(value) <= MAX_COUNT:
            # Of NaN no comparison is true.
            line = line_of(lines_of(text), key)
            where = what if line is None else f"{what}: line {line}"
            raise InvalidInput(f"{where}: {key} is not finite or beyond 64 bits: give a number that can be")
