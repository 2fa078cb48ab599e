"""Whatever is in ZooKeeper, in a file or in the fifo: bad input is an InvalidInput and never ends a daemon."""

from __future__ import annotations

import contextlib
import json
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.config_file import parse
from proxypool.core.documents import decode, encode
from proxypool.core.endpoints import parse_endpoint
from proxypool.core.errors import InvalidInput
from proxypool.core.keepalived import instance_name, parse_notification
from proxypool.core.model import Document, HostSpec, MemberStatus, NodeSpec, PairSpec, PoolSpec, SubnetSpec
from proxypool.core.role import Vrrp
from proxypool.core.validation import require_name
from tests.property.effort import effort

KINDS = (PoolSpec, SubnetSpec, PairSpec, NodeSpec, HostSpec, MemberStatus)
FIELDS = sorted({name for kind in KINDS for name in kind.__struct_fields__})
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(("192.168.4.1", "10.0.0.0/8", "10.0.0.1/8", "gre", "s1", "active")),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)),
    max_leaves=8,
)
names = st.from_regex(r"\A[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?\Z")


@given(st.one_of(st.binary(max_size=40), values.map(lambda value: json.dumps(value).encode())))
@effort(60)
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    for kind in KINDS:
        with contextlib.suppress(InvalidInput):
            assert isinstance(decode(data, kind, what="it"), kind)


@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=10))
@effort(100)
def test_any_fields_are_a_document_or_refused(fields: dict[str, object]) -> None:
    data = json.dumps(fields).encode()
    for kind in KINDS:
        try:
            document: Document = decode(data, kind, what="it")
        except InvalidInput:
            continue
        assert decode(encode(document), kind, what="it") == document


@given(st.dictionaries(st.text(max_size=6), values, max_size=6))
@effort(60)
def test_unknown_fields_survive_and_known_ones_are_the_new_documents(unknown: dict[str, object]) -> None:
    node = NodeSpec(id="n1", underlay=IPv4Address("192.168.4.1"))
    previous = json.dumps(unknown).encode()
    written = json.loads(encode(node, previous))
    expected = json.loads(previous) | json.loads(encode(node))
    assert json.dumps(written, sort_keys=True) == json.dumps(expected, sort_keys=True)


toml_values = st.one_of(
    st.integers(-10, 100000).map(str),
    st.sampled_from(('"x"', "true", "[]", '["a:1"]', '"10.0.0.0/8"', '["10.0.0.0/8"]', "1.5", "{}", "[5]")),
)
toml_keys = st.sampled_from(
    ("underlay", "name", "hosts", "listen", "instance_cidrs", "level", "subnets", "labels", "x")
)
toml_lines = st.one_of(
    st.sampled_from(("[node]", "[host]", "[zookeeper]", "[metrics]", "[log]", "[node.labels]")),
    st.tuples(toml_keys, toml_values).map(" = ".join),
)


@given(st.one_of(st.text(max_size=60), st.lists(toml_lines, max_size=8).map("\n".join)))
@effort(100)
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        parse(text, what="proxypool.toml")


@given(st.text(max_size=12))
@effort(100)
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        host, port = parse_endpoint(text, what="it")
        assert host
        assert 1 <= port <= 65535


@given(st.text(max_size=30), names, names, st.sampled_from(Vrrp))
@effort(60)
def test_any_line_of_the_fifo_is_understood_or_passed_over(text: str, subnet: str, pair: str, state: Vrrp) -> None:
    parse_notification(text)
    line = f'INSTANCE "{instance_name(subnet, pair)}" {state.value.upper()} 200'
    assert parse_notification(line) == (subnet, pair, state)


@given(st.text(max_size=12))
@effort(100)
def test_the_codec_and_the_commands_accept_the_same_names(name: str) -> None:
    data = json.dumps({"id": name, "underlay": "192.168.4.1"}).encode()
    try:
        require_name("node", name)
    except InvalidInput:
        with pytest.raises(InvalidInput):
            decode(data, NodeSpec, what="it")
    else:
        decode(data, NodeSpec, what="it")
