"""The effective configuration, key by key, and where each value comes from; and the JSON schema of the file. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from typing import Any

import msgspec
from msgspec import Struct

from proxypool.core.config import Config
from proxypool.core.config_file import PER_SUBNET
from proxypool.core.config_lines import line_of, lines_of
from proxypool.core.documents import to_builtins
from proxypool.core.redaction import redacted

DEFAULT = "default"
TABLES = "provider.tables."
"""How the type says `[provider.<name>]`."""


class Setting(Struct, frozen=True, kw_only=True):
    """A key that has a value."""

    key: str
    value: Any
    source: str
    """`default`, `FILE line N`, `environment NAME` or `option --NAME`."""


def settings_of(config: Config, text: str, file: str, overrides: Mapping[str, str]) -> tuple[Setting, ...]:
    """Every key of the sections that are there, without secrets.

    Args:
        config: what is in force.
        text: of the file; empty: there is none.
        file: its name.
        overrides: key -> what came before the file, as `option --pool`.
    """
    lines = lines_of(text)
    given = {key.replace(TABLES, "provider.") for key, _ in _leaves(tomllib.loads(text), "")}
    found = []
    for key, value in _leaves(redacted(to_builtins(config)), ""):
        name = key.replace(TABLES, "provider.")
        if f"{key}." == TABLES:
            # There is no table of a provider.
            continue
        source = overrides.get(name, "")
        if not source:
            line = line_of(lines, name) if any(_is_within(one, name) for one in given) else None
            source = DEFAULT if line is None else f"{file} line {line}"
        found.append(Setting(key=name, value=value, source=source))
    return tuple(found)


def _is_within(given: str, name: str) -> bool:
    return given == name or given.startswith(f"{name}.")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys. Lists are values; so are empty tables, and what is not set."""
    for key, item in value.items():
        at = f"{name}.{key}" if name else str(key)
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, at)
        elif not (item is None and not name):
            # A section that is not there is no key.
            yield at, item


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the file, for editors: names, kinds, ranges, choices and defaults."""

    def network(kind: type) -> dict[str, Any]:
        if kind is IPv4Network:
            return {"type": "string", "description": "An IPv4 network: 10.0.0.0/8."}
        raise NotImplementedError(kind)

    found = msgspec.json.schema(Config, schema_hook=network)
    definitions = found["$defs"]
    provider = definitions["ProviderConfig"]
    # In the file the tables stand beside the name.
    provider["properties"] = {"name": provider["properties"]["name"]}
    provider["additionalProperties"] = {"type": "object"}
    for key in PER_SUBNET:
        definitions["Parameters"]["properties"].pop(key, None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_portable(definitions.pop("Config")),
        "title": "proxypool.toml",
        "$defs": _portable(definitions),
    }


def _portable(value: Any) -> Any:
    """Patterns as every language reads them: only some know the end of a text as Python writes it."""
    if isinstance(value, Mapping):
        return {key: item.replace(r"\Z", "$") if key == "pattern" else _portable(item) for key, item in value.items()}
    return [_portable(item) for item in value] if isinstance(value, list | tuple) else to_builtins(value)
