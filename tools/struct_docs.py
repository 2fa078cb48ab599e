# ruff: noqa: INP001 - tools are no package
"""What generators of references have in common: the fields of a struct, with type, default and meaning, as words."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Struct
from msgspec import inspect as kinds

UNITS = {
    "bytes_per_s": "bytes per second",
    "packets_per_s": "packets per second",
    "connections_per_s": "connections per second",
    "_ms": "ms",
    "_s": "s",
}
"""End of a field's name → unit."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct, in words."""

    name: str
    kind: str
    default: str
    meaning: str
    unit: str


def fields(struct: type[Struct]) -> Iterator[Field]:
    """The fields in their order. What a field means is the text below it in the source."""
    meanings = attribute_docs(struct)
    described = kinds.type_info(struct)
    assert isinstance(described, kinds.StructType)  # noqa: S101 - for the type checker: a struct is described as one
    for item in described.fields:
        yield Field(
            item.encode_name, kind_text(item.type), _default(item), meanings.get(item.name, ""), unit_of(item.name)
        )


def unit_of(name: str) -> str:
    """The unit that a name ends in; empty: none."""
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def attribute_docs(owner: type) -> Mapping[str, str]:
    """Attribute → the text below it, on one line; of the class and of those it is made from."""
    found: dict[str, str] = {}
    for one in reversed(owner.__mro__):
        if one.__module__.startswith("proxypool."):
            found |= _texts(one)
    return found


def _texts(owner: type) -> Iterator[tuple[str, str]]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    lines = body.body if isinstance(body, ast.ClassDef) else []
    for before, line in pairwise(lines):
        match before, line:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, one_line(text)


def one_line(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def wrapped(text: str) -> str:
    """A paragraph of lines that are no longer than those of pages written by hand."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def cell(text: str) -> str:
    """A text that can stand in a cell of a table."""
    return text.replace("|", "\\|")


def kind_text(kind: Any) -> str:
    """A type, for people."""
    match kind:
        case kinds.UnionType(types=types):
            known = [one for one in types if not isinstance(one, kinds.NoneType)]
            return " or ".join(kind_text(one) for one in known)
        case kinds.VarTupleType(item_type=item) | kinds.FrozenSetType(item_type=item):
            return f"list: {kind_text(item)}"
        case kinds.DictType(key_type=key, value_type=value):
            return f"table: {kind_text(key)} = {kind_text(value)}"
        case kinds.StructType(cls=cls) | kinds.CustomType(cls=cls):
            return _NAMES.get(cls.__name__, cls.__name__)
    return _simple(kind)


def _simple(kind: Any) -> str:
    """A type that has no other types in it."""
    match kind:
        case kinds.IntType() | kinds.FloatType():
            return _number(kind)
        case kinds.StrType(pattern=pattern):
            return "name" if pattern else "text"
        case kinds.LiteralType(values=values):
            return ", ".join(f"`{word}`" for word in values)
        case kinds.EnumType(cls=cls):
            return ", ".join(f"`{member.value}`" for member in cls)
        case kinds.BoolType():
            return "true or false"
        case kinds.AnyType():
            return "anything"
    raise TypeError(f"there are no words for {kind}")


_NAMES = {"IPv4Network": "CIDR", "IPv4Address": "address", "IPv4Interface": "address/length"}


def _number(kind: kinds.IntType | kinds.FloatType) -> str:
    what = "integer" if isinstance(kind, kinds.IntType) else "number"
    low = f"{kind.ge:,g}" if kind.ge is not None else f"{kind.gt:,g}" if kind.gt is not None else None
    top = kind.le if kind.le is not None else kind.lt
    steps = f", in steps of {kind.multiple_of}" if kind.multiple_of else ""
    if low is not None and top is not None:
        until = "below" if kind.le is None else "up to"
        return (
            f"{what}, {low} to {_figure(top)}{steps}"
            if kind.ge is not None
            else f"{what}, above {low}, {until} {_figure(top)}{steps}"
        )
    if low is None:
        return what
    return f"{what}, {low} or more" if kind.ge is not None else f"{what}, more than {low}"


def _figure(value: float) -> str:
    return f"{value:,g}" if abs(value) < 1e6 or value % 1 else f"{value:,.0f}"  # noqa: PLR2004 - without an exponent


def _default(item: Any) -> str:
    if item.required:
        return "required"
    value = item.default if item.default is not msgspec.NODEFAULT else item.default_factory()
    return value_text(value)


def value_text(value: Any) -> str:
    """A default as it would be written in TOML; empty where there is nothing to write."""
    if value is None or isinstance(value, Struct) or value in ((), {}, frozenset()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Enum):
        return f'`"{value.value}"`'
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return f"`[{', '.join(chr(34) + str(one) + chr(34) for one in value)}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
