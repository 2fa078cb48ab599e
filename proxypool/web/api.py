"""The documents behind the page, as JSON: which there are, and what of them a query asks for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl

import msgspec

from proxypool.core.documents import to_builtins
from proxypool.core.errors import InvalidInput
from proxypool.core.history import Record, RecordList
from proxypool.core.scaling.overview import only_managed
from proxypool.core.status import of_subnet
from proxypool.core.topology import topology
from proxypool.web.answers import Answer, Request, problem
from proxypool.web.page import Documents

ROOT = "/api/v1"
MAX_QUERY = 500
"""Characters."""
_MOST = 6
"""Digits of a number in a query."""


def query_of(request: Request, *known: str) -> Mapping[str, str]:
    """The parameters of a request.

    Raises:
        InvalidInput: one of them is not known.
    """
    if len(request.query) > MAX_QUERY:
        raise InvalidInput(f"the query is longer than {MAX_QUERY} characters")
    found = dict(parse_qsl(request.query, keep_blank_values=True, errors="replace"))
    for name in found:
        if name not in known:
            raise InvalidInput(f"unknown parameter {name!r}; there are {', '.join(known)}")
    return found


def narrowed(found: Documents, query: Mapping[str, str]) -> Documents:
    """The documents, or what they say of the one subnet that a query names.

    Raises:
        InvalidInput: there is no such subnet.
    """
    subnet = query.get("subnet")
    if subnet is None:
        return found
    status = of_subnet(found.status, subnet)
    if status is None:
        raise InvalidInput(f"there is no subnet {subnet!r}")
    scaling = found.scaling
    if scaling is not None:
        scaling = msgspec.structs.replace(scaling, subnets=tuple(one for one in scaling.subnets if one.id == subnet))
    items = tuple(one for one in found.history.items if one.subnet == subnet)
    return Documents(status, RecordList(items=items), topology(status), scaling)


def _status(request: Request, found: Documents) -> Answer:
    return _document(narrowed(found, query_of(request, "subnet")).status)


def _topology(request: Request, found: Documents) -> Answer:
    return _document(narrowed(found, query_of(request, "subnet")).topology)


def _scaling(request: Request, found: Documents) -> Answer:
    query = query_of(request, "subnet")
    scaling = narrowed(found, query).scaling
    if scaling is None:
        detail = "a node knows nothing of the size of subnets: ask a controller"
        return problem(HTTPStatus.NOT_FOUND, "no-such-resource", detail)
    return _document(scaling if "subnet" in query else only_managed(scaling))


def _history(request: Request, found: Documents) -> Answer:
    query = query_of(request, "subnet", "pair", "kind", "limit")
    items = [
        one
        for one in narrowed(found, query).history.items
        if query.get("pair", one.pair) == one.pair and _is_of_kind(one, query.get("kind"))
    ]
    limit = query.get("limit")
    return _document(RecordList(items=tuple(items if limit is None else items[-_number(limit) :])))


def _is_of_kind(record: Record, kind: str | None) -> bool:
    """`size`: a change of size; else a kind's own name."""
    return kind in {None, record.kind} or (kind == "size" and record.is_scaling)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST and int(text)):
        raise InvalidInput(f"limit {text!r} is not a number from 1 on")
    return int(text)


def _document(document: msgspec.Struct) -> Answer:
    return Answer(HTTPStatus.OK, msgspec.json.encode(to_builtins(document)))


DOCUMENTS: Mapping[str, Callable[[Request, Documents], Answer]] = {
    f"{ROOT}/status": _status,
    f"{ROOT}/history": _history,
    f"{ROOT}/topology": _topology,
    f"{ROOT}/scaling": _scaling,
}
"""By path."""
