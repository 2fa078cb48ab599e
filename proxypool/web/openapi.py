"""The API's own description, OpenAPI 3.1, made of the types that are served. Pure.

`python -m proxypool.web.openapi > docs/reference/openapi.json` writes it.
"""

from __future__ import annotations

import functools
import json
import sys
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import msgspec

from proxypool.core.discovery import Group
from proxypool.core.history import RecordList
from proxypool.core.scaling.overview import ScaleStatus
from proxypool.core.status import PoolStatus
from proxypool.core.topology import Topology

_SUBNET = ("subnet", "Only this subnet, and the machines it uses.", {"type": "string"})
_DOCUMENTS: tuple[tuple[str, type[Any], str, tuple[tuple[str, str, dict[str, Any]], ...]], ...] = (
    ("/api/v1/status", PoolStatus, "How the pool is; as `proxypool status -o json`.", (_SUBNET,)),
    (
        "/api/v1/history",
        RecordList,
        "What happened lately, the newest last; as `proxypool history -o json`. A node knows its own pairs only.",
        (
            _SUBNET,
            ("pair", "Only this pair.", {"type": "string"}),
            (
                "kind",
                "`failover`, `switchover`, `start`, `scale-out`, …, or `size` for all that the controller writes.",
                {"type": "string"},
            ),
            ("limit", "The newest so many.", {"type": "integer", "minimum": 1}),
        ),
    ),
    ("/api/v1/topology", Topology, "The way of packets; as `proxypool topology -o json`.", (_SUBNET,)),
    (
        "/api/v1/scaling",
        ScaleStatus,
        "How large subnets are to be; as `scale status -o json`. Controllers only.",
        (_SUBNET,),
    ),
    ("/api/v1/prometheus/targets", list[Group], "Whom Prometheus is to scrape, for its `http_sd_configs`.", ()),
)
_PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457). `code` is stable.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "examples": ["invalid", "token", "not-ready"]},
    },
}
_FAILURES = {
    "400": "The query is not understood, or there is no such subnet.",
    "401": "The token is missing or wrong.",
    "503": "Nothing is known yet.",
}
_FORMATS = {IPv4Address: "ipv4", IPv4Interface: "ipv4-interface", IPv4Network: "ipv4-network"}


@functools.cache
def openapi() -> dict[str, Any]:
    """The document."""
    kinds = [kind for _, kind, _, _ in _DOCUMENTS]
    shapes, components = msgspec.json.schema_components(
        kinds, schema_hook=_text_form, ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        _complete(component)
    paths = {
        path: _path(about, shape, parameters)
        for (path, _, about, parameters), shape in zip(_DOCUMENTS, shapes, strict=True)
    }
    paths |= {
        "/healthz": _probe("Whether the daemon's main loop goes round. Needs no token."),
        "/readyz": _probe("Whether the daemon does its work: connected, and all read. Needs no token."),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "proxypool",
            "version": "1",
            "description": "What a controller knows of its pool, and a node of its own pairs. Read-only. Every answer "
            "has the header Age: so many seconds old is what it says.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The token as the password of any user."},
            },
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
    }


def _path(about: str, shape: dict[str, Any], parameters: tuple[tuple[str, str, dict[str, Any]], ...]) -> dict[str, Any]:
    failure = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses: dict[str, Any] = {
        "200": {"description": "It.", "content": {"application/json": {"schema": shape}}},
        **{status: {"description": why, "content": failure} for status, why in _FAILURES.items()},
    }
    found: dict[str, Any] = {"summary": about, "responses": responses}
    if parameters:
        found["parameters"] = [
            {"name": name, "in": "query", "description": what, "schema": schema} for name, what, schema in parameters
        ]
    return {"get": found}


def _probe(about: str) -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    responses = {"200": {"description": "`ok`", "content": text}, "503": {"description": "Why not.", "content": text}}
    return {"get": {"summary": about, "security": [{}], "responses": responses}}


def _complete(component: dict[str, Any]) -> None:
    """Whatever is served has all its fields, also those that may be left out when a document is read."""
    properties = component.get("properties")
    if properties is None:
        return
    for name, shape in properties.items():
        default = shape.pop("default", None)
        if name in {"apiVersion", "kind"} and default is not None:
            shape["const"] = default
    component["required"] = list(properties)


def _text_form(kind: type) -> dict[str, Any]:
    if kind not in _FORMATS:
        raise NotImplementedError(f"no JSON form for {kind.__name__}")
    return {"type": "string", "format": _FORMATS[kind]}


def text() -> str:
    """The document as it is checked in."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
