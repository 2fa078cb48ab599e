"""From what an operator asks for to a spec."""

from __future__ import annotations

import msgspec

from proxypool.core.requests import SubnetRequest, parse_pool_request, resolve_subnet
from tests.unit.builders import subnet

LABELLED = msgspec.structs.replace(subnet("s1"), labels={"baidu-vpc": "vpc-1"})


def test_a_subnet_that_is_described_again_without_labels_keeps_them() -> None:
    """A file of `pool apply` from before there were labels takes none away."""
    request = SubnetRequest(id="s1", cidrs=LABELLED.cidrs)
    assert resolve_subnet(request, {"s1": LABELLED}) == LABELLED
    assert resolve_subnet(request, {}).labels == {}


def test_a_subnet_with_labels_can_be_remembered_by() -> None:
    """Parts of scenes are."""
    assert {LABELLED: 1}[msgspec.structs.replace(LABELLED)] == 1
    assert subnet("s1") != LABELLED


def test_labels_that_are_named_replace_those_that_were() -> None:
    (request,) = parse_pool_request(
        b'{"subnets": [{"id": "s1", "cidrs": ["172.16.101.0/24"], "labels": {"zone": "a"}}]}', what="f"
    ).subnets
    assert resolve_subnet(request, {"s1": LABELLED}).labels == {"zone": "a"}
