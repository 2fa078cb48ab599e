"""The JSON codec: what another version wrote survives, and what cannot be read is an InvalidInput that says where."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

import msgspec
import pytest

from proxypool.core.documents import DocumentTooNew, decode, encode, require_known, to_builtins
from proxypool.core.errors import InvalidInput
from proxypool.core.model import NodeSpec, PairSpec, PairState, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.scaling.documents import Spares
from proxypool.core.scaling.model import ScalingSpec
from tests.unit import builders as make

NODE = NodeSpec(id="n1", underlay=IPv4Address("192.168.4.1"), labels={"zone": "a"})


@pytest.mark.parametrize("document", [NODE, make.subnet(), make.pair(egress="172.16.101.20"), make.host(), make.VXLAN])
def test_a_document_comes_back_as_it_was_written(document: NodeSpec | SubnetSpec | PairSpec | PoolSpec) -> None:
    assert decode(encode(document), type(document), what="it") == document


def test_addresses_and_networks_are_written_as_text() -> None:
    written = json.loads(encode(make.pair()))
    assert written["havip"] == "192.168.4.100"
    assert written["members"][0]["address"] == "172.16.101.11/24"
    assert written["egress_address"] is None
    assert written["state"] == "active"


def test_a_version_is_always_written() -> None:
    assert json.loads(encode(NODE))["v"] == 1


def test_fields_that_this_version_does_not_know_are_read_over() -> None:
    data = b'{"v":1,"id":"n1","underlay":"192.168.4.1","rack":"r9"}'
    assert decode(data, NodeSpec, what="node n1").id == "n1"


@pytest.mark.parametrize(
    "data",
    [
        b'{"v":2,"id":"n1","underlay":"192.168.4.1"}',
        b'{"v":2,"name":"n1","addresses":["192.168.4.1"]}',
        b'{"v":2,"id":7,"underlay":{"v4":"192.168.4.1"}}',
    ],
)
def test_a_document_of_a_later_version_is_neither_read_nor_written(data: bytes) -> None:
    """Also one that this version might take for its own: it may mean something else."""
    with pytest.raises(DocumentTooNew, match=r"nodes/n1 was written by a later proxypool .*upgrade this machine"):
        decode(data, NodeSpec, what="nodes/n1")
    with pytest.raises(DocumentTooNew, match="nodes/n1"):
        encode(NODE, data, what="nodes/n1")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"v2"', b'{"v":"two"}', b"[" * 100_000])
def test_what_is_no_document_is_not_taken_for_a_later_one(data: bytes) -> None:
    require_known(data, what="it")
    assert json.loads(encode(NODE, data))["id"] == "n1"
    with pytest.raises(InvalidInput, match="not a valid NodeSpec"):
        decode(data, NodeSpec, what="it")


def test_unknown_fields_of_documents_in_a_list_survive_a_write() -> None:
    """A member is the same where its node is the same; one that has come has none, and one that has gone leaves none."""
    pair = make.pair()
    previous = json.loads(encode(pair))
    for number, member in enumerate(previous["members"]):
        member["numa"] = number
    previous["members"].reverse()
    written = json.loads(encode(pair, json.dumps(previous).encode()))
    assert [(one["node"], one["numa"]) for one in written["members"]] == [
        (pair.members[0].node, 0),
        (pair.members[1].node, 1),
    ]
    other = msgspec.structs.replace(pair.members[1], node="node-z")
    changed = msgspec.structs.replace(pair, members=(pair.members[0], other))
    written = json.loads(encode(changed, json.dumps(previous).encode()))
    assert [one.get("numa") for one in written["members"]] == [0, None]


def test_of_several_cards_of_a_node_each_keeps_its_own_unknown_fields() -> None:
    first = make.pair().members[0]
    cards = [msgspec.structs.replace(first, eni=f"eni{number}") for number in range(3)]
    previous = json.loads(encode(Spares(members=tuple(cards))))
    for number, card in enumerate(previous["members"]):
        card["slot"] = number
    left = Spares(members=(cards[2], cards[0]))
    written = json.loads(encode(left, json.dumps(previous).encode()))
    assert [(card["eni"], card["slot"]) for card in written["members"]] == [("eni2", 2), ("eni0", 0)]


def test_fields_that_this_version_does_not_know_survive_a_write() -> None:
    previous = b'{"id":"n1","underlay":"10.0.0.1","rack":"r9","cost":{"cpu":2}}'
    written = json.loads(encode(NODE, previous))
    assert written["rack"] == "r9"
    assert written["cost"] == {"cpu": 2}
    assert written["underlay"] == "192.168.4.1", "known fields are the new document's"


def test_unknown_fields_of_a_document_in_a_document_survive_a_write() -> None:
    subnet = msgspec.structs.replace(make.subnet(), scaling=ScalingSpec(min_pairs=2))
    previous = b'{"id":"s1","scaling":{"min_pairs":1,"colour":"blue"},"rack":"r9"}'
    written = json.loads(encode(subnet, previous))
    assert (written["scaling"]["min_pairs"], written["scaling"]["colour"], written["rack"]) == (2, "blue", "r9")
    assert json.loads(encode(make.subnet(), previous))["scaling"] is None, "one that was taken away is gone"
    assert json.loads(encode(subnet, b'{"scaling":null}'))["scaling"]["min_pairs"] == 2


def test_a_label_that_was_taken_away_does_not_come_back() -> None:
    previous = b'{"id":"n1","underlay":"192.168.4.1","labels":{"zone":"a","old":"x"}}'
    assert json.loads(encode(NODE, previous))["labels"] == {"zone": "a"}


@pytest.mark.parametrize("previous", [b"", b"not json", b"\xff\xfe", b"[1]", b'"text"', b"null", b"[" * 100_000])
def test_a_previous_document_that_is_no_object_is_replaced(previous: bytes) -> None:
    assert decode(encode(NODE, previous), NodeSpec, what="it") == NODE


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "truncated"),
        (b"[" * 100_000, "Expected"),
        (b"\xff", "malformed"),
        (b"[]", "Expected `object`"),
        (b'{"id":"n1"}', "missing required field `underlay`"),
        (b'{"id":"n1","underlay":"192.168.4"}', r"\$\.underlay"),
        (b'{"id":"n1","underlay":5}', r"Expected `str`, got `int` - at `\$\.underlay`"),
        (b'{"id":"n1","underlay":null}', r"\$\.underlay"),
        (b'{"id":"N1","underlay":"192.168.4.1"}', r"\$\.id"),
        (b'{"id":"n1\\n","underlay":"192.168.4.1"}', r"\$\.id"),
    ],
)
def test_a_document_that_cannot_be_read_is_named_with_the_place(data: bytes, where: str) -> None:
    with pytest.raises(InvalidInput, match=where) as caught:
        decode(data, NodeSpec, what="node n1")
    assert str(caught.value).startswith("node n1 is not a valid NodeSpec: ")


@pytest.mark.parametrize("field", [b'"key":0', b'"key":16777216', b'"cidrs":["172.16.101.5/24"]', b'"cidrs":"all"'])
def test_values_out_of_range_are_refused(field: bytes) -> None:
    rest = {b"key": b'"key":1', b"cidrs": b'"cidrs":["172.16.101.0/24"]'}
    name = field.split(b'"')[1]
    rest[name] = field
    with pytest.raises(InvalidInput):
        decode(b'{"id":"s1",' + b",".join(rest.values()) + b"}", SubnetSpec, what="subnet s1")


@pytest.mark.parametrize("vrid", [0, 256])
def test_a_vrid_that_vrrp_does_not_have_is_refused(vrid: int) -> None:
    data = encode(make.pair()).replace(b'"vrid":1', f'"vrid":{vrid}'.encode())
    with pytest.raises(InvalidInput, match=r"\$\.vrid"):
        decode(data, PairSpec, what="pair p1")


def test_builtins_are_plain_values_for_output() -> None:
    plain = to_builtins(make.snapshot(pairs=[make.pair(state=PairState.DRAINING)]))
    assert plain["pairs"]["s1"]["p1"]["havip"] == "192.168.4.100"
    assert plain["pairs"]["s1"]["p1"]["state"] == "draining"
    assert to_builtins(Snapshot())["spec"] is None


def test_what_has_no_json_form_is_a_defect_and_not_bad_input() -> None:
    with pytest.raises(NotImplementedError, match="no JSON form for object"):
        to_builtins(object())
