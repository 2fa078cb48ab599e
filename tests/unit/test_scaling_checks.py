"""What `status` says about scaling: codes, and what they are about."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from proxypool.core.assembly import assemble
from proxypool.core.checks import Check, Level
from proxypool.core.model import Alive, MemberStatus, Snapshot
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.checks import LONG_S, STUCK_S
from proxypool.core.scaling.documents import Action, ActionKind, NodeOrders, Report, Step, SubnetVerdict
from proxypool.core.scaling.model import ScalingMode, ScalingSpec
from proxypool.core.scaling.overview import OLD_S
from proxypool.core.status import all_checks
from tests.unit.builders import candidates, host, pair, snapshot, subnet

NOW = 10_000.0
ENFORCED = ScalingSpec(min_pairs=1, max_pairs=2, mode=ScalingMode.ENFORCE)
CALM = SubnetVerdict(active=1, wanted=1, asked=1, cause="load", signal="bytes", load={"bytes": 0.1})
AT_MAX = replace(CALM, wanted=2, asked=5, cause="max-pairs")
ACTION = Action(
    id="1-s1",
    kind=ActionKind.ADD,
    subnet="s1",
    pair="p2",
    step=Step.ACQUIRE,
    reason="load",
    began=NOW - 1000,
    step_since=NOW - 1000,
)


def documents(scaling: ScalingSpec | None) -> Snapshot:
    """s1 with one pair."""
    return snapshot(
        subnets=[replace(subnet(), scaling=scaling)], pairs=[pair()], elections={"s1/p1": candidates("n1", "n2")}
    )


def checks(
    scaling: ScalingSpec | None = ENFORCED,
    *,
    verdict: SubnetVerdict | None = CALM,
    action: Action | None = None,
    age_s: float = 2.0,
    controllers: int = 1,
    problems: tuple[str, ...] = (),
) -> list[Check]:
    """Of a pool whose only pair is served."""
    alive = Alive(underlay=host().underlay, at=NOW)
    served = {
        name: MemberStatus(
            node=name, role=role, vrrp=role, gate=role == "master", has_havip=role == "master", at=NOW, since=NOW - 60
        )
        for name, role in (("n1", "master"), ("n2", "backup"))
    }
    report = Report(leader="ctl-1", at=NOW - age_s, subnets={"s1": verdict} if verdict else {}, problems=problems)
    view = PoolView(
        pool="p",
        snapshot=documents(scaling),
        statuses={"s1/p1": served},
        nodes_alive={"n1": alive, "n2": alive},
        actions=(action,) if action else (),
        report=report if age_s >= 0 else None,
        controllers=controllers,
    )
    return list(all_checks(assemble(view, NOW)))


def told(found: list[Check]) -> list[tuple[str, str]]:
    return [(check.code, check.subject) for check in found]


def test_a_pool_that_is_scaled_as_it_should_be_has_nothing_to_say() -> None:
    """Also one that nobody scales, where nothing is to be scaled."""
    assert checks() == []
    assert checks(None, controllers=0, age_s=-1.0) == []
    assert checks(ScalingSpec(mode=ScalingMode.OFF), controllers=0) == []


@pytest.mark.parametrize(
    ("found", "expected", "message"),
    [
        (checks(controllers=0), [("PP021", "controller")], "start one with `proxypool run controller`"),
        (checks(controllers=0, age_s=-1.0), [("PP021", "controller")], "pairs go on as they are"),
        (checks(age_s=-1.0), [("PP022", "controller")], "has not reported yet"),
        (checks(age_s=OLD_S + 1), [("PP022", "controller")], "last reported 91 s ago"),
        (checks(problems=("no quota",)), [("PP023", "controller")], "ctl-1: no quota"),
        (checks(verdict=replace(CALM, blocked="no node")), [("PP024", "s1")], "cannot be changed: no node"),
        (checks(replace(ENFORCED, paused_since=NOW - 90)), [("PP025", "s1")], "proxypool scale resume s1"),
        (
            checks(replace(ENFORCED, paused_since=NOW - 90), verdict=replace(AT_MAX, blocked="paused")),
            [("PP025", "s1")],
            "",
        ),
        (checks(verdict=AT_MAX), [("PP026", "s1")], "asks for 5 pairs and 2 are allowed"),
    ],
)
def test_what_is_wrong_and_what_to_do(found: list[Check], expected: list[tuple[str, str]], message: str) -> None:
    """Each is degraded: pairs go on as they are."""
    assert told(found) == expected
    assert {check.level for check in found} == {Level.DEGRADED}
    assert message in found[0].message
    assert len(found[0].message) <= 200


def test_a_leaders_problems_are_told_although_nothing_is_scaled() -> None:
    """A refused reload is one. Whether it runs at all matters to nobody there."""
    assert told(checks(None, problems=("no quota",))) == [("PP023", "controller")]
    assert checks(None, problems=("no quota",), age_s=OLD_S + 1) == []
    assert checks(None, problems=("no quota",), controllers=0) == []


def test_what_an_old_report_says_is_no_finding() -> None:
    """Only that it is old."""
    assert told(checks(verdict=replace(AT_MAX, blocked="no node"), age_s=400.0)) == [("PP022", "controller")]


def test_the_limit_is_a_finding_only_where_more_would_be_added() -> None:
    """In mode observe nobody would."""
    assert checks(replace(ENFORCED, mode=ScalingMode.OBSERVE), verdict=AT_MAX) == []


@pytest.mark.parametrize(
    ("action", "is_stuck"),
    [
        (replace(ACTION, step_since=NOW - STUCK_S + 1, error="quota", attempts=3), False),
        (replace(ACTION, step_since=NOW - STUCK_S - 1, error="quota", attempts=3), True),
        (replace(ACTION, step_since=NOW - LONG_S + 1), False),
        (replace(ACTION, step_since=NOW - LONG_S - 1), True),
        (replace(ACTION, step=Step.WAIT, step_since=NOW - 3000), False),
    ],
)
def test_an_action_that_does_not_go_on(action: Action, is_stuck: bool) -> None:  # noqa: FBT001 - a parameter
    """With its error. To wait for connections to end may take long."""
    found = checks(action=action)
    assert told(found) == ([("PP024", "s1/p2")] if is_stuck else [])
    if is_stuck and action.error:
        assert found[0].message.endswith("3 attempts: quota")


def test_what_waits_for_its_turn_is_no_finding() -> None:
    """It begins by itself. What cannot is told also while another action is under way, as a drain may be for an hour."""
    assert checks(verdict=replace(CALM, waits="its turn comes")) == []
    draining = replace(ACTION, kind=ActionKind.DRAIN, step=Step.WAIT)
    assert told(checks(verdict=replace(CALM, blocked="no node"), action=draining)) == [("PP024", "s1")]


def test_a_stuck_action_is_told_although_no_controller_runs() -> None:
    """And in a subnet that is not managed any more."""
    assert told(checks(action=ACTION, controllers=0)) == [("PP021", "controller"), ("PP024", "s1/p2")]
    assert told(checks(None, action=ACTION)) == [("PP024", "s1/p2")]


def test_orders_stand_with_the_node() -> None:
    """Who said so, and why."""
    view = PoolView(
        pool="p",
        snapshot=documents(None),
        orders={"n1": NodeOrders(cordoned_since=5.0, draining_since=6.0, who="ann@ops", reason="fire")},
    )
    first, second = assemble(view, NOW).nodes
    assert (first.cordoned_since, first.draining_since, first.ordered_by, first.order_reason) == (
        5.0,
        6.0,
        "ann@ops",
        "fire",
    )
    assert second.cordoned_since is None
