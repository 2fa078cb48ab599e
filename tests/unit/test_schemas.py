"""docs/reference/schemas/ is what is printed."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from proxypool.cli.output import single
from proxypool.core.assembly import assemble
from proxypool.core.documents import API_VERSION
from proxypool.core.kinds import AttachmentItem, Kind
from proxypool.core.topology import topology
from tests.unit.documents import SCHEMAS, printed, read_schema, require_valid
from tests.unit.test_status import BACKUP, MASTER, NOW, view
from tools.gen_schemas import ALL, render


def test_the_schemas_are_not_stale() -> None:
    found = {path.name: path.read_text() for path in SCHEMAS.iterdir()}
    assert found == render(), "write them again: python tools/gen_schemas.py"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_a_schema_is_one_and_names_its_version_and_kind(kind: Kind) -> None:
    schema = read_schema(kind.name)
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["apiVersion"] == {"const": API_VERSION}
    assert schema["properties"]["kind"] == {"const": kind.name}
    assert {"apiVersion", "kind"} <= set(schema["required"])
    assert schema["description"]


def test_every_kind_is_there_once() -> None:
    names = [kind.name for kind in ALL]
    assert len(set(names)) == len(names)


def test_documents_of_a_pool_are_as_their_schemas_say() -> None:
    status = assemble(view(MASTER, BACKUP), NOW)
    for document in (status, topology(status), single("Node", status.nodes[0])):
        require_valid(printed(document))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"level": "fine"}, "level: 'fine' is not one of"),
        ({"pool": None}, "pool: None is not of type 'string'"),
        ({"apiVersion": "proxypool/v2"}, "apiVersion: 'proxypool/v1' was expected"),
        ({"surprise": 1}, "'surprise' was unexpected"),
        ({"tunnel_range": "100.64.0.0"}, "tunnel_range"),
    ],
)
def test_what_is_not_as_its_schema_says_is_found(change: dict[str, object], complaint: str) -> None:
    """So that the tests that call `require_valid` can fail."""
    document = printed(assemble(view(MASTER, BACKUP), NOW)) | change
    with pytest.raises(AssertionError, match=complaint):
        require_valid(document)


def test_a_field_that_is_missing_is_found() -> None:
    document = printed(assemble(view(MASTER, BACKUP), NOW))
    del document["subnets"][0]["pairs"][0]["members"][1]["gate"]
    with pytest.raises(AssertionError, match="subnets/0/pairs/0/members/1: 'gate' is a required property"):
        require_valid(document)


def test_descriptions_come_from_the_source() -> None:
    """And say null where Python says None."""
    schema = read_schema("AttachmentList")["$defs"][AttachmentItem.__name__]
    assert schema["properties"]["subnet"]["description"].startswith("null: of a detachment")
    assert schema["required"] == ["address", "subnet"]
