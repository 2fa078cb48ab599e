"""A pair that is being prepared: no host chooses it, nobody misses it, and nothing of it is a risk."""

from __future__ import annotations

from typing import Any, cast

import pytest

from proxypool.cli.drain_texts import addition_steps, drain_steps, removal_steps
from proxypool.cli.views import pair_table, status_text
from proxypool.core.assembly import assemble
from proxypool.core.checks import Level
from proxypool.core.draining import Left, drain_refusals, egress_refusals, removal_refusals, undrained
from proxypool.core.model import Alive, MemberStatus, PairSpec, PairState
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.shares import usable
from proxypool.core.status import PoolStatus, all_checks
from proxypool.daemons.steerer import Steerer
from tests.unit.builders import N1, N2, candidates, host, member, pair, snapshot

NOW = 10_000.0
PREPARING = pair(
    "p2",
    havip="192.168.4.101",
    vrid=2,
    members=(member("n3", "172.16.101.13/24"), member("n4", "172.16.101.14/24")),
    state=PairState.PREPARING,
)
ACTIVE, DRAINING = pair("p1"), pair("p1", state=PairState.DRAINING, since=NOW - 60)
ADDING = Action(
    id="1-s1",
    kind=ActionKind.ADD,
    subnet="s1",
    pair="p2",
    step=Step.READY,
    reason="load",
    began=NOW - 20,
    step_since=NOW - 10,
)


def status_of(*pairs: PairSpec, roles: dict[str, str], action: Action | None = ADDING) -> PoolStatus:
    """The pool with these pairs, of which members publish these roles."""
    published: dict[str, dict[str, MemberStatus]] = {}
    for one in pairs:
        for place in one.members:
            role = roles.get(place.node)
            if role is not None:
                is_master = role == "master"
                published.setdefault(f"s1/{one.id}", {})[place.node] = MemberStatus(
                    node=place.node, role=role, vrrp=role, gate=is_master, has_havip=is_master, at=NOW, since=NOW - 60
                )
    documents = snapshot(pairs=pairs, hosts=[host()], elections={"s1/p1": candidates("n1", "n2")})
    alive = {name: host_alive() for name in ("n1", "n2", "n3", "n4")}
    actions = () if action is None else (action,)
    return assemble(PoolView(pool="p", snapshot=documents, statuses=published, nodes_alive=alive, actions=actions), NOW)


def host_alive() -> Alive:
    return Alive(underlay=host().underlay, at=NOW)


def codes(status: PoolStatus) -> list[str]:
    return [check.code for check in all_checks(status)]


SERVED = {"n1": "master", "n2": "backup"}


def test_it_is_no_fault_while_somebody_works_on_it() -> None:
    """Its members do not report yet, nobody is elected: all as it should be."""
    status = status_of(ACTIVE, PREPARING, roles=SERVED)
    assert (status.level, codes(status)) == (Level.OK, [])


def test_what_it_does_wrong_to_others_is_told() -> None:
    """Two masters of one HaVip disturb the network, whether hosts use it or not."""
    status = status_of(ACTIVE, PREPARING, roles={**SERVED, "n3": "master", "n4": "master"})
    assert "PP002" in codes(status)


def test_without_an_action_it_is_stuck() -> None:
    """The controller may have lost it: what to do is said."""
    status = status_of(ACTIVE, PREPARING, action=None, roles=SERVED)
    (check,) = all_checks(status)
    assert (check.code, check.subject, check.level) == ("PP024", "s1/p2", Level.DEGRADED)
    assert "proxypool pair remove s1 p2" in check.message


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((PREPARING,), "no pair is active yet, so new connections have nowhere to go: wait until"),
        ((DRAINING, PREPARING), "no pair is active yet, so new connections have nowhere to go: wait until"),
        ((DRAINING,), "every pair drains, so new connections have nowhere to go: add one"),
    ],
)
def test_it_does_not_count_as_active(pairs: tuple[PairSpec, ...], message: str) -> None:
    """A subnet of which no pair is active says so, and what helps."""
    found = [check for check in all_checks(status_of(*pairs, roles=SERVED)) if check.code == "PP017"]
    assert [check.message.startswith(message) for check in found] == [True]
    has_drain = any(one.state is PairState.DRAINING for one in pairs)
    assert ("proxypool pair undrain s1 p1" in found[0].message) is has_drain


def test_hosts_do_not_choose_it() -> None:
    """Not even as the only one."""
    assert [leg.havip for leg, _ in usable([ACTIVE, PREPARING], ())] == [ACTIVE.havip]
    assert usable([PREPARING], ()) == ()


def test_an_attach_does_not_wait_for_its_members() -> None:
    """They may take minutes to come up; those of active and of draining pairs are waited for."""
    nothing = cast("Any", None)
    elections = {"s1/p1": candidates("n1"), "s1/p2": candidates("n3")}
    steerer = Steerer((), False, 0.0, nothing, nothing, nothing, nothing, nothing, nothing)
    steerer.snapshot = snapshot(pairs=[ACTIVE, PREPARING], elections=elections)
    assert steerer._chosen_pairs("s1") == ("p1",)
    assert steerer._living_pairs("s1") == ("p1", "p2")


def test_to_drain_or_remove_it_is_no_risk() -> None:
    """It has no connections and takes none. But it is no other active pair to those that have."""
    pool = snapshot(pairs=[ACTIVE, PREPARING], hosts=[host()])
    assert drain_refusals(PREPARING, pool.pairs["s1"]) == ()
    assert removal_refusals("s1", "p2", pool, Left(None)) == ()
    assert [refusal.reason for refusal in drain_refusals(ACTIVE, pool.pairs["s1"])] == ["last-active"]
    assert [one.reason for one in removal_refusals("s1", "p1", pool, Left(0))] == ["last-active", "not-draining"]


def test_its_egress_address_may_change() -> None:
    """Nothing left with the old one yet."""
    spec = pair("p2", state=PairState.PREPARING, egress="172.16.101.100")
    assert egress_refusals(spec, None, Left(None), is_in_use=True) == ()


def test_undrain_does_not_open_it() -> None:
    """The controller does, when its members are ready."""
    assert undrained(PREPARING) is PREPARING
    assert undrained(DRAINING).state is PairState.ACTIVE


def test_dry_runs_say_that_it_has_no_connections() -> None:
    """And it is nowhere for new ones to go to, nor takes a share."""
    (subnet,) = status_of(ACTIVE, PREPARING, roles=SERVED).subnets
    active, preparing = subnet.pairs
    assert next(drain_steps(subnet, active, None)).startswith("new connections have nowhere to go")
    assert next(drain_steps(subnet, preparing, None)).startswith(
        "it is being prepared, so no host sends it connections"
    )
    assert list(removal_steps(subnet, preparing, is_drained_first=False))[-1] == (
        "it is being prepared: it has no connections"
    )
    new = pair("p3", members=(N1, N2), havip="192.168.4.102", vrid=3)
    assert list(addition_steps(subnet, new))[1].startswith("it gets 50 % of the new connections")


def test_tables_show_the_state() -> None:
    """As a word of its own, like draining."""
    status = status_of(ACTIVE, PREPARING, roles=SERVED)
    (subnet,) = status.subnets
    rows = pair_table([(subnet, one) for one in subnet.pairs], NOW, wide=False).splitlines()
    assert [row.split()[5] for row in rows] == ["STATE", "active", "preparing"]
    assert "preparing" in status_text(status, wide=True, colour=False)
