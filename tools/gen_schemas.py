# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/schemas/ from the types of the documents: `python tools/gen_schemas.py`.

`tests/unit/test_schemas.py` fails when a file is stale. Descriptions are the texts below the fields in the source.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.core.documents import API_VERSION  # noqa: E402 - the checkout must be found first
from proxypool.core.kinds import KINDS, Form, Kind  # noqa: E402
from proxypool.lab.kinds import LAB_KINDS  # noqa: E402

ALL = (*KINDS, *LAB_KINDS)
TARGET = ROOT / "docs" / "reference" / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
WITH_PREFIX = r"^[0-9.]+/[0-9]{1,2}$"
_TEXTS: dict[type, dict[str, str]] = {
    IPv4Address: {"type": "string", "format": "ipv4"},
    IPv4Interface: {"type": "string", "pattern": WITH_PREFIX, "description": "Address and prefix length."},
    IPv4Network: {"type": "string", "pattern": WITH_PREFIX, "description": "CIDR."},
}
INDEX = """# JSON schemas

Written by `tools/gen_schemas.py` from `proxypool/core/kinds.py` and `proxypool/lab/kinds.py`; do not edit. JSON
Schema 2020-12.

`-o json` and `-o yaml` print a document with `apiVersion` and `kind`. Within a version, fields are added, and none is
renamed, removed, or changes its meaning: ignore what you do not know. Every field that is required is always there;
`null` is "not known" or "there is none", as its description says. Times are seconds since the epoch, lengths of time
seconds, unless a name ends in another unit. With `-w`, and by `events`, JSON comes as one document per line.

`proxypool lab` is for development: the fields of its documents may change.

| kind | printed by `proxypool …` |
| --- | --- |
"""


def render() -> dict[str, str]:
    """Name of a file -> its text."""
    texts = {package: _field_texts(package) for package in ("core", "lab")}
    files = {f"{kind.name}.json": json.dumps(schema(kind, texts[_package(kind)]), indent=2) + "\n" for kind in ALL}
    rows = [f"| [{kind.name}]({kind.name}.json) | `{'`, `'.join(kind.commands.split(', '))}` |\n" for kind in ALL]
    return {**files, "README.md": INDEX + "".join(rows)}


def schema(kind: Kind, texts: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The schema of one kind."""
    (content,), definitions = msgspec.json.schema_components([kind.content], schema_hook=_text_form)
    name = content["$ref"].rpartition("/")[2]
    for each, definition in definitions.items():
        _complete(definition, texts.get(each, {}))
    head = {"apiVersion": {"const": API_VERSION}, "kind": {"const": kind.name}}
    if kind.form is Form.LIST:
        body: dict[str, Any] = {"properties": {"items": {"type": "array", "items": content}}, "required": ["items"]}
        about = f"A list of {name}."
    else:
        body = definitions.pop(name)
        about = str(body.get("description", ""))
    properties: dict[str, Any] = body["properties"]
    required = [*head, *(field for field in body["required"] if field not in head)]
    return {
        "$schema": DRAFT,
        "$id": f"{API_VERSION}/{kind.name}",
        "title": kind.name,
        "description": about,
        "type": "object",
        "properties": {**properties, **head},
        "required": required,
        "$defs": definitions,
    }


def _text_form(kind: type) -> dict[str, str]:
    return dict(_TEXTS[kind])


def _complete(definition: dict[str, Any], texts: dict[str, str]) -> None:
    """Whatever is printed has all its fields, also those that may be left out when it is read."""
    properties = definition.get("properties")
    if properties is None:
        return
    for field, shape in properties.items():
        if field in texts:
            shape["description"] = texts[field]
    asked_for = frozenset(definition.get("required", ()))
    # What has neither a default nor must be there is one of msgspec's UNSET: it is left out when it does not apply.
    written = {field for field, shape in properties.items() if field in asked_for or "default" in shape}
    for shape in properties.values():
        shape.pop("default", None)
    definition["required"] = [field for field in properties if field in written]


def _package(kind: Kind) -> str:
    """Of `proxypool`, in which its content and all that is in it are."""
    return kind.content.__module__.split(".")[1]


def _field_texts(package: str) -> dict[str, dict[str, str]]:
    """Class -> field -> the text below it, of all classes of a package."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((ROOT / "proxypool" / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, {}).update(_texts_of(node))
    return found


def _texts_of(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
            texts[field.target.id] = _as_json(ast.literal_eval(text.value))  # type: ignore[attr-defined]
    return texts


def _as_json(text: str) -> str:
    """A description, in one line; what Python calls None is null."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    files = render()
    for stale in {path.name for path in TARGET.iterdir()} - set(files):
        (TARGET / stale).unlink()
    for name, text in files.items():
        (TARGET / name).write_text(text)
