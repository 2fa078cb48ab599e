"""What a node shows: its own members now, the others as they said last."""

from __future__ import annotations

from proxypool.core.assembly import assemble
from proxypool.core.model import Alive
from proxypool.core.own_view import Heard, own_view
from proxypool.core.status import all_checks
from tests.unit.builders import N2, candidates, host, member, node, pair, snapshot, subnet
from tests.unit.shown_pools import NOW, status_of

OTHER = pair("p2", "s1", (member("n3", "172.16.101.13/24"), member("n4", "172.16.101.14/24")), "192.168.4.101", 2)
FOREIGN = pair("p1", "s2", (N2, member("n3", "172.16.101.13/24")), "192.168.4.102", 3)
POOL = snapshot(
    subnets=[subnet("s1"), subnet("s2", key=2)],
    pairs=[pair(), OTHER, FOREIGN],
    nodes=[node(f"n{number}", f"192.168.4.{number}") for number in range(1, 5)],
    hosts=[host()],
    elections={"s1/p1": candidates("n1", "n2")},
)
ALIVE = Alive(underlay=host().underlay, at=NOW)
HEARD = Heard(
    statuses={"s1/p1": {"n1": status_of("n1", "backup"), "n2": status_of("n2", "backup")}}, alive={"n2": ALIVE}
)


def test_a_node_shows_its_own_pairs_and_who_is_in_them() -> None:
    view = own_view("p", "n1", POOL, HEARD, [(pair(), status_of("n1", "master"))], ALIVE)
    status = assemble(view, NOW)
    assert [(one.id, [each.id for each in one.pairs]) for one in status.subnets] == [("s1", ["p1"])]
    assert [one.id for one in status.nodes] == ["n1", "n2"]
    assert status.hosts == ()
    assert list(all_checks(status)) == []


def test_what_it_sees_of_itself_is_newer_than_what_it_published() -> None:
    view = own_view("p", "n1", POOL, HEARD, [(pair(), status_of("n1", "master"))], ALIVE)
    assert view.statuses["s1/p1"]["n1"].role == "master"
    assert HEARD.statuses["s1/p1"]["n1"].role == "backup", "what was read stays as it is"


def test_without_a_word_of_the_others_it_still_shows_itself() -> None:
    """ZooKeeper is away since the daemon started."""
    view = own_view("p", "n1", POOL, Heard(), [(pair(), status_of("n1", "master"))], ALIVE)
    (found,) = assemble(view, NOW).subnets[0].pairs
    assert (found.master, [one.role for one in found.members]) == ("n1", ["master", None])


def test_a_node_without_pairs_shows_itself() -> None:
    status = assemble(own_view("p", "n9", POOL, Heard(), [], ALIVE), NOW)
    assert (status.subnets, status.nodes) == ((), ())
