"""Documents that the command line prints, held against their checked-in JSON schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from proxypool.cli.output import to_json

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


def read_schema(kind: str) -> dict[str, Any]:
    """As it is checked in."""
    found: dict[str, Any] = json.loads((SCHEMAS / f"{kind}.json").read_text())
    return found


def sealed(schema: Any) -> Any:
    """The schema, without room for fields that it does not name: what is printed must be described."""
    if isinstance(schema, list):
        return [sealed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: sealed(value) for key, value in schema.items()}
    if "properties" in closed and "type" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def printed(document: Any) -> dict[str, Any]:
    """What `-o json` prints of a document, read again."""
    found: dict[str, Any] = json.loads(to_json(document))
    return found


def require_valid(document: dict[str, Any]) -> None:
    """Raises unless its kind has a schema, and the document is as the schema says and has no field more.

    Raises:
        AssertionError: what is wrong, and where.
    """
    schema = sealed(read_schema(document["kind"]))
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    found = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator.iter_errors(document)
    ]
    assert found == [], found
