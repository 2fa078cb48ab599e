"""JSON codec of the documents. Unknown fields survive a read-modify-write, so that versions of proxypool can mix."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, TypeVar

import msgspec

from proxypool.core.errors import InvalidInput

API_VERSION = "proxypool/v1"
"""Of every document that is printed or served."""
T = TypeVar("T", bound=msgspec.Struct)
_TEXT_TYPES = (IPv4Address, IPv4Interface, IPv4Network)


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
    """
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=decode_hook)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not a valid {kind.__name__}: {error}") from error


def encode(document: msgspec.Struct, previous: bytes | None = None) -> bytes:
    """JSON of a document; fields of `previous` that this version does not know are kept."""
    known: dict[str, Any] = msgspec.to_builtins(document, enc_hook=_encode_hook)
    if previous:
        try:
            old = msgspec.json.decode(previous)
        except (ValueError, RecursionError):
            old = {}
        known = _with_unknown(document, known, old)
    return msgspec.json.encode(known)


def _with_unknown(document: msgspec.Struct, known: dict[str, Any], old: object) -> dict[str, Any]:
    """Also of documents in it, such as a subnet's `scaling`; keys of mappings are no fields."""
    if not isinstance(old, dict):
        return known
    for field, name in zip(document.__struct_fields__, document.__struct_encode_fields__, strict=True):
        part = getattr(document, field)
        if isinstance(part, msgspec.Struct) and name in known:
            known[name] = _with_unknown(part, known[name], old.get(name))
    return {**{key: value for key, value in old.items() if key not in known}, **known}


def to_builtins(value: object) -> Any:
    """Plain dicts, lists and strings of any of our structs, for output."""
    return msgspec.to_builtins(value, enc_hook=_encode_hook, str_keys=True)
