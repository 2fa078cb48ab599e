"""Where a new pair goes."""

from __future__ import annotations

from collections import Counter

import pytest

from proxypool.core.scaling.placement import CardOffer, NodeRoom, NoPlace, Spread, place

ANY = CardOffer(None)


def room(name: str, zone: str | None = None, rack: str | None = None, **fields: object) -> NodeRoom:
    labels = {key: value for key, value in (("zone", zone), ("rack", rack)) if value is not None}
    return NodeRoom(name, labels, **fields)  # type: ignore[arg-type]  # fields of the room


def placed(
    *nodes: NodeRoom,
    offers: dict[str, CardOffer] | None = None,
    barred: dict[str, str] | None = None,
    spread: Spread = Spread.SPREAD,
    subnet: str = "s1",
) -> tuple[str, str] | NoPlace:
    found = {node.name: ANY for node in nodes} if offers is None else offers
    return place(subnet, nodes, found, barred=barred or {}, spread=spread)


def names(found: tuple[str, str] | NoPlace) -> set[str]:
    assert not isinstance(found, NoPlace), found
    return set(found)


def why(found: tuple[str, str] | NoPlace) -> str:
    assert isinstance(found, NoPlace), found
    return found.why


def test_the_two_nodes_are_in_different_zones() -> None:
    """Although the two emptiest are in one."""
    nodes = room("a", "z1"), room("b", "z1"), room("c", "z2", members=50)
    assert "c" in names(placed(*nodes))


def test_where_there_is_one_zone_racks_tell_nodes_apart() -> None:
    """Two nodes of one rack are never a pair."""
    nodes = room("a", "z1", "r1"), room("b", "z1", "r1"), room("c", "z1", "r2", members=50)
    assert "c" in names(placed(*nodes))
    assert "all nodes with room are in one rack" in why(placed(*nodes[:2]))


def test_a_node_without_a_label_is_a_domain_of_its_own() -> None:
    assert names(placed(room("a"), room("b"))) == {"a", "b"}
    assert names(placed(room("a", "z1"), room("b", "z1"), room("c"), room("d", "z2", is_alive=False))) >= {"c"}


def test_zones_that_are_full_are_no_reason_to_take_one_twice() -> None:
    """An operator who has two zones relies on both."""
    nodes = room("a", "z1"), room("b", "z1"), room("c", "z2", members=100)
    assert why(placed(*nodes)) == (
        "all nodes with room are in one zone, and a pair needs two (of 3 nodes: 1 full): add nodes in another zone"
    )


@pytest.mark.parametrize(
    ("spread", "chosen"), [(Spread.SPREAD, {"empty", "half"}), (Spread.PACK, {"nearly-full", "half"})]
)
def test_spread_takes_the_emptiest_and_pack_the_fullest(spread: Spread, chosen: set[str]) -> None:
    """Of those that have room, by what they can take: a large node with many pairs may be emptier."""
    nodes = (
        room("empty", members=10, max_members=200),
        room("half", members=5, max_members=10),
        room("nearly-full", members=99),
        room("full", members=100),
    )
    assert names(placed(*nodes, spread=spread)) == chosen


def test_nodes_that_cannot_take_a_pair_are_counted_by_reason() -> None:
    """The sentence says what to change."""
    nodes = (
        room("dead", is_alive=False),
        room("cordoned", is_cordoned=True),
        room("busy", bandwidth_used=0.8),
        room("barred"),
        room("no-card"),
        room("left-out"),
        room("fit"),
    )
    offers = {node.name: ANY for node in nodes} | {"no-card": CardOffer(0, "out of its quota of 8 cards")}
    del offers["left-out"]
    found = placed(*nodes, offers=offers, barred={"barred": "serving the subnet already"})
    assert why(found) == (
        "there are no two nodes with room (of 7 nodes: 1 cordoned, 1 not alive, 1 out of its quota of 8 cards, "
        "1 serving the subnet already, 1 short of bandwidth, 1 without a free card): add nodes, or make room"
    )


def test_the_pairs_of_a_node_that_dies_go_to_many() -> None:
    """Equal nodes are told apart by subnet, so that not all subnets choose the same two."""
    nodes = [room(f"n{number}") for number in range(10)]
    load = Counter(name for number in range(200) for name in names(placed(*nodes, subnet=f"s{number}")))
    assert len(load) == 10
    assert max(load.values()) < 2 * min(load.values())


def test_the_same_question_has_the_same_answer() -> None:
    """In whatever order the nodes come: another leader chooses the same."""
    nodes = [room(f"n{number}", f"z{number % 3}") for number in range(9)]
    assert placed(*nodes) == placed(*reversed(nodes))


def test_a_zone_with_most_of_the_nodes_gives_one_to_each_pair() -> None:
    """Four nodes in three zones make two pairs, if the zone of two is in both."""
    nodes = [room("a1", "a", members=9), room("a2", "a", members=9), room("b", "b"), room("c", "c")]
    first = names(placed(*nodes))
    assert len(first & {"a1", "a2"}) == 1
    rest = [node for node in nodes if node.name not in first]
    assert len(names(placed(*rest))) == 2
