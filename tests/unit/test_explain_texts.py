"""Why a pair or a node is as it is, in words."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

import msgspec
import pytest

from proxypool.cli.explain_host_texts import host_paragraphs
from proxypool.cli.explain_node_texts import node_paragraphs
from proxypool.cli.explain_pair_texts import REASONS, pair_paragraphs
from proxypool.cli.explain_texts import serving
from proxypool.core.assembly import assemble
from proxypool.core.explanation import (
    Heir,
    Obstacle,
    Survival,
    changes_since,
    checks_about_host,
    checks_about_node,
    heir_of,
    obstacle,
)
from proxypool.core.history import Name, Reason, Record
from proxypool.core.model import FailoverMode, PairSpec, PairState
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.orders import Stay
from proxypool.core.status import PairReport, PoolStatus, SubnetReport
from tests.unit.builders import candidates, host, pair, snapshot
from tests.unit.test_status import BACKUP, MASTER, NOW, alive, member, view

replace = msgspec.structs.replace


def of_pair(*pairs: PairSpec, seen: PoolView | None = None) -> PoolStatus:
    """A pool in which n1 is master of p1, unless `seen` says otherwise."""
    documents = snapshot(pairs=pairs or [pair()], hosts=[host()], elections={"s1/p1": candidates("n1", "n2")})
    return assemble(replace(seen or view(MASTER, BACKUP), snapshot=documents), NOW)


def heir(status: PoolStatus) -> Heir | None:
    (subnet,) = status.subnets
    first = subnet.pairs[0]
    return heir_of(subnet, first, first.master, NOW) if first.master else None


def explained(
    status: PoolStatus, *, queue: Sequence[str] = ("n1", "n2"), last: Record | None = None, changes: int = 0
) -> str:
    """What is said of p1, in one line."""
    (subnet,) = status.subnets
    text = pair_paragraphs(subnet, subnet.pairs[0], queue=queue, last=last, changes=changes, heir=heir(status), now=NOW)
    return "\n".join(text)


def test_a_healthy_pair_is_explained() -> None:
    """Who, since when, why, by which rule, why the other is not, the last change, what would happen."""
    record = Record(
        kind="failover",
        reason="silent",
        subnet="s1",
        pair="p1",
        from_node="n2",
        to_node="n1",
        at=NOW - 60,
        phases={"detection": 0.162, "blackout": 0.164, "election": 3.1},
    )
    status = of_pair(seen=view(replace(MASTER, change_reason="silent"), BACKUP))
    text = explained(status, last=record, changes=3)
    assert "Pair s1/p1 carries traffic to 172.16.101.0/24 (tenant default) behind HaVip 192.168.4.100." in text
    assert "n1 is master, since " in text
    assert "(1m ago), because the old master was no longer heard." in text
    assert "By the rule of mode fast: it is the one that ZooKeeper elected" in text
    assert "n2 is not: n1 serves, and a master that serves stays. It is backup, well and ready" in text
    assert "The last change of master: a failover from n2 to n1, " in text
    assert (
        "It was noticed after 162 ms, nobody served for at most 164 ms, the election confirmed it after 3.10 s." in text
    )
    assert "Its master changed 3 times within a day" in text
    assert "If n1 died now, n2 would take over as soon as VRRP misses the dead one" in text
    assert "Established connections would be reset, as the pair has no egress address" in text


def test_who_asked_for_a_switchover_is_said() -> None:
    record = Record(
        kind="switchover", reason="switchover", to_node="n1", from_node="n2", at=NOW, who="ann@ops", note="new kernel"
    )
    assert "ann@ops asked for it: new kernel." in explained(of_pair(), last=record)
    assert "The history has no change of its master." in explained(of_pair())


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.MAINTENANCE}))
def test_every_reason_has_a_sentence(reason: Reason) -> None:
    text = explained(of_pair(seen=view(replace(MASTER, change_reason=reason.value), BACKUP)))
    assert f"because {REASONS[reason]}." in text


def test_a_reason_of_a_later_version_breaks_nothing() -> None:
    assert "n1 is master, since" in explained(of_pair(seen=view(replace(MASTER, change_reason="moon"), BACKUP)))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (view(member("n1", "backup"), BACKUP), "Nobody is master: traffic to 192.168.4.100 is not served."),
        (view(member("n1", "backup"), BACKUP), "ZooKeeper elected n1, which does not serve."),
        (view(MASTER, member("n2", "master")), "n1 and n2 both say that they are master."),
        (view(replace(MASTER, has_havip=False), BACKUP), "But it does not serve: it does not hold the HaVip."),
        (view(replace(MASTER, gate=False), BACKUP), "But it does not serve: its gate is closed."),
        (view(MASTER, living=("n1",)), "n2 is not: its daemon is not connected to ZooKeeper"),
        (view(MASTER), "n2 is not: its daemon runs, but says nothing of this pair"),
        (
            view(MASTER, member("n2", "fault", health=("the ENI is gone",))),
            "n2 is not: it cannot serve: the ENI is gone",
        ),
        (view(MASTER, replace(BACKUP, damped_until=NOW + 12)), "held back for flapping for another 12 s"),
        (view(MASTER, member("n2", "init")), "n2 is not: its role is init"),
    ],
)
def test_what_is_not_as_it_should_be_is_said(seen: PoolView, expected: str) -> None:
    assert expected in explained(of_pair(seen=seen))


def test_an_election_that_says_something_else_is_said() -> None:
    text = explained(of_pair(), queue=("n2", "n1"))
    assert "ZooKeeper elected n2 (epoch 100) instead, so this will change" in text
    assert "Nobody stands in the election: VRRP alone decides." in explained(of_pair(), queue=())
    assert "does not stand in the election" in explained(of_pair(), queue=("n1",))


def test_states_of_a_pair_are_said() -> None:
    draining = pair(state=PairState.DRAINING, since=NOW - 60)
    assert "It has been draining for 1m: " in explained(of_pair(draining))
    assert "It is being prepared: no host uses it yet." in explained(of_pair(pair(state=PairState.PREPARING)))
    text = explained(of_pair(replace(pair(), paused_since=NOW - 60)))
    assert "It has been paused for 1m: " in text
    assert "`proxypool pair resume s1 p1`" in text


# ---- who takes over --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (view(MASTER, BACKUP), None),
        (view(MASTER, living=("n1",)), Obstacle.NOT_ALIVE),
        (view(MASTER), Obstacle.NOT_REPORTING),
        (view(MASTER, member("n2", "fault", health=("x",))), Obstacle.UNFIT),
        (view(MASTER, replace(BACKUP, damped_until=NOW + 1)), Obstacle.DAMPED),
        (view(MASTER, replace(BACKUP, damped_until=NOW)), None),
        (view(MASTER, member("n2", "init")), Obstacle.NOT_BACKUP),
    ],
)
def test_what_keeps_a_member_from_taking_over(seen: PoolView, expected: Obstacle | None) -> None:
    found = heir(of_pair(seen=seen))
    assert found is not None
    assert (found.node, found.dead, found.obstacle) == ("n2", "n1", expected)
    text = explained(of_pair(seen=seen))
    assert ("n2 would take over as soon as" in text) is (expected is None)


@pytest.mark.parametrize(
    ("sync", "has_egress", "expected", "sentence"),
    [
        (("ok", "ok"), True, Survival.KEPT, "Established connections would go on"),
        (("ok", "down"), True, Survival.NOT_SYNCED, "Established connections would not survive"),
        ((None, None), False, Survival.RESET, "Established connections would be reset"),
    ],
)
def test_what_becomes_of_connections(
    sync: tuple[str | None, str | None], expected: Survival, sentence: str, *, has_egress: bool
) -> None:
    egress = IPv4Address("172.16.101.9") if has_egress else None
    status = of_pair(
        replace(pair(), egress_address=egress),
        seen=view(replace(MASTER, sync=sync[0]), replace(BACKUP, sync=sync[1])),
    )
    found = heir(status)
    assert found is not None
    assert found.connections is expected
    assert sentence in explained(status)


def test_in_mode_strict_zookeeper_is_waited_for() -> None:
    text = explained(of_pair(replace(pair(), mode=FailoverMode.STRICT)))
    assert "and nobody else may forward" in text
    assert "would take over when ZooKeeper has ended the session of the dead one" in text


def test_other_pairs_take_new_connections() -> None:
    """Those that are active and served, and no others."""
    other = pair("p2", havip="192.168.4.101")
    seen = replace(
        view(MASTER),
        statuses={"s1/p1": {"n1": MASTER}, "s1/p2": {"n1": MASTER}},
    )
    text = explained(of_pair(pair(), other, pair("p3", havip="192.168.4.102"), seen=seen))
    assert "New connections would go to p2 within a second." in text
    assert "No other pair of the subnet could take new connections." in explained(of_pair(seen=view(MASTER)))


def test_changes_are_counted_by_the_names_of_records() -> None:
    """Of the pair, of master, and new enough."""
    names = [
        Name(int((NOW - age) * 1000), *rest).text
        for age, *rest in (
            (5, "s1", "p1", "n1"),
            (50, "s1", "p1", "n2"),
            (500, "s1", "p1", "n1"),
            (5, "s1", "p2", "n1"),
            (5, "s1", "p1", ""),
        )
    ]
    assert changes_since([*names, "strange"], "s1", "p1", NOW - 100) == 2


# ---- nodes -----------------------------------------------------------------------------------------------------------


def of_node(status: PoolStatus, name: str = "n1", stays: Sequence[Stay] = (), **changes: object) -> str:
    node = replace(next(one for one in status.nodes if one.id == name), **changes)
    places = [(subnet, one) for subnet in status.subnets for one in subnet.pairs]
    heirs = [heir_of(subnet, one, name, NOW) for subnet, one in places if one.master == name]
    return "\n".join(node_paragraphs(node, places, stays, heirs, NOW))


def test_a_node_is_explained() -> None:
    status = of_pair(seen=view(replace(MASTER, conntrack=12, conntrack_limit=100, rx_bytes_per_s=1500.0), BACKUP))
    text = of_node(status, labels={"zone": "a", "pairs": "40"})
    assert "Node n1 is there: its daemon 0.1.0 has run for 1m40s, underlay address 192.168.4.1." in text
    assert "Labels: pairs=40, zone=a." in text
    assert "It takes new pairs." in text
    assert "It is in 1 pair: master in 1." in text
    assert "s1/p1  master  1m   ok      n2 (backup)" in text
    assert "Room: it has 1 pair, its label pairs allows 40; 1 of 255 VRRP ids are taken." in text
    assert "It carries 1.5 kB/s from hosts" in text
    assert "that of s1/p1, has 12 of 100 entries" in text
    assert "If it died now, other members would take over s1/p1 (n2)." in text
    assert "Established connections of s1/p1 would break." in text


def test_a_backup_would_not_be_missed() -> None:
    assert "If it died now, no traffic would be touched: it is nobody's master." in of_node(of_pair(), "n2")


def test_nobody_takes_over_from_the_last_one() -> None:
    text = of_node(of_pair(seen=view(MASTER)))
    assert "If it died now, nobody can be relied on to take over s1/p1: see `proxypool explain s1/p1`." in text


def test_a_dead_node_is_explained() -> None:
    text = of_node(of_pair(seen=view(MASTER, living=("n1",))), "n2")
    assert "The daemon of node n2 (192.168.4.2) is not connected to ZooKeeper" in text
    assert "It gets no new pair while it is not there." in text
    assert "silent about 1" in text
    assert "If it died" not in text


def test_orders_are_said_with_who_and_why() -> None:
    """What moves, and what stays and why."""
    text = of_node(of_pair(), cordoned_since=NOW - 60, ordered_by="ann@ops", order_reason="new kernel")
    assert "It is cordoned for 1m, by ann@ops: new kernel." in text
    assert "until `proxypool node uncordon n1`" in text
    stays = (Stay(pair()), Stay(pair("p2"), "subnet s1 is not managed by the controller"))
    text = of_node(of_pair(), stays=stays, cordoned_since=NOW - 60, draining_since=NOW - 60)
    assert "Still to move: s1/p1. s1/p2 stays, as subnet s1 is not managed by the controller." in text


def test_problems_are_said() -> None:
    assert "Problem: keepalived is not running." in of_node(of_pair(), problems=("keepalived is not running",))


def test_a_node_without_pairs() -> None:
    node = of_pair().nodes[0]
    text = "\n".join(node_paragraphs(replace(node, master_of=()), (), (), (), NOW))
    assert "It is in no pair." in text
    assert "Room: it has no pairs, " in text


def test_checks_about_a_node_are_those_of_its_members_and_its_own() -> None:
    seen = replace(view(MASTER, living=("n1",)), nodes_alive={"n1": alive("keepalived is not running")})
    status = of_pair(seen=seen)
    assert [check.name for check in checks_about_node(status, "n1")] == ["node-problem"]
    assert [check.name for check in checks_about_node(status, "n2")] == ["node-not-alive"]


# ---- hosts -----------------------------------------------------------------------------------------------------------


def of_host(status: PoolStatus, **changes: object) -> str:
    return "\n".join(host_paragraphs(replace(status.hosts[0], **changes), status.subnets, NOW))


def test_a_host_is_explained() -> None:
    text = of_host(of_pair(), attachments=12, problems=("no forwarding",))
    assert (
        "Host h1 is there: its agent 0.1.0 has run for 1m40s, underlay address 192.168.80.1, tunnel address 100.64.0.1."
    ) in text
    assert "Problem: no forwarding." in text
    assert "12 instances are attached. It uses 1 subnet: s1. It is well." in text
    assert "If its agent died now, no traffic would be touched." in text


def test_a_host_of_a_subnet_that_is_not_well_says_where_to_look() -> None:
    assert "Not well: s1 (degraded); see `proxypool explain s1`." in of_host(of_pair(seen=view(MASTER)))


def test_a_dead_host_is_explained() -> None:
    text = of_host(of_pair(seen=replace(view(MASTER, BACKUP), hosts_alive={})))
    assert "The agent of host h1 (underlay address 192.168.80.1, tunnel address 100.64.0.1) is not connected" in text
    assert "If its agent died" not in text


def test_checks_about_a_host_are_its_own_although_others_have_the_same_trouble() -> None:
    """`status` tells the pool's of the first one."""
    seen = replace(view(MASTER, BACKUP), hosts_alive={"h0": alive("x"), "h1": alive("x", "y"), "h2": alive()})
    found = checks_about_host(seen, "h1")
    assert [(check.subject, check.message) for check in found] == [("hosts/h1", "h1: x"), ("hosts/h1", "h1: y")]
    assert checks_about_host(seen, "h2") == checks_about_host(seen, "nobody") == ()


def test_a_subnet_says_who_serves_it() -> None:
    (subnet,) = of_pair(pair(), pair("p2", havip="192.168.4.101")).subnets
    assert serving(subnet) == (
        "1 host uses it. Its pairs: p1 is ok, served by n1; p2 is critical, not served by one master."
    )
    many: tuple[PairReport, ...] = tuple(replace(subnet.pairs[0], id=f"p{number}") for number in range(20))
    crowded: SubnetReport = replace(subnet, pairs=many)
    assert serving(crowded).endswith("; and 12 more.")


def test_obstacles_of_a_report() -> None:
    """The rule itself, on a member."""
    (subnet,) = of_pair().subnets
    report = subnet.pairs[0].members[1]
    assert obstacle(report, NOW) is None
    assert obstacle(replace(report, is_alive=False), NOW) is Obstacle.NOT_ALIVE
