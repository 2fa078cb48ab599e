"""The status document: what is observed, what is wrong with it, and what to do."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from proxypool.cli.views import pair_table, status_text
from proxypool.core.assembly import assemble
from proxypool.core.checks import CONNTRACK_HIGH, STALE_AFTER_S, Code, Level, worst
from proxypool.core.documents import to_builtins
from proxypool.core.model import Alive, MemberStatus, PairSpec, PairState, Snapshot
from proxypool.core.pool_view import PoolView
from proxypool.core.status import PoolStatus, all_checks
from tests.unit.builders import candidates, host, pair, snapshot, subnet

NOW = 10_000.0
replace = msgspec.structs.replace


def member(node: str, role: str, **fields: object) -> MemberStatus:
    """A member that is as its role says."""
    is_master = role == "master"
    values = {"vrrp": role, "gate": is_master, "has_havip": is_master, "since": NOW - 60, "at": NOW - 1, **fields}
    return MemberStatus(node=node, role=role, **values)  # type: ignore[arg-type]  # fields of the document


MASTER, BACKUP = member("n1", "master"), member("n2", "backup")


def alive(*problems: str) -> Alive:
    return Alive(underlay=host().underlay, since=NOW - 100, version="0.1.0", problems=problems)


def view(
    *statuses: MemberStatus,
    living: tuple[str, ...] = ("n1", "n2"),
    elected: tuple[str, ...] = ("n1", "n2"),
    documents: Snapshot | None = None,
) -> PoolView:
    """A pool of one pair, s1/p1 of n1 and n2."""
    found = documents or snapshot(pairs=[pair()], hosts=[host()], elections={"s1/p1": candidates(*elected)})
    return PoolView(
        pool="p",
        snapshot=found,
        statuses={"s1/p1": {status.node: status for status in statuses}},
        nodes_alive={node: alive() for node in living},
        hosts_alive={"h1": alive()},
    )


def codes(status: PoolStatus) -> list[str]:
    return [check.name for check in all_checks(status)]


def test_a_healthy_pool_has_nothing_to_say() -> None:
    """One master that is elected, holds the HaVip and has the gate open; one backup."""
    status = assemble(view(MASTER, BACKUP), NOW)
    assert (status.level, codes(status)) == (Level.OK, [])
    (found,) = status.subnets[0].pairs
    assert (found.master, found.elected, found.havip_holders, found.epoch) == ("n1", "n1", ("n1",), 100)
    assert found.last_change == NOW - 60
    assert [(one.node, one.elected, one.gate) for one in found.members] == [("n1", True, True), ("n2", False, False)]
    assert [(node.id, node.pairs, node.master_of) for node in status.nodes] == [
        ("n1", ("s1/p1",), ("s1/p1",)),
        ("n2", ("s1/p1",), ()),
    ]
    assert status.hosts[0].subnets == ("s1",)


@pytest.mark.parametrize(
    ("what", "seen", "names", "level"),
    [
        (
            "the backup has just taken over",
            view(MASTER, member("n2", "master", since=NOW - 1)),
            ["taking-over", "no-backup"],
            Level.DEGRADED,
        ),
        ("both backup", view(member("n1", "backup"), BACKUP), ["no-master"], Level.CRITICAL),
        ("split brain", view(MASTER, member("n2", "master")), ["two-masters", "no-backup"], Level.CRITICAL),
        (
            "the backup is dead",
            view(MASTER, living=("n1",), elected=("n1",)),
            ["no-backup", "node-not-alive"],
            Level.DEGRADED,
        ),
        ("the backup is silent", view(MASTER), ["no-backup", "member-not-reporting"], Level.DEGRADED),
        (
            "the backup is unfit",
            view(MASTER, member("n2", "fault", health=("the ENI is gone",))),
            ["no-backup", "member-unfit"],
            Level.DEGRADED,
        ),
        (
            "nobody lives",
            view(living=(), elected=()),
            ["no-master", "nobody-elected", *["node-not-alive"] * 2],
            Level.CRITICAL,
        ),
        ("VRRP was quicker", view(MASTER, BACKUP, elected=("n2", "n1")), ["elected-not-master"], Level.DEGRADED),
        ("nobody stands", view(MASTER, BACKUP, elected=()), ["nobody-elected"], Level.DEGRADED),
        ("no HaVip", view(replace(MASTER, has_havip=False), BACKUP), ["havip-mismatch"], Level.CRITICAL),
        ("HaVip twice", view(MASTER, replace(BACKUP, has_havip=True)), ["havip-mismatch"], Level.CRITICAL),
        (
            "egress address without an answer",
            view(replace(MASTER, answers_egress=False), replace(BACKUP, answers_egress=False)),
            ["egress-unanswered"],
            Level.CRITICAL,
        ),
        (
            "egress address",
            view(replace(MASTER, answers_egress=True), replace(BACKUP, answers_egress=False)),
            [],
            Level.OK,
        ),
        ("closed gate", view(replace(MASTER, gate=False), BACKUP), ["gate-mismatch"], Level.CRITICAL),
        ("no namespace", view(replace(MASTER, gate=None), BACKUP), ["gate-mismatch"], Level.CRITICAL),
        ("two gates", view(MASTER, replace(BACKUP, gate=True)), ["gate-mismatch"], Level.CRITICAL),
        ("a backup without namespace", view(MASTER, replace(BACKUP, gate=None)), [], Level.OK),
        ("a daemon that hangs", view(MASTER, replace(BACKUP, at=NOW - 60)), ["stale-status"], Level.DEGRADED),
        (
            "a full conntrack table",
            view(replace(MASTER, conntrack=95, conntrack_limit=100), BACKUP),
            ["conntrack-high"],
            Level.DEGRADED,
        ),
    ],
)
def test_every_fault_has_its_checks(what: str, seen: PoolView, names: list[str], level: Level) -> None:
    """And the level of the pair, the subnet and the pool is the worst of them."""
    status = assemble(seen, NOW)
    assert codes(status) == names
    assert {status.level, status.subnets[0].level, status.subnets[0].pairs[0].level} == {level}


def test_thresholds_are_where_they_are_said_to_be() -> None:
    """At the threshold and just beside it."""
    limit = 1000
    high = replace(MASTER, conntrack=int(limit * CONNTRACK_HIGH), conntrack_limit=limit)
    assert codes(assemble(view(high, BACKUP), NOW)) == ["conntrack-high"]
    assert codes(assemble(view(replace(high, conntrack=high.conntrack - 1), BACKUP), NOW)) == []  # type: ignore[operator]
    assert codes(assemble(view(MASTER, replace(BACKUP, at=NOW - STALE_AFTER_S)), NOW)) == []
    assert codes(assemble(view(MASTER, replace(BACKUP, at=NOW - STALE_AFTER_S - 1)), NOW)) == ["stale-status"]


def test_a_subnet_without_pair_is_not_served() -> None:
    """It says how to change that."""
    status = assemble(view(documents=snapshot()), NOW)
    (check,) = all_checks(status)
    assert (check.name, check.subject, check.level) == ("no-pair", "s1", Level.DEGRADED)
    assert "proxypool pair add s1" in check.message


def draining_view(*pairs: PairSpec, connections: int | None = 5) -> PoolView:
    documents = snapshot(pairs=pairs, hosts=[host()], elections={"s1/p1": candidates("n1", "n2")})
    return view(replace(MASTER, connections=connections), BACKUP, documents=documents)


def test_a_pair_that_drains_is_no_alarm_and_shows_what_is_left() -> None:
    """Not while another one takes new connections."""
    first, second = pair("p1", state=PairState.DRAINING, since=NOW - 182, weight=3), pair("p2")
    status = assemble(draining_view(first, second), NOW)
    (found, other) = status.subnets[0].pairs
    assert (found.state, found.draining_since, found.connections_left, found.weight) == ("draining", NOW - 182, 5, 3)
    assert (other.state, other.draining_since, other.connections_left, other.weight) == ("active", None, None, 1)
    assert found.level is Level.OK
    assert status.subnets[0].checks == ()
    assert "draining s1/p1: for 3m2s, 5 connections left" in status_text(status, wide=False, colour=False)
    table = pair_table([(status.subnets[0], found)], NOW, wide=False)
    assert "draining 3m2s, 5 left" in table


def test_a_subnet_without_active_pair_is_named() -> None:
    """New connections have nowhere to go: it says how to change that."""
    status = assemble(draining_view(pair("p1", state=PairState.DRAINING, since=NOW - 60), connections=None), NOW)
    (check,) = status.subnets[0].checks
    assert (check.code, check.name, check.subject, check.level) == ("PP017", "no-active-pair", "s1", Level.DEGRADED)
    assert "proxypool pair undrain s1 p1" in check.message
    assert re.fullmatch(r"[^\n]{10,200}", check.message)
    assert "draining s1/p1: for 1m, connections left not known" in status_text(status, wide=False, colour=False)


def test_a_paused_pair_is_not_forgotten() -> None:
    """It is served, but not as the next failure may demand; the check says for how long and how to end it."""
    paused = replace(draining_view(pair("p1"), connections=None).snapshot.pairs["s1"]["p1"], paused_since=NOW - 90)
    status = assemble(draining_view(paused, connections=None), NOW)
    (check,) = [one for one in status.subnets[0].pairs[0].checks if one.code == "PP019"]
    assert (check.name, check.subject, check.level) == ("paused", "s1/p1", Level.DEGRADED)
    assert "paused for 90 s" in check.message
    assert "proxypool pair resume s1 p1" in check.message
    assert "paused 1m" in status_text(status, wide=True, colour=False)


def test_what_is_wrong_with_a_machine_or_document_is_said_once() -> None:
    """With the pool, not with every pair."""
    documents = snapshot(pairs=[pair()], elections={"s1/p1": candidates("n1", "n2")})
    documents = replace(documents, malformed={"/proxypool/p/subnets/s9": "not JSON"})
    seen = replace(
        view(MASTER, BACKUP, documents=documents), nodes_alive={"n1": alive("keepalived is not running"), "n2": alive()}
    )
    status = assemble(seen, NOW)
    assert [(check.name, check.subject) for check in status.checks] == [
        ("malformed-document", "/proxypool/p/subnets/s9"),
        ("node-problem", "nodes/n1"),
    ]
    assert status.subnets[0].level is Level.OK
    assert status.level is Level.DEGRADED


def test_a_hosts_problems_are_said_as_a_nodes_are() -> None:
    """A refused reload of its agent is one of them."""
    refusal = "the configuration was not read again, the old one stays in force: nonsense = 1"
    status = assemble(replace(view(MASTER, BACKUP), hosts_alive={"h1": alive(refusal, "no forwarding")}), NOW)
    assert [(check.code, check.subject, check.message) for check in status.checks] == [
        ("PP029", "hosts/h1", f"h1: {refusal}"),
        ("PP029", "hosts/h1", "h1: no forwarding"),
    ]
    assert (status.level, status.hosts[0].problems) == (Level.DEGRADED, (refusal, "no forwarding"))


def test_the_same_trouble_of_many_hosts_is_said_once() -> None:
    """A document that cannot be read troubles ten thousand; one that is no longer registered counts for nothing."""
    hosts = [host(f"h{number}", tunnel_address=f"100.64.0.{number}") for number in range(1, 5)]
    documents = snapshot(pairs=[pair()], hosts=hosts, elections={"s1/p1": candidates("n1", "n2")})
    words = {"h4": ("x",), "h2": ("x", "y"), "h3": ("x",), "h1": ("y",), "gone": ("z",)}
    seen = replace(
        view(MASTER, BACKUP, documents=documents), hosts_alive={name: alive(*told) for name, told in words.items()}
    )
    assert [(check.subject, check.message) for check in assemble(seen, NOW).checks] == [
        ("hosts/h1", "h1 and 1 other host: y"),
        ("hosts/h2", "h2 and 2 other hosts: x"),
    ]


@pytest.mark.parametrize("state", ["ok", "starting", None])
def test_members_in_step_have_nothing_to_say(state: str | None) -> None:
    """None: the pair has no egress address."""
    found = assemble(view(replace(MASTER, sync=state), replace(BACKUP, sync=state)), NOW)
    assert codes(found) == []


@pytest.mark.parametrize("state", ["unheard", "hung", "down", "a word of a later version"])
def test_a_sync_that_does_not_work_is_degraded_and_says_what_to_do(state: str) -> None:
    """The pair serves; the next failover would break its connections."""
    found = assemble(view(replace(MASTER, sync="ok"), replace(BACKUP, sync=state)), NOW)
    (check,) = all_checks(found)
    assert (check.code, check.subject, check.level) == ("PP018", "s1/p1/n2", Level.DEGRADED)
    assert "would not survive" in check.message
    assert "log" in check.message
    assert found.subnets[0].pairs[0].members[1].sync == state


def test_a_dead_members_silence_has_a_check_already() -> None:
    found = assemble(view(replace(MASTER, sync="unheard"), living=("n1",)), NOW)
    assert "state-not-synced" not in codes(found)


def test_codes_are_stable_and_unique() -> None:
    """Scripts and runbooks rely on them. Add to this list, never change it."""
    assert [kind.value[:2] for kind in Code] == [
        ("PP001", "no-master"),
        ("PP002", "two-masters"),
        ("PP003", "no-backup"),
        ("PP004", "elected-not-master"),
        ("PP005", "havip-mismatch"),
        ("PP006", "member-unfit"),
        ("PP007", "member-not-reporting"),
        ("PP008", "node-not-alive"),
        ("PP009", "malformed-document"),
        ("PP010", "stale-status"),
        ("PP011", "gate-mismatch"),
        ("PP012", "nobody-elected"),
        ("PP013", "node-problem"),
        ("PP014", "no-pair"),
        ("PP015", "conntrack-high"),
        ("PP016", "taking-over"),
        ("PP017", "no-active-pair"),
        ("PP018", "state-not-synced"),
        ("PP019", "paused"),
        ("PP020", "egress-unanswered"),
        ("PP021", "no-controller"),
        ("PP022", "controller-silent"),
        ("PP023", "controller-problem"),
        ("PP024", "scaling-stuck"),
        ("PP025", "scaling-paused"),
        ("PP026", "at-max-pairs"),
        ("PP027", "mixed-versions"),
        ("PP028", "document-too-new"),
        ("PP029", "host-problem"),
    ]


def test_messages_are_one_line() -> None:
    """Every check fits a line of the table above the members."""
    worst_case = view(replace(MASTER, has_havip=False, gate=False, at=0.0), living=(), elected=("n2",))
    for check in all_checks(assemble(worst_case, NOW)):
        assert re.fullmatch(r"[^\n]{10,200}", check.message)


def test_the_document_is_versioned_and_plain() -> None:
    """`status -o json`: names of fields are part of the interface."""
    document = json.loads(json.dumps(to_builtins(assemble(view(MASTER, BACKUP), NOW))))
    assert (document["apiVersion"], document["kind"], document["pool"]) == ("proxypool/v1", "PoolStatus", "p")
    assert document["tunnel_range"] == "100.64.0.0/10"
    found = document["subnets"][0]["pairs"][0]
    assert set(found["members"][0]) >= {"node", "elected", "role", "vrrp", "gate", "has_havip", "health", "epoch"}
    assert found["havip"] == "192.168.4.100"


def test_order_is_stable() -> None:
    """By name, whatever the order of the documents."""
    subnets = [subnet("s2", "10.2.0.0/24", key=2), subnet("s1"), subnet("s3", "10.3.0.0/24", key=3)]
    status = assemble(view(documents=snapshot(subnets=subnets, pairs=[pair("b"), pair("a")])), NOW)
    assert [one.id for one in status.subnets] == ["s1", "s2", "s3"]
    assert [one.id for one in status.subnets[0].pairs] == ["a", "b"]


def test_the_worst_of_nothing_is_ok() -> None:
    """And levels are ordered by meaning, not by name."""
    assert worst([]) is Level.OK
    assert worst([Level.OK, Level.CRITICAL, Level.DEGRADED]) is Level.CRITICAL
    assert worst([Level.OK, Level.DEGRADED]) is Level.DEGRADED
