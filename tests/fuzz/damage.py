"""Valid documents with something wrong in them: what hypothesis draws for every door that takes JSON or TOML.

A value is exchanged for one of another kind, a key is left out, repeated or unknown, a number is larger than any, a list
is nested a thousand deep; then bytes are cut off, put in between, or are no UTF-8. Everything else stays as it was, so
that what looks at the rest is reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

Step = tuple[list[Any], int]
"""A place: the list that holds it, and where."""


class Token(str):
    """Text that stands in a document as it is, be it JSON or not."""

    __slots__ = ()


DEEP = 3000
"""More than Python's parsers go."""
CUT = 0.2
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
    *(
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\u0000"',
        '"\\x"',
        '"unterminated',
        "[]",
        "{}",
        "[[]]",
        '{"": null}',
        "[1, 2",
    ),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * DEEP),
)
BYTES = (
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\n",
    b"}",
    b"]",
    b'"',
    b",",
    b"\\",
    b"\x1b[2J",
)

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
def damaged(draw: st.DrawFn, valid: Sequence[Any], write: Callable[[Any], str] = as_json, most: int = 3) -> bytes:
    """Bytes of one of these values, with up to so many things wrong in it; sometimes with none.

    What is wrong comes of a number: drawing each step costs ten times as much as reading the document, and what fails is
    small anyway.
    """
    count, number = draw(st.integers(0, most)), draw(st.integers(0, 2**32 - 1))
    chance = Random(number)
    document = pairs_of(chance.choice(valid))
    for _ in range(count):
        _harm(chance, document)
    data = write(document).encode("utf-8", "surrogatepass")
    return _cut(chance, data) if count and chance.random() < CUT else data


def _odd(chance: Random) -> Any:
    """A value that should not be where it is put."""
    what = chance.random()
    if what < 0.35:
        return Token(chance.choice(NUMBERS))
    if what < 0.65:
        return chance.choice(TEXTS)
    if what < 0.9:
        return Token(chance.choice(TOKENS))
    return "".join(
        chr(chance.choice((chance.randrange(128), chance.randrange(0xD800)))) for _ in range(chance.randrange(9))
    )


def _harm(chance: Random, document: Any) -> None:
    tables = list(mappings(document))
    filled = [table for table in tables if table]
    found = list(places(document))
    what = chance.choice(("value", "value", "value", "value", "key", "gone", "twice", "more"))
    if what in {"value", "key"} and found:
        keys = {id(pair) for table in tables for pair in table}
        wanted = [(holder, at) for holder, at in found if (at == 0 and id(holder) in keys) is (what == "key")]
        holder, at = chance.choice(wanted or found)
        holder[at] = _odd(chance)
    elif what == "gone" and filled:
        table = chance.choice(filled)
        del table[chance.randrange(len(table))]
    elif what == "twice" and filled:
        table = chance.choice(filled)
        table.append([chance.choice(table)[0], _odd(chance)])
    elif tables:
        chance.choice(tables).append([chance.choice(("v", "unknown", "", "__class__")), _odd(chance)])


def _cut(chance: Random, data: bytes) -> bytes:
    """Bytes in which something is missing, or too much."""
    at = chance.randrange(len(data) + 1)
    match chance.choice(("cut", "put", "turn", "double")):
        case "cut":
            return data[:at]
        case "put":
            return data[:at] + chance.choice(BYTES) + data[at:]
        case "turn":
            return data[:at] + bytes(value ^ chance.randrange(1, 256) for value in data[at : at + 1]) + data[at + 1 :]
        case _:
            return data + data[:at]


def anything(valid: Sequence[Any], write: Callable[[Any], str] = as_json) -> st.SearchStrategy[bytes]:
    """Mostly damaged documents, sometimes plain bytes."""
    broken = damaged(valid, write)
    return st.one_of(broken, broken, broken, st.binary(max_size=60))
