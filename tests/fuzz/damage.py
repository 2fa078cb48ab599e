"""Valid documents with something wrong in them: what hypothesis draws for every door that takes JSON or TOML.

A value is exchanged for one of another kind, a key is left out, repeated or unknown, a number is larger than any, a list
is nested a thousand deep; then bytes are cut off, put in between, or are no UTF-8. Everything else stays as it was, so
that what looks at the rest is reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

Step = tuple[list[Any], int]
"""A place: the list that holds it, and where."""


class Token(str):
    """Text that stands in a document as it is, be it JSON or not."""

    __slots__ = ()


DEEP = 3000
"""More than Python's parsers go."""
TEXTS = (
    "",
    " ",
    "x" * 5000,
    "\x1b]0;title\x07\x1b[2J",
    "one\ntwo: forged",
    "\u202etxt.exe",
    "\x00",
    "../../etc/passwd",
    "; rm -rf /",
    "%s%n{0}",
    "<script>alert(1)</script>",
    "\N{SUPERSCRIPT TWO}" * 10,
    "\N{FULLWIDTH DIGIT ONE}",
    "\U0001f4a9",
    "0.0.0.0/0",
    "255.255.255.255",
    "::1",
    "fe80::1%eth0",
    "10.0.0.1/33",
    "10.0.0.1/8",
    "0x7f.1",
    "127.0.0.1:" + "9" * 5000,
    "9" * 5000,
    "NaN",
    "1e999",
    "draining",
    "master",
    "s1",
    "n1",
    "*",
)
NUMBERS = (
    *("0", "-0", "-1", "1", "255", "256", "65535", "65536", "2147483648", "4294967296", "9223372036854775807"),
    *("9223372036854775808", "18446744073709551616", "-9223372036854775809", "1.5", "1e15", "1e16", "253402300799"),
    *("1e18", "1e308", "-1e308", "5e-324", "1e999", "-1e999", "9" * 400, "9" * 5000, "0." + "3" * 2000),
)
TOKENS = (
    *("null", "true", "false", "NaN", "Infinity", "-Infinity", "nul", "'x'", "01", "+1", "0x10", ".5", ""),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\x"', '"unterminated', "[]", "{}", "[[]]", '{"": null}', "[1, 2"),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * DEEP),
)
BYTES = (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf", b"\n", b"}", b"]", b'"', b",", b"\\", b"\x1b[2J")

odd_values = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(NUMBERS).map(Token),
    st.sampled_from(TOKENS).map(Token),
    st.text(max_size=12),
    st.integers(),
    st.floats(),
)


def pairs_of(value: Any) -> Any:
    """The value with mappings as lists of pairs, in which a key may be there twice."""
    if isinstance(value, dict):
        return {"pairs": [[key, pairs_of(item)] for key, item in value.items()]}
    return [pairs_of(item) for item in value] if isinstance(value, list | tuple) else value


def places(value: Any) -> Iterator[Step]:
    """Everywhere in a value of `pairs_of`, keys included."""
    if isinstance(value, dict):
        for pair in value["pairs"]:
            yield pair, 0
            yield pair, 1
            yield from places(pair[1])
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield value, at
            yield from places(item)


def mappings(value: Any) -> Iterator[list[Any]]:
    """The lists of pairs in a value of `pairs_of`."""
    if isinstance(value, dict):
        yield value["pairs"]
        for _, item in value["pairs"]:
            yield from mappings(item)
    elif isinstance(value, list):
        for item in value:
            yield from mappings(item)


def as_json(value: Any) -> str:
    """JSON of a value of `pairs_of`, or what looks like it."""
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_json(key)}: {as_json(item)}" for key, item in value["pairs"]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return json.dumps(value)


@st.composite
def damaged(
    draw: st.DrawFn, valid: Sequence[Any], write: Callable[[Any], str] = as_json, most: int = 3
) -> bytes:
    """Bytes of one of these values, with up to so many things wrong in it; sometimes with none."""
    document = pairs_of(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, most))):
        _harm(draw, document)
    data = write(document).encode("utf-8", "surrogatepass")
    return draw(_cut(data)) if draw(st.integers(0, 5)) == 0 else data


def _harm(draw: st.DrawFn, document: Any) -> None:
    found, tables = list(places(document)), list(mappings(document))
    what = draw(st.sampled_from(("value", "value", "value", "key", "gone", "twice", "more")))
    if what in {"value", "key"} and found:
        wanted = [(holder, at) for holder, at in found if not (what == "value" and _is_key(holder, at, tables))]
        holder, at = draw(st.sampled_from(wanted or found))
        holder[at] = draw(odd_values)
    elif what == "gone" and any(tables):
        table = draw(st.sampled_from([table for table in tables if table]))
        del table[draw(st.integers(0, len(table) - 1))]
    elif what == "twice" and any(tables):
        table = draw(st.sampled_from([table for table in tables if table]))
        key, _ = draw(st.sampled_from(table))
        table.append([key, draw(odd_values)])
    elif tables:
        draw(st.sampled_from(tables)).append([draw(st.sampled_from(("v", "unknown", "", "__class__"))), draw(odd_values)])


def _is_key(holder: list[Any], at: int, tables: Sequence[list[Any]]) -> bool:
    return at == 0 and any(holder is pair for table in tables for pair in table)


@st.composite
def _cut(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes in which something is missing, or too much."""
    at = draw(st.integers(0, len(data)))
    match draw(st.sampled_from(("cut", "put", "turn", "double"))):
        case "cut":
            return data[:at]
        case "put":
            return data[:at] + draw(st.sampled_from(BYTES)) + data[at:]
        case "turn":
            return data[:at] + bytes((data[at] ^ draw(st.integers(1, 255)),)) + data[at + 1 :] if at < len(data) else data
        case _:
            return data + data[:at]


def anything(valid: Sequence[Any], write: Callable[[Any], str] = as_json) -> st.SearchStrategy[bytes]:
    """Mostly damaged documents, sometimes plain bytes."""
    broken = damaged(valid, write)
    return st.one_of(broken, broken, broken, st.binary(max_size=60))
