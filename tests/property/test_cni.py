"""Whatever a container runtime sends: a call, or an answer that it can read; and nothing attached by mistake."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.cni import Attach, Environment, parse_call
from proxypool.core.cni_config import ANNOTATION, ANNOTATIONS_CAPABILITY, CniFailure, Code
from proxypool.daemons.cni import handle
from tests.property.effort import effort
from tests.unit.cni_calls import FakeAttachments, environment, headers

COMMANDS = ("ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION", "")
KEYS = (
    *("cniVersion", "name", "prevResult", "runtimeConfig", "args", "cni", "subnets", "annotation", "ips", "address"),
    *("cni.dev/valid-attachments", "containerID", "ifname", "PROXYPOOL_SUBNETS", ANNOTATIONS_CAPABILITY, ANNOTATION),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(("1.0.0", "1.1.0", "cbr0", "10.244.1.2/24", "s1", "s1,s2", "")),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)),
    max_leaves=12,
)
plausible = st.fixed_dictionaries(
    {"cniVersion": st.just("1.1.0"), "name": st.just("cbr0")},
    optional={
        "prevResult": st.one_of(values, st.just({"ips": [{"address": "10.244.1.2/24"}]})),
        "runtimeConfig": st.one_of(values, st.fixed_dictionaries({ANNOTATIONS_CAPABILITY: values})),
        "args": values,
        "subnets": values,
        "annotation": values,
        "cni.dev/valid-attachments": values,
    },
)
bodies = st.one_of(st.binary(max_size=40), st.one_of(values, plausible).map(lambda value: json.dumps(value).encode()))
texts = st.text(st.characters(codec="latin-1"), max_size=12)
environments = st.builds(
    Environment,
    command=st.one_of(st.sampled_from(COMMANDS), texts),
    container_id=st.one_of(st.just("c1"), texts),
    netns=st.one_of(st.just("/run/netns/c1"), texts),
    ifname=st.one_of(st.just("eth0"), texts),
    args=st.one_of(st.just("PROXYPOOL_SUBNETS=s1"), texts),
)


@given(environments, bodies)
@effort(300)
def test_any_call_is_answered_in_the_runtimes_language(call: Environment, data: bytes) -> None:
    status, answer = handle(headers(call), data, FakeAttachments())
    if status == 200:
        assert answer == b"" or json.loads(answer)["cniVersion"] in data.decode()
    else:
        error = json.loads(answer)
        assert set(error) == {"cniVersion", "code", "msg"}
        assert error["code"] in set(Code)
        assert error["msg"]


@given(plausible, st.sampled_from(("ADD", "CHECK", "DEL")))
@effort(200)
def test_the_owner_is_the_networks_the_containers_and_the_interfaces(config: dict[str, Any], command: str) -> None:
    """An ADD that was accepted has a DEL that finds it, whatever becomes of the rest of the configuration."""
    data = json.dumps(config).encode()
    try:
        call = parse_call(environment(command), data)
    except CniFailure:
        assert command != "DEL"
        return
    assert getattr(call, "owner", None) == f"cni:cbr0:{environment().container_id}:eth0"


@given(plausible)
@effort(200)
def test_what_is_attached_are_addresses_and_names_that_stand_in_the_call(config: dict[str, Any]) -> None:
    data = json.dumps(config).encode()
    try:
        call = parse_call(environment(), data)
    except CniFailure:
        return
    assert isinstance(call, Attach)
    assert call.addresses
    assert all(str(address) in str(config["prevResult"]) for address in call.addresses)
    assert all(subnet in data.decode() for subnet in call.subnets)
