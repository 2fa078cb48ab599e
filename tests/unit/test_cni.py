"""What is understood of a container runtime's call."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any

import pytest

from proxypool.core.cni import Attach, Release, Report, Sweep, Verify, error_object, parse_call
from proxypool.core.cni_config import ANNOTATIONS_CAPABILITY, VERSIONS, CniFailure, Code
from tests.unit import cni_calls as make
from tests.unit.cni_calls import ADDRESS, OWNER, annotated, body, environment


def attach(**members: Any) -> Attach:
    """The ADD that is understood."""
    args = members.pop("CNI_ARGS", "")
    call = parse_call(environment(args=args), body(**members))
    assert isinstance(call, Attach)
    return call


def refusal(command: str, data: bytes, **others: str) -> tuple[Code, str]:
    """Code and sentence of a call that is not accepted."""
    with pytest.raises(CniFailure) as caught:
        parse_call(environment(command, **others), data)
    return caught.value.code, str(caught.value)


def test_an_annotated_pod_is_attached() -> None:
    call = attach(runtimeConfig=annotated("s1"))
    assert (call.owner, call.addresses, call.subnets) == (OWNER, (ADDRESS,), ("s1",))


def test_what_the_plug_in_before_us_answered_is_passed_on_with_what_we_do_not_know() -> None:
    """Only cniVersion is the configuration's; numbers and unknown members stay as they are written."""
    previous = b'{"cniVersion":"0.4.0","ips":[{"address":"10.244.1.2/24"}],"new":{"big":18446744073709551616,"x":1.10}}'
    call = parse_call(
        environment(), b'{"cniVersion":"1.0.0","name":"cbr0","type":"proxypool","prevResult":' + previous + b"}"
    )
    assert isinstance(call, Attach)
    assert call.result == previous.replace(b'"0.4.0"', b'"1.0.0"')


def test_a_result_without_a_version_gets_one() -> None:
    call = attach(prevResult={"ips": [{"address": "10.244.1.2/24"}]})
    assert json.loads(call.result) == {"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.2/24"}]}


WANTED: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("nothing says anything", {}, ()),
    ("annotation", {"runtimeConfig": annotated("s1")}, ("s1",)),
    ("several, spaces, twice the same", {"runtimeConfig": annotated(" s2,s1 , s2,")}, ("s2", "s1")),
    ("another key", {"runtimeConfig": annotated("s1", "example.org/vpc"), "annotation": "example.org/vpc"}, ("s1",)),
    ("a key that is not asked for", {"runtimeConfig": annotated("s1", "example.org/vpc")}, ()),
    ("annotations switched off", {"runtimeConfig": annotated("s1"), "annotation": "", "subnets": ["s2"]}, ("s2",)),
    ("no annotations at all, as Go writes them", {"runtimeConfig": {ANNOTATIONS_CAPABILITY: None}}, ()),
    ("runtimeConfig null", {"runtimeConfig": None}, ()),
    ("args.cni", {"args": {"cni": {"PROXYPOOL_SUBNETS": "s1,s2"}}}, ("s1", "s2")),
    ("args of somebody else", {"args": {"cni": {"ips": ["10.0.0.1"]}, "labels": 5}}, ()),
    ("CNI_ARGS", {"CNI_ARGS": "IgnoreUnknown=1;PROXYPOOL_SUBNETS=s1,s2;K8S_POD_NAME=a"}, ("s1", "s2")),
    ("CNI_ARGS, without ours", {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=a;"}, ()),
    ("default", {"subnets": ["s1"]}, ("s1",)),
    (
        "annotation before args",
        {"runtimeConfig": annotated("s1"), "args": {"cni": {"PROXYPOOL_SUBNETS": "s2"}}},
        ("s1",),
    ),
    (
        "args before CNI_ARGS",
        {"args": {"cni": {"PROXYPOOL_SUBNETS": "s1"}}, "CNI_ARGS": "PROXYPOOL_SUBNETS=s2"},
        ("s1",),
    ),
    ("CNI_ARGS before the default", {"CNI_ARGS": "PROXYPOOL_SUBNETS=s1", "subnets": ["s2"]}, ("s1",)),
    ("an empty annotation is an answer", {"runtimeConfig": annotated(""), "subnets": ["s1"]}, ()),
    ("an empty argument too", {"CNI_ARGS": "PROXYPOOL_SUBNETS=", "subnets": ["s1"]}, ()),
]


@pytest.mark.parametrize(("members", "subnets"), [row[1:] for row in WANTED], ids=[row[0] for row in WANTED])
def test_wanted_subnets(members: dict[str, Any], subnets: tuple[str, ...]) -> None:
    assert attach(**members).subnets == subnets


@pytest.mark.parametrize(
    ("ips", "addresses"),
    [
        (["10.244.1.2/24"], ["10.244.1.2"]),
        (["10.244.1.2"], ["10.244.1.2"]),
        (["fd00::2/64", "10.244.1.2/32"], ["10.244.1.2"]),
        (["10.244.1.2/24", "10.245.1.2/24", "10.244.1.2/24"], ["10.244.1.2", "10.245.1.2"]),
    ],
)
def test_all_ipv4_addresses_are_the_instances(ips: list[str], addresses: list[str]) -> None:
    """Specifications before 1.0 add the IP version, which the address says by itself."""
    call = attach(prevResult={"ips": [{"version": "?", "address": text} for text in ips]})
    assert call.addresses == tuple(map(IPv4Address, addresses))


ADD_REFUSALS: list[tuple[str, dict[str, Any], Code, str]] = [
    ("not chained", {"prevResult": ...}, Code.INVALID_CONFIG, "must be chained"),
    ("an empty result", {"prevResult": {}}, Code.INVALID_CONFIG, "must be chained"),
    ("a result that is none", {"prevResult": [1]}, Code.INVALID_CONFIG, "prevResult: Expected `object`"),
    ("IPv6 only", {"prevResult": {"ips": [{"address": "fd00::2/64"}]}}, Code.INVALID_CONFIG, "no IPv4 address"),
    ("no addresses", {"prevResult": {"interfaces": []}}, Code.INVALID_CONFIG, "no IPv4 address"),
    ("no address", {"prevResult": {"ips": [{"address": "10.0.0.256/24"}]}}, Code.INVALID_CONFIG, "prevResult: ips: "),
    ("addresses of another form", {"prevResult": {"ips": ["10.0.0.1"]}}, Code.INVALID_CONFIG, "ips: Expected `object`"),
    (
        "a name that is none",
        {"runtimeConfig": annotated("S 1")},
        Code.REFUSED,
        "annotation proxypool.io/subnets: subnet",
    ),
    ("a list for a text", {"runtimeConfig": annotated(["s1"])}, Code.INVALID_CONFIG, "with commas between them"),
    ("a text for a list", {"subnets": "s1"}, Code.INVALID_CONFIG, "subnets: Expected `array`"),
    ("a default that is no name", {"subnets": ["s1,s2"]}, Code.INVALID_CONFIG, "subnets: subnet name 's1,s2'"),
    ("half an argument", {"CNI_ARGS": "PROXYPOOL_SUBNETS"}, Code.INVALID_ENVIRONMENT, "CNI_ARGS: 'PROXYPOOL_SUBNETS'"),
    ("a misspelt member", {"subnet": ["s1"]}, Code.UNSUPPORTED_FIELD, 'subnet: ["s1"]; did you mean subnets?'),
    ("no network", {"name": ...}, Code.INVALID_CONFIG, "name ''"),
    ("a network with a colon", {"name": "a:b"}, Code.INVALID_CONFIG, "name 'a:b'"),
    ("no version", {"cniVersion": ...}, Code.INCOMPATIBLE_VERSION, "cniVersion is ''; supported: 0.3.0"),
    ("before chains", {"cniVersion": "0.2.0"}, Code.INCOMPATIBLE_VERSION, "cniVersion is '0.2.0'"),
    ("the future", {"cniVersion": "2.0.0"}, Code.INCOMPATIBLE_VERSION, "cniVersion is '2.0.0'"),
]


@pytest.mark.parametrize(
    ("members", "code", "why"), [row[1:] for row in ADD_REFUSALS], ids=[row[0] for row in ADD_REFUSALS]
)
def test_what_is_refused(members: dict[str, Any], code: Code, why: str) -> None:
    args = members.get("CNI_ARGS", "")
    found, sentence = refusal(
        "ADD", body(**{key: value for key, value in members.items() if key != "CNI_ARGS"}), args=args
    )
    assert found is code
    assert why in sentence


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("container_id", ""),
        ("container_id", "-a"),
        ("container_id", "a:b"),
        ("ifname", ""),
        ("ifname", ".."),
        ("ifname", "a b"),
        ("ifname", "eth0/1"),
        ("ifname", "sixteen-letters!"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL"])
def test_names_that_are_none_are_named(command: str, variable: str, value: str) -> None:
    """The owner is made of them, so they must not run into each other."""
    code, sentence = refusal(command, body(), **{variable: value})
    assert code is Code.INVALID_ENVIRONMENT
    assert sentence == f"missing or invalid: CNI_{variable.replace('_', '').upper()} {value!r}"


def test_the_namespace_is_asked_for_where_the_specification_does() -> None:
    assert refusal("ADD", body(), netns="") == (Code.INVALID_ENVIRONMENT, "CNI_NETNS is not set")
    assert refusal("CHECK", body(), netns="")[0] is Code.INVALID_ENVIRONMENT
    assert parse_call(environment("DEL", netns=""), body()) == Release("1.0.0", OWNER)


@pytest.mark.parametrize("command", ["", "add", "VERSION", "UPDATE"])
def test_a_command_that_is_none(command: str) -> None:
    code, sentence = refusal(command, body())
    assert code is Code.INVALID_ENVIRONMENT
    assert sentence.startswith(f"CNI_COMMAND is {command!r}; known: ADD, ")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"name": "\xff"}', b'{"a":' * 100000])
@pytest.mark.parametrize("command", ["ADD", "DEL", "GC", "STATUS"])
def test_what_is_no_json(command: str, data: bytes) -> None:
    assert refusal(command, data)[0] is Code.DECODE_FAILURE


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"x"'])
def test_json_that_is_no_configuration(data: bytes) -> None:
    assert refusal("ADD", data)[0] is Code.INVALID_CONFIG


def test_check_wants_what_add_made() -> None:
    call = parse_call(environment("CHECK"), body(runtimeConfig=annotated("s1,s2")))
    assert isinstance(call, Verify)
    both = frozenset({(ADDRESS, "s1"), (ADDRESS, "s2")})
    assert call.objection(both) is None
    assert call.objection(both - {(ADDRESS, "s2")}) == "10.244.1.2 is not attached to s2"
    assert call.objection(both | {(ADDRESS, "s3")}) == "10.244.1.2 is attached to s3"
    assert refusal("CHECK", body(prevResult=...))[0] is Code.INVALID_CONFIG


@pytest.mark.parametrize(
    "members",
    [
        {"prevResult": ...},
        {"prevResult": None},
        {"prevResult": "x"},
        {"prevResult": {"ips": [{"address": "x"}]}},
        {"runtimeConfig": 5, "args": [], "subnets": "x", "subnet": "x"},
    ],
)
def test_del_needs_nothing_but_the_names(members: dict[str, Any]) -> None:
    """The runtime may not have the result any more; what was attached must go all the same."""
    assert parse_call(environment("DEL", args="nonsense"), body(**members)) == Release("1.0.0", OWNER)


def test_gc_leaves_the_valid_ones_and_other_networks() -> None:
    valid = [{"containerID": make.CONTAINER, "ifname": "eth0"}, {"containerID": "c2", "ifname": "net1"}]
    call = parse_call(environment("GC"), body(cniVersion="1.1.0", **{"cni.dev/valid-attachments": valid}))
    assert isinstance(call, Sweep)
    owners = [OWNER, "cni:cbr0:c2:eth0", "cni:cbr0:c2:net1", "cni:cbr:c2:eth0", "cni:cbr01:c2:eth0", "api:cbr0:c2:eth0"]
    assert call.stale(owners) == ("cni:cbr0:c2:eth0",)


def test_gc_without_a_list_releases_nobody_and_with_an_empty_one_everybody() -> None:
    assert refusal("GC", body(cniVersion="1.1.0"))[0] is Code.INVALID_CONFIG
    nobody: tuple[object, ...] = ([], None)
    for empty in nobody:
        call = parse_call(environment("GC"), body(cniVersion="1.1.0", **{"cni.dev/valid-attachments": empty}))
        assert isinstance(call, Sweep)
        assert call.stale([OWNER]) == (OWNER,)


def test_gc_and_status_need_no_container() -> None:
    empty = {"container_id": "", "netns": "", "ifname": ""}
    assert parse_call(environment("STATUS", **empty), body(cniVersion="1.1.0", prevResult=...)) == Report("1.1.0")
    data = body(cniVersion="1.1.0", prevResult=..., **{"cni.dev/valid-attachments": []})
    assert isinstance(parse_call(environment("GC", **empty), data), Sweep)


@pytest.mark.parametrize(
    ("command", "since"), [("ADD", "0.3.0"), ("DEL", "0.3.0"), ("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")]
)
def test_commands_and_the_version_they_came_with(command: str, since: str) -> None:
    for version in VERSIONS:
        data = body(cniVersion=version, **{"cni.dev/valid-attachments": []})
        if VERSIONS.index(version) >= VERSIONS.index(since):
            assert parse_call(environment(command), data).version == version
        else:
            code, sentence = refusal(command, data)
            assert code is Code.INCOMPATIBLE_VERSION
            assert sentence == f"{command} needs cniVersion {since} or newer, the configuration has {version}"


def test_an_error_speaks_the_configurations_version() -> None:
    with pytest.raises(CniFailure) as caught:
        parse_call(environment(), body(cniVersion="0.4.0", prevResult=...))
    answer = json.loads(error_object(caught.value))
    assert set(answer) == {"cniVersion", "code", "msg"}
    assert (answer["cniVersion"], answer["code"]) == ("0.4.0", 7)
