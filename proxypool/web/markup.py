"""HTML and SVG that cannot be injected into: whatever is not markup already is escaped. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

VOID = frozenset({"br", "link", "meta"})
"""Elements without an end."""


class Markup(str):
    """Text that is HTML already. Made by `tag`, `join` and `raw`, never of what was read somewhere."""

    __slots__ = ()


Child: TypeAlias = "str | int | Markup | Iterable[Child] | None"
Attribute: TypeAlias = "str | float | bool | None"


def raw(text: str) -> Markup:
    """Our own markup, written by hand: a constant."""
    return Markup(text)


def join(*children: Child) -> Markup:
    """Children one after the other; text is escaped, None is nothing."""
    return Markup("".join(_html(child) for child in children))


def _html(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int):
        return html.escape(str(child), quote=True)
    return "".join(_html(each) for each in child)


def tag(element: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element. `class_` is the attribute class, `data_label` data-label; True is one without a value, None none."""
    start = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in VOID:
        return Markup(f"<{element}{start}>")
    return Markup(f"<{element}{start}>{join(*children)}</{element}>")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
