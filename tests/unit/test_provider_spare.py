"""The provider `spare`: what documents name is taken, what was answered is kept until they do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import msgspec
import pytest

from proxypool.core.model import MemberSpec, NodeSpec, PairSpec
from proxypool.core.scaling.documents import Action, ActionKind, Spares, Step
from proxypool.providers.contract import Held, Intent, PoolView, QuotaExceeded
from proxypool.providers.spare import Spare
from tests.unit.builders import pair, subnet

S1, S2 = subnet("s1"), subnet("s2", key=2, tenant="two")
NODE = NodeSpec(id="n1", underlay=IPv4Address("192.168.0.11"))
OTHER = NodeSpec(id="n2", underlay=IPv4Address("192.168.0.12"))
H1, H2 = IPv4Address("192.168.4.101"), IPv4Address("192.168.4.102")
E1, E2 = IPv4Address("172.16.101.201"), IPv4Address("172.16.101.202")


def card(number: int, node: str = "n1") -> MemberSpec:
    return MemberSpec(node=node, eni=f"eth{number}", address=IPv4Interface(f"172.16.101.{20 + number}/24"))


SPARES = Spares(members=(card(1), card(2), card(3, "n2")), havips=(H1, H2), egress_addresses=(E1, E2))


def action(subnet_id: str = "s1", pair_id: str = "p2", **more: object) -> Action:
    known = {
        "id": f"1-{subnet_id}",
        "kind": ActionKind.ADD,
        "subnet": subnet_id,
        "pair": pair_id,
        "step": Step.ACQUIRE,
        "reason": "load",
        "began": 1.0,
        "step_since": 1.0,
        "provider": "spare",
    }
    return Action(**{**known, **more})  # type: ignore[arg-type]  # a builder: each test names what matters to it


def wanted(spec: object = S1, name: str = "p2") -> Intent:
    return Intent("pool", S1 if spec is S1 else S2, name)


class Pool:
    """Documents that a test changes."""

    def __init__(self, *pairs: PairSpec) -> None:
        self.view = PoolView(spares={"s1": SPARES, "s2": SPARES})
        self.have(*pairs)

    def have(self, *pairs: PairSpec) -> None:
        by_subnet: dict[str, dict[str, PairSpec]] = {}
        for one in pairs:
            by_subnet.setdefault(one.subnet, {})[one.id] = one
        self.view = replace(self.view, pairs=by_subnet)

    def act(self, *actions: Action) -> None:
        self.view = replace(self.view, actions=actions)

    def spare(self) -> Spare:
        return Spare(lambda: self.view)


def test_what_a_pair_has_is_not_given_again() -> None:
    taken = pair("p1", "s1", (card(1), card(3, "n2")), havip=str(H1), egress=str(E1))
    spare = Pool(taken).spare()
    assert spare.acquire_card(wanted(), NODE, 1.0) == card(2)
    addresses = spare.acquire_addresses(wanted(), (NODE, OTHER), 1.0)
    assert (addresses.havip, addresses.egress_address) == (H2, E2)
    with pytest.raises(QuotaExceeded, match="no spare card of subnet s1 is free on node n2"):
        spare.acquire_card(wanted(), OTHER, 1.0)


def test_a_card_is_one_whatever_it_is_called() -> None:
    """The pair names it by its MAC address, the list by its name."""
    by_mac = msgspec.structs.replace(card(1), eni="02:00:00:00:00:01")
    spare = Pool(pair("p1", "s1", (by_mac, card(3, "n2")), havip=str(H1))).spare()
    assert spare.acquire_card(wanted(), NODE, 1.0) == card(2)


def test_a_havip_is_everybodys_and_an_egress_address_its_customers() -> None:
    """All subnets share the function network; customers' networks may have the same addresses."""
    spare = Pool(pair("p1", "s2", (card(8), card(9, "n2")), havip=str(H1), egress=str(E1))).spare()
    addresses = spare.acquire_addresses(wanted(), (NODE,), 1.0)
    assert (addresses.havip, addresses.egress_address) == (H2, E1)


def test_what_the_action_names_is_given_again_by_another_controller() -> None:
    pool = Pool()
    pool.act(action(members=(card(2),), havip=H2, egress_address=E2))
    spare = pool.spare()
    assert spare.acquire_card(wanted(), NODE, 1.0) == card(2)
    addresses = spare.acquire_addresses(wanted(), (NODE,), 1.0)
    assert (addresses.havip, addresses.egress_address) == (H2, E2)


def test_what_was_answered_is_not_given_to_another_before_it_is_written_down() -> None:
    pool = Pool()
    pool.act(action("s1", "p2"), action("s2", "p1"))
    spare = pool.spare()
    first = spare.acquire_addresses(wanted(S1, "p2"), (NODE,), 1.0)
    second = spare.acquire_addresses(wanted(S2, "p1"), (NODE,), 1.0)
    assert {first.havip, second.havip} == {H1, H2}
    with pytest.raises(QuotaExceeded, match="no spare HaVip"):
        spare.acquire_addresses(wanted(S2, "p3"), (NODE,), 1.0)


def test_what_was_answered_for_an_action_that_has_ended_is_free() -> None:
    """Another leader finished it; nothing of it is in any document."""
    pool = Pool()
    pool.act(action("s1", "p2"))
    spare = pool.spare()
    spare.acquire_card(wanted(), NODE, 1.0)
    pool.act(action("s1", "p2", step=Step.UNDO))
    spare.offers(S1, (NODE,), 1.0)
    pool.act()
    assert spare.offers(S1, (NODE,), 1.0)["n1"].cards == 2
    assert spare.acquire_card(wanted(name="p9"), NODE, 1.0) == card(1)


def test_a_pair_without_egress_address_stays_so() -> None:
    """It was made before there were any; asking again must not change what it has."""
    pool = Pool(pair("p2", "s1", (card(1), card(3, "n2")), havip=str(H1)))
    addresses = pool.spare().acquire_addresses(wanted(), (NODE,), 1.0)
    assert (addresses.havip, addresses.egress_address) == (H1, None)


def test_a_pair_gets_no_havip_without_the_egress_address_it_should_have() -> None:
    """It would lose its connections at the first failover, and nobody would know why."""
    pool = Pool(
        pair("p1", "s1", (card(8), card(9, "n2")), havip="192.168.4.1", egress=str(E1)),
        pair("p3", "s1", (card(6), card(7, "n2")), havip="192.168.4.2", egress=str(E2)),
    )
    with pytest.raises(QuotaExceeded, match="no spare egress address"):
        pool.spare().acquire_addresses(wanted(), (NODE,), 1.0)


def test_offers_count_what_is_free() -> None:
    pool = Pool(pair("p1", "s1", (card(1), card(3, "n2")), havip=str(H1)))
    offers = pool.spare().offers(S1, (NODE, OTHER), 1.0)
    assert offers["n1"].cards == 1
    assert offers["n2"].cards == 0
    assert offers["n2"].why_not == "no spare card of subnet s1 is free on node n2"


def test_held_is_what_spare_gave_and_not_what_an_operator_did() -> None:
    ours = msgspec.structs.replace(pair("p1", "s1", (card(1), card(3, "n2")), havip=str(H1)), provider="spare")
    operators = pair("p7", "s1", (card(8), card(9, "n2")), havip="192.168.4.1")
    pool = Pool(ours, operators)
    pool.act(action("s1", "p2", members=(card(2),)))
    assert pool.spare().held("pool", (S1, S2), 1.0) == (
        Held("s1", "p1", "n1", "eth1"),
        Held("s1", "p1", "n2", "eth3"),
        Held("s1", "p1", "", "192.168.4.101"),
        Held("s1", "p2", "n1", "eth2"),
    )
