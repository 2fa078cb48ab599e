"""What an HTTP request asks and gets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

HTML, JSON, PROBLEM, TEXT = "text/html; charset=utf-8", "application/json", "application/problem+json", "text/plain"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: str
    path: str
    query: str = ""
    host: str = ""
    """By which name or address the asker reached us, without the port."""
    authorization: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, content type, body and more headers."""

    status: int
    body: bytes
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """A problem document (RFC 9457) with a stable `code`."""
    body = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail, "code": code}
    return Answer(status, msgspec.json.encode(body), PROBLEM, headers or {})
