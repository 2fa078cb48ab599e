"""The order of a plan, and what is in it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from proxypool.core.planner import ChangeSet, MakeNamespace, Operation, Put, Remove, RemoveNamespace, plan
from proxypool.core.scene import (
    Address,
    AddressSet,
    AnyObject,
    Chain,
    Eni,
    MarkedSet,
    Neighbour,
    PolicyRule,
    Route,
    Rule,
    Scene,
    Sysctl,
    Table,
    Tunnel,
    UnknownRule,
    UnknownSet,
)

HAVIP = IPv4Address("192.168.4.100")
PEERS = AddressSet("pp-peers", frozenset({HAVIP}))
FILTER = Table("filter", (Chain("PP-FORWARD", "FORWARD", (Rule("ACCEPT"),), policy="DROP"),))
NAT = Table("nat", (Chain("PP-POSTROUTING", "POSTROUTING", (Rule("MASQUERADE"),)),))
ENI = Eni("eni0", "eth1")
TUNNEL = Tunnel("ppt1", "gre", HAVIP, tunnel_key=7, mtu=1472)
ADDRESS = Address("eni0", IPv4Interface("172.16.101.11/24"))
ROUTE = Route(IPv4Network("100.64.0.1/32"), device="ppt1")
NEIGHBOUR = Neighbour("ppt1", IPv4Address("100.64.0.1"), "192.168.80.1")
LOOSE = Sysctl("netfilter/nf_conntrack_tcp_loose", "0")
RULE = PolicyRule(7700, target=7700, source=IPv4Network("10.244.1.0/24"))
EVERYTHING = (RULE, LOOSE, NEIGHBOUR, ROUTE, ADDRESS, TUNNEL, ENI, NAT, FILTER, PEERS)


def scene(*objects: AnyObject, namespace: str | None = "pp-s1") -> Scene:
    return Scene.of(namespace, objects)


def kinds(operations: tuple[Operation, ...]) -> list[str]:
    """Operations as short words."""
    words = []
    for operation in operations:
        match operation:
            case Put(item) | Remove(item):
                words.append(f"{type(operation).__name__.lower()} {item.key[0]}")
            case _:
                words.append(type(operation).__name__)
    return words


def test_nothing_is_done_to_what_is_as_desired() -> None:
    assert plan(scene(*EVERYTHING), scene(*reversed(EVERYTHING))) == ()


def test_a_new_namespace_is_made_first_and_filled_from_the_tables_up() -> None:
    """Tables before links: no packet is ever forwarded, or leaves without NAT, in a half-made namespace."""
    operations = plan(scene(*EVERYTHING), Scene.absent("pp-s1"))
    assert operations[0] == MakeNamespace("pp-s1")
    assert kinds(operations[1:]) == [
        "put set",
        "put table",
        "put table",
        "put eni",
        "put tunnel",
        "put address",
        "put route",
        "put neighbour",
        "put sysctl",
        "put rule",
    ]


@pytest.mark.parametrize("other", [MarkedSet(PEERS.name), UnknownSet(PEERS.name, "hash:ip,port")], ids=repr)
def test_a_set_of_another_type_goes_before_its_successor_comes(other: MarkedSet | UnknownSet) -> None:
    assert plan(scene(PEERS), scene(other)) == (Remove(other), Put(PEERS))


def test_of_a_set_that_is_there_only_members_come_and_go() -> None:
    fewer = replace(PEERS, members=frozenset())
    assert plan(scene(PEERS), scene(fewer)) == (ChangeSet(PEERS.name, PEERS.members, frozenset()),)
    assert plan(scene(fewer), scene(PEERS)) == (ChangeSet(PEERS.name, frozenset(), PEERS.members),)


def test_what_hangs_on_a_link_goes_before_the_link() -> None:
    assert kinds(plan(scene(), scene(*EVERYTHING))) == [
        "remove rule",
        "remove sysctl",
        "remove neighbour",
        "remove route",
        "remove address",
        "remove tunnel",
        "remove eni",
        "remove table",
        "remove table",
        "remove set",
    ]


def test_an_absent_namespace_is_wanted_by_removing_it_whole() -> None:
    assert plan(Scene.absent("pp-s1"), scene(*EVERYTHING)) == (RemoveNamespace("pp-s1"),)


def test_a_namespace_that_is_absent_already_needs_nothing() -> None:
    assert plan(Scene.absent("pp-s1"), Scene.absent("pp-s1")) == ()


def test_the_machines_own_namespace_is_neither_made_nor_removed() -> None:
    assert kinds(plan(scene(NAT, namespace=None), scene(namespace=None))) == ["put table"]
    assert plan(Scene(None, {}, exists=False), scene(NAT, namespace=None)) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"tunnel_key": 8},
        {"local": IPv4Address("192.168.4.101")},
        {"kind": "vxlan"},
        {"mac": "02:50:00:00:00:01"},
        {"port": 1},
    ],
)
def test_a_tunnel_that_cannot_be_changed_in_place_is_removed_and_then_put(change: dict[str, object]) -> None:
    """The kernel refuses a second tunnel with the same local address and key."""
    wanted = replace(TUNNEL, **change)  # type: ignore[arg-type]
    assert plan(scene(wanted), scene(TUNNEL)) == (Remove(TUNNEL), Put(wanted))


@pytest.mark.parametrize("change", [{"mtu": 1400}, {"is_up": False}])
def test_a_tunnel_that_can_be_changed_in_place_stays(change: dict[str, object]) -> None:
    assert plan(scene(TUNNEL), scene(replace(TUNNEL, **change))) == (Put(TUNNEL),)  # type: ignore[arg-type]


def test_what_goes_with_a_device_is_put_again_in_the_same_plan() -> None:
    """The kernel takes routes, neighbours and sysctls along; what hangs on other devices stays."""
    wanted = replace(TUNNEL, tunnel_key=8)
    rest = (ENI, ADDRESS, ROUTE, NEIGHBOUR, Sysctl("ipv4/conf/ppt1/rp_filter", "1"))
    operations = plan(scene(wanted, *rest), scene(TUNNEL, *rest))
    assert operations[:2] == (Remove(TUNNEL), Put(wanted))
    assert kinds(operations[2:]) == ["put route", "put neighbour", "put sysctl"]


def test_what_goes_with_a_devices_last_address_is_put_again() -> None:
    """The kernel flushes the routes of a device that has no address left."""
    route = Route(IPv4Network("10.8.0.0/16"), device="eni0", gateway=IPv4Address("172.16.101.1"))
    other = Address("eni0", IPv4Interface("172.16.101.12/24"))
    assert plan(scene(ENI, other, route), scene(ENI, ADDRESS, route)) == (Remove(ADDRESS), Put(other), Put(route))
    assert plan(scene(ENI, other, route), scene(ENI, ADDRESS, other, route)) == (Remove(ADDRESS),)


def test_another_card_takes_the_place_of_the_old_one() -> None:
    other = Eni("eni0", "eth2")
    assert plan(scene(other), scene(ENI)) == (Remove(ENI), Put(other))


def test_a_card_that_is_down_stays_and_is_put_again() -> None:
    assert plan(scene(ENI), scene(replace(ENI, is_up=False))) == (Put(ENI),)


def test_a_macs_case_is_no_difference_of_cards() -> None:
    observed = Eni("eni0", "02:aa:00:00:00:01")
    desired = Eni("eni0", "02:AA:00:00:00:01")
    assert Remove(observed) not in plan(scene(desired), scene(observed))


def test_a_route_is_replaced_in_place() -> None:
    elsewhere = replace(ROUTE, device="ppt2")
    assert plan(scene(ROUTE), scene(elsewhere)) == (Put(ROUTE),)


def test_a_changed_rule_puts_its_whole_table() -> None:
    drifted = Table("nat", (replace(NAT.chains[0], rules=(UnknownRule("-j ACCEPT"), *NAT.chains[0].rules)),))
    assert plan(scene(NAT), scene(drifted)) == (Put(NAT),)


def test_a_jump_that_stands_twice_puts_its_table() -> None:
    drifted = Table("nat", (replace(NAT.chains[0], jumps=2),))
    assert plan(scene(NAT), scene(drifted)) == (Put(NAT),)


def test_scenes_of_different_namespaces_are_a_defect() -> None:
    with pytest.raises(ValueError, match="different namespaces: pp-s1 and pp-s2"):
        plan(scene(), scene(namespace="pp-s2"))


def test_a_scene_has_one_object_for_a_key() -> None:
    with pytest.raises(ValueError, match="two objects with the key"):
        scene(ROUTE, replace(ROUTE, device="ppt2"))
    assert scene(ROUTE, ROUTE).objects == {ROUTE.key: ROUTE}
