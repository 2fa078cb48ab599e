"""Sizes, spares and orders as asked for, applied to what there is."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from msgspec.structs import replace

from proxypool.core.errors import InvalidInput
from proxypool.core.model import PairSpec
from proxypool.core.requests import PairRequest, SubnetRequest, parse_pool_request, resolve_pair, resolve_subnet
from proxypool.core.scaling.documents import Action, ActionKind, NodeOrders, Spares, Step
from proxypool.core.scaling.model import ScalingMode, ScalingSpec
from proxypool.core.scaling.orders import cordoned, draining, uncordoned
from proxypool.core.scaling.requests import (
    ScalingRequest,
    SparesRequest,
    card_of,
    parse_card,
    taken,
    validate_spares,
    with_spares,
    without_spares,
)
from tests.unit.builders import member, pair, snapshot, subnet


@pytest.mark.parametrize(
    ("request_", "current", "wanted"),
    [
        (ScalingRequest(min_pairs=2), None, (2, 8, "observe")),
        (ScalingRequest(min_pairs=12), None, (12, 12, "observe")),
        (ScalingRequest(mode=ScalingMode.OFF), None, (1, 8, "off")),
        (ScalingRequest(max_pairs=5), ScalingSpec(min_pairs=3, mode=ScalingMode.ENFORCE), (3, 5, "enforce")),
    ],
)
def test_what_is_not_asked_for_stays(
    request_: ScalingRequest, current: ScalingSpec | None, wanted: tuple[int, int, str]
) -> None:
    """Or is the default; a first minimum above the usual maximum takes that along."""
    spec = request_.applied("s1", current)
    assert (spec.min_pairs, spec.max_pairs, spec.mode) == wanted


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ScalingRequest(min_pairs=9), "at least 9 pairs and at most 8: raise the maximum"),
        (ScalingRequest(max_pairs=1), "at least 2 pairs and at most 1: lower the minimum"),
        (ScalingRequest(min_pairs=0), "min pairs 0 of subnet s1 is out of range: choose 1 to 64"),
        (ScalingRequest(max_pairs=65), "max pairs 65 of subnet s1 is out of range"),
    ],
)
def test_a_size_that_cannot_be(request_: ScalingRequest, message: str) -> None:
    """The reason, and what to do."""
    with pytest.raises(InvalidInput, match=message):
        request_.applied("s1", ScalingSpec(min_pairs=2))


def test_describing_it_again_ends_no_pause_and_takes_nothing_away() -> None:
    """Neither a subnet's size nor who provided a pair, nor that a pair is being prepared."""
    current = replace(subnet(), scaling=ScalingSpec(min_pairs=2, paused_since=5.0))
    again = SubnetRequest(id="s1", cidrs=current.cidrs)
    assert resolve_subnet(again, {"s1": current}) == current
    changed = resolve_subnet(replace(again, scaling=ScalingRequest(min_pairs=3)), {"s1": current}).scaling
    assert changed == ScalingSpec(min_pairs=3, paused_since=5.0)
    made = replace(pair(), provider="spare", state="preparing")
    request = PairRequest(id="p1", havip=made.havip, members=made.members)
    found = resolve_pair(request, "s1", snapshot(pairs=[made]))
    assert (found.provider, found.state) == ("spare", "preparing")


def test_a_document_of_apply_with_a_size_and_spares() -> None:
    """As `pool apply` reads it; what it may not say is refused by name."""
    text = b"""{"subnets": [{"id": "s1", "cidrs": ["172.16.101.0/24"], "scaling": {"min_pairs": 2, "mode": "enforce"},
    "spares": {"members": [{"node": "n3", "eni": "eth1", "address": "172.16.101.13/24"}], "havips": ["192.168.4.9"]}}]}"""
    (found,) = parse_pool_request(text, what="it").subnets
    assert found.scaling == ScalingRequest(min_pairs=2, mode=ScalingMode.ENFORCE)
    assert found.spares == SparesRequest(
        members=(member("n3", "172.16.101.13/24"),), havips=(IPv4Address("192.168.4.9"),)
    )
    with pytest.raises(InvalidInput, match="paused_since"):
        parse_pool_request(text.replace(b'"mode": "enforce"', b'"paused_since": 5'), what="it")


# ---- spares ----------------------------------------------------------------------------------------------------------

CARDS = (member("n3", "172.16.101.13/24", "eth9"), member("n4", "172.16.101.14/24", "eth9"))
HAVIP, EGRESS = IPv4Address("192.168.4.200"), IPv4Address("172.16.101.200")
SPARES = Spares(members=CARDS, havips=(HAVIP,), egress_addresses=(EGRESS,))


def test_spares_that_are_there_are_there_once() -> None:
    """A card is known by node and ENI; given again with another address it has that one."""
    same = SparesRequest(members=CARDS, havips=(HAVIP,), egress_addresses=(EGRESS,))
    assert with_spares(SPARES, same) == SPARES
    moved = member("n3", "172.16.101.99/24", "ETH9")
    assert with_spares(SPARES, SparesRequest(members=(moved,))).members == (moved, CARDS[1])


def test_who_uses_what() -> None:
    """The subnet's pairs, and the action under way."""
    used = pair("p2", members=CARDS, havip=str(HAVIP), egress=str(EGRESS))
    users = taken("s1", snapshot(pairs=[used]), ())
    assert users.cards[card_of("n3", "Eth9")] == "s1/p2"
    assert users.addresses == {HAVIP: "s1/p2", EGRESS: "s1/p2"}
    action = Action(
        id="1",
        kind=ActionKind.ADD,
        subnet="s1",
        pair="p3",
        step=Step.ACQUIRE,
        reason="",
        began=0.0,
        step_since=0.0,
        members=CARDS,
    )
    assert taken("s1", snapshot(), (action,)).cards[card_of("n4", "eth9")] == "add of s1/p3"
    assert taken("s2", snapshot(pairs=[used]), ()).cards == {}


@pytest.mark.parametrize(
    ("spares", "pairs", "message"),
    [
        (replace(SPARES, egress_addresses=(IPv4Address("10.0.0.1"),)), (), "outside the networks of the spare cards"),
        (replace(SPARES, havips=(HAVIP, HAVIP)), (), "HaVip 192.168.4.200 stands twice"),
        (replace(SPARES, egress_addresses=(CARDS[0].address.ip,)), (), "address 172.16.101.13 stands twice"),
        (replace(SPARES, havips=(IPv4Address("192.168.4.1"),)), (), "is the underlay address of node n1"),
        (SPARES, (pair("p9", "s2", CARDS),), "ENI eth9 of node n3 is in use by pair s2/p9"),
        (SPARES, (pair("p9", "s2", havip=str(HAVIP)),), "HaVip 192.168.4.200 is in use by pair s2/p9"),
    ],
)
def test_spares_that_cannot_be(spares: Spares, pairs: tuple[PairSpec, ...], message: str) -> None:
    """The reason names who has it."""
    pool = snapshot(subnets=[subnet(), subnet("s2", "172.16.101.0/24", key=2, tenant="t2")], pairs=pairs)
    with pytest.raises(InvalidInput, match=message):
        validate_spares(subnet(), spares, pool, {})


def test_what_a_pair_of_the_subnet_uses_may_be_among_its_spares() -> None:
    """All of them stand there, also those in use."""
    used = pair("p2", members=CARDS, havip=str(HAVIP), egress=str(EGRESS))
    validate_spares(subnet(), SPARES, snapshot(pairs=[used]), {"s1": SPARES})


def test_a_spare_in_use_stays() -> None:
    """Until its pair is gone; what is no spare is a mistake."""
    nobody = taken("s1", snapshot(), ())
    left = without_spares(SPARES, {card_of("n3", "ETH9")}, (HAVIP, EGRESS), nobody, "s1")
    assert left == Spares(members=CARDS[1:])
    users = taken("s1", snapshot(pairs=[pair("p2", members=CARDS, havip=str(HAVIP))]), ())
    with pytest.raises(InvalidInput, match="card eth9 of node n3 is in use by s1/p2"):
        without_spares(SPARES, {card_of("n3", "eth9")}, (), users, "s1")
    with pytest.raises(InvalidInput, match=r"address 10\.0\.0\.1 is no spare of subnet s1"):
        without_spares(SPARES, (), (IPv4Address("10.0.0.1"),), nobody, "s1")


def test_a_card_in_words() -> None:
    """As in `--member`, of which only node and ENI matter here."""
    assert parse_card("n3,eni=ETH9,address=1.2.3.4/5") == ("n3", "eth9")
    for text in ("n3", "n3,eni=", ",eni=x"):
        with pytest.raises(InvalidInput, match="NODE,eni=NAME_OR_MAC"):
            parse_card(text)


# ---- orders ----------------------------------------------------------------------------------------------------------


def test_the_first_order_stands() -> None:
    """Its moment, who gave it and why; a drain after a cordon is another order."""
    first = cordoned(NodeOrders(), 5.0, "ann", "kernel")
    assert first == NodeOrders(cordoned_since=5.0, who="ann", reason="kernel")
    assert cordoned(first, 6.0, "bob", "") is first
    second = draining(first, 7.0, "bob", "fire")
    assert second == NodeOrders(cordoned_since=5.0, draining_since=7.0, who="bob", reason="fire")
    assert draining(second, 8.0, "eve", "") is second
    assert cordoned(second, 8.0, "eve", "") is second
    assert draining(NodeOrders(), 7.0, "", "").cordoned_since == 7.0


def test_an_order_is_taken_back_by_somebody() -> None:
    """Who did it stays; a node without orders has none to take back."""
    assert uncordoned(draining(NodeOrders(), 7.0, "bob", "fire"), "ann", "it is out") == NodeOrders(
        who="ann", reason="it is out"
    )
    free = NodeOrders(who="ann")
    assert uncordoned(free, "bob", "") is free
