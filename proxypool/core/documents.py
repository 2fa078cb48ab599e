"""JSON codec of the documents, made so that versions of proxypool can mix.

Fields that this version does not know survive a read-modify-write, at every level. A document of a later major version
means something else: it is neither read nor written, and whoever tries is told to upgrade.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, TypeVar

import msgspec

from proxypool.core.errors import InvalidInput

API_VERSION = "proxypool/v1"
"""Of every document that is printed or served."""
VERSION = 1
"""The major version of documents in ZooKeeper that this program reads and writes: their field `v`. What only adds
fields is no new one. A field that is removed, or means something else, or another value of a closed list is.
"""
T = TypeVar("T", bound=msgspec.Struct)
_TEXT_TYPES = (IPv4Address, IPv4Interface, IPv4Network)


class DocumentTooNew(InvalidInput):
    """A document of a later major version: it is left alone."""

    def __init__(self, what: str, version: int) -> None:
        super().__init__(
            f"{what} was written by a later proxypool (version {version} of documents, this one knows {VERSION}): "
            "it is left as it is; upgrade this machine"
        )


class _Versioned(msgspec.Struct):
    v: int = 0


def _encode_hook(value: object) -> str:
    if isinstance(value, _TEXT_TYPES):
        return str(value)
    raise NotImplementedError(f"no JSON form for {type(value).__name__}")


def decode_hook(kind: type, value: object) -> object:
    """For msgspec: addresses and networks from text."""
    if kind not in _TEXT_TYPES:
        raise NotImplementedError(f"no {kind.__name__} from JSON")
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")  # noqa: TRY004 - msgspec adds where it was
    return kind(value)


def decode(data: bytes, kind: type[T], *, what: str) -> T:
    """Parse a document.

    Raises:
        InvalidInput: not JSON, a field is missing or of the wrong type; the message names `what` and the field.
        DocumentTooNew: it is of a later major version.
    """
    try:
        found = msgspec.json.decode(data, type=kind, dec_hook=decode_hook)
    except (ValueError, RecursionError) as error:
        require_known(data, what=what)
        raise InvalidInput(f"{what} is not a valid {kind.__name__}: {error}") from error
    if getattr(found, "v", 0) > VERSION:
        require_known(data, what=what)
    return found


def require_known(data: bytes, *, what: str) -> None:
    """Refuse a document of a later major version. What is no document at all passes: it holds nothing to be lost.

    Raises:
        DocumentTooNew: it is.
    """
    try:
        version = msgspec.json.decode(data, type=_Versioned).v
    except (ValueError, RecursionError):
        return
    if version > VERSION:
        raise DocumentTooNew(what, version)


def encode(document: msgspec.Struct, previous: bytes | None = None, *, what: str = "the document") -> bytes:
    """JSON of a document; fields of `previous` that this version does not know are kept.

    Raises:
        DocumentTooNew: `previous` is of a later major version; `what` it is, for the message.
    """
    known: dict[str, Any] = msgspec.to_builtins(document, enc_hook=_encode_hook)
    if previous:
        require_known(previous, what=what)
        try:
            old = msgspec.json.decode(previous)
        except (ValueError, RecursionError):
            old = {}
        known = _with_unknown(document, known, old)
    return msgspec.json.encode(known)


def _with_unknown(document: msgspec.Struct, known: dict[str, Any], old: object) -> dict[str, Any]:
    """Also of documents in it, such as a subnet's `scaling` and a pair's members; keys of mappings are no fields."""
    if not isinstance(old, dict):
        return known
    for field, name in zip(document.__struct_fields__, document.__struct_encode_fields__, strict=True):
        if name in known:
            known[name] = _part_with_unknown(getattr(document, field), known[name], old.get(name))
    return {**{key: value for key, value in old.items() if key not in known}, **known}


def _part_with_unknown(part: object, known: Any, old: object) -> Any:
    match part:
        case msgspec.Struct():
            return _with_unknown(part, known, old)
        case dict() if isinstance(old, dict):
            return {
                key: _part_with_unknown(value, known[key], old[key]) if key in known and key in old else known[key]
                for key, value in zip(known, part.values(), strict=True)
            }
        case tuple() | list() if isinstance(old, list) and any(isinstance(one, msgspec.Struct) for one in part):
            rest = [one for one in old if isinstance(one, dict)]
            return [_item_with_unknown(one, item, rest) for one, item in zip(part, known, strict=True)]
        case _:
            return known


def _item_with_unknown(part: object, known: Any, rest: list[dict[str, Any]]) -> Any:
    """Of a list, which has no keys: what says the same in its first field was the same thing, such as a member of one
    node; of several the one that is most like it. Each is taken once.
    """
    if not isinstance(part, msgspec.Struct) or not isinstance(known, dict):
        return known
    names: Sequence[str] = part.__struct_encode_fields__
    same = [one for one in rest if one.get(names[0]) == known[names[0]]]
    if not same:
        return known
    old = max(same, key=lambda one: sum(one.get(name) == known[name] for name in names))
    rest.remove(old)
    return _with_unknown(part, known, old)


def to_builtins(value: object) -> Any:
    """Plain dicts, lists and strings of any of our structs, for output."""
    return msgspec.to_builtins(value, enc_hook=_encode_hook, str_keys=True)
