# ruff: noqa: INP001 - tools are no package
"""Write docs/role-machine.md and its picture from the role machine itself: `python tools/gen_role_docs.py`.

`tests/unit/test_role_docs.py` fails when one of them is stale.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.core.keepalived import BASE_PRIORITY  # noqa: E402 - the checkout must be found first
from proxypool.core.model import Candidate  # noqa: E402
from proxypool.core.role import (  # noqa: E402
    PRIORITY_ASIDE,
    PRIORITY_ELECTED,
    TRANSITIONS,
    Caution,
    Coordinator,
    LeaseSeen,
    MemberState,
    Role,
    Trigger,
    Vrrp,
    decide,
)
from tools.role_diagram import draw  # noqa: E402

TARGET = ROOT / "docs" / "role-machine.md"
PICTURE = ROOT / "docs" / "assets" / "role-machine.svg"
HEAD = """# The role machine

Written by `tools/gen_role_docs.py` from `proxypool/core/role/`, whose text holds the theory; do not edit.

## Transitions

A row is what moves a role, a column the role before, a cell the role after; `.` stays, empty cannot happen.

"""
DIAGRAM = """
![Roles as boxes, changes as arrows with the numbers of the rows above](assets/role-machine.svg)
"""
DEMANDS = """
## What a role demands

| role | gate |
| --- | --- |
"""
PRIORITIES = """
## What a situation demands

A role's gate is closed all the same while its member stands aside or, in mode strict, has no lease. The mode is fast
and the pair is not paused unless it says so.

| situation | track file | VRRP priority | election |
| --- | --- | --- | --- |
"""


def render() -> str:
    """The whole page."""
    return HEAD + _table() + DIAGRAM + DEMANDS + _gates() + PRIORITIES + _situations()


def _table() -> str:
    rows = [["", *Role], ["---"] * (len(Role) + 1)]
    rows += [
        [f"{number}. {trigger.value}", *(_cell(role, trigger) for role in Role)]
        for number, trigger in enumerate(Trigger, 1)
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(role: Role, trigger: Trigger) -> str:
    new = TRANSITIONS.get((role, trigger))
    if new is None:
        return ""
    return "." if new is role else f"**{new}**"


def picture() -> str:
    """The table as boxes and arrows, with the numbers of the table's rows."""
    edges: dict[tuple[str, str], list[int]] = {}
    for (role, trigger), new in TRANSITIONS.items():
        if role is not new:
            edges.setdefault((role.value, new.value), []).append(list(Trigger).index(trigger) + 1)
    return draw(edges, Role.INIT.value)


def _gates() -> str:
    words = {None: "left as it is", True: "open", False: "closed"}
    return "".join(f"| {role} | {words[decide(MemberState('n1', role=role)).gate]} |\n" for role in Role)


def _situations() -> str:
    ours, theirs = (Candidate(node=name, epoch=1, session=1) for name in ("n1", "n2"))
    fit = MemberState(
        "n1",
        vrrp=Vrrp.BACKUP,
        role=Role.BACKUP,
        coordinator=Coordinator.CONNECTED,
        candidates=(ours,),
        health=frozenset(),
    )
    other = replace(fit, candidates=(theirs, ours))
    master = replace(fit, role=Role.MASTER, vrrp=Vrrp.MASTER, track=PRIORITY_ELECTED)
    chosen = Candidate(node="n1", epoch=1, session=1, is_chosen=True)
    strict = replace(
        fit, is_strict=True, role=Role.FAULT, vrrp=Vrrp.FAULT, track=PRIORITY_ASIDE, lease=LeaseSeen(1, 1.0)
    )
    situations = {
        "before the first look at its health": replace(fit, health=None),
        "cannot serve": replace(fit, health=frozenset({"reason"})),
        "fit, elected, master": master,
        "fit, elected, and no master is heard": fit,
        "fit, elected, but a living master is heard": replace(fit, held_since=0.0),
        "the same, and that one stands in the election too": replace(
            fit, candidates=(ours, theirs), held_since=0.0, is_yielding=True
        ),
        "the same, but an operator chose this member": replace(fit, candidates=(chosen, theirs)),
        "the same, and the breaker allows a claim": replace(fit, held_since=0.0, is_allowed=True),
        "fit, the other is elected": other,
        "fit, but unfit a moment ago (damped)": replace(other, caution=Caution.DAMPED),
        "fit, but about to find itself unfit (doubtful)": replace(other, caution=Caution.DOUBTFUL),
        "fit, but its keepalived has just started": replace(fit, caution=Caution.STARTING),
        "paused, master, whatever its health and the election say": replace(
            master, candidates=(theirs, ours), health=frozenset({"reason"}), is_paused=True
        ),
        "paused, backup, elected or not": replace(fit, is_paused=True),
        "strict, elected, with a lease, not yet master": replace(strict, is_permitted=True),
        "strict, elected, with a lease, master": replace(
            strict, is_permitted=True, role=Role.MASTER, vrrp=Vrrp.MASTER, track=PRIORITY_ELECTED
        ),
        "strict, elected, and the lease is over": strict,
        "strict, to give way to another that stands": replace(
            strict, candidates=(ours, theirs), health=frozenset({"reason"}), is_permitted=True, must_yield=True
        ),
        "strict, cannot serve, and nobody else stands": replace(
            strict, health=frozenset({"reason"}), is_permitted=True
        ),
        "strict, the other is elected": replace(strict, candidates=(theirs, ours)),
        "fit, nobody is elected": replace(fit, candidates=()),
        "fit, ZooKeeper is out of reach and the election was never read": replace(
            fit, coordinator=Coordinator.SUSPENDED, candidates=None
        ),
        "stands aside": replace(other, is_aside=True, vrrp=Vrrp.FAULT, track=PRIORITY_ASIDE),
        "nothing arrives on the underlay": replace(fit, is_deaf=True),
        "fit, keepalived has a fault of its own": replace(other, vrrp=Vrrp.FAULT, track=0),
        "fit, keepalived does not run": replace(other, vrrp=Vrrp.STOP),
        "fit, VRRP has not spoken": replace(other, vrrp=Vrrp.UNKNOWN),
    }
    return "".join(f"| {name} | {_demand(state)} |\n" for name, state in situations.items())


def _demand(state: MemberState) -> str:
    decision = decide(state)
    election = {None: "left as it is", True: "contends", False: "leaves"}[decision.contend]
    if decision.priority is None:
        return f"left as it is |  | {election}"
    effective = "fault" if decision.priority == PRIORITY_ASIDE else BASE_PRIORITY + decision.priority
    return f"{decision.priority} | {effective} | {election}"


if __name__ == "__main__":
    TARGET.write_text(render())
    PICTURE.write_text(picture())
