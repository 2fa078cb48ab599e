# ruff: noqa: INP001 - tools are no package
"""Write docs/role-machine.md from the role machine itself: `python tools/gen_role_docs.py`.

`tests/unit/test_role_docs.py` fails when the file is stale.
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
    TRANSITIONS,
    Coordinator,
    MemberState,
    Role,
    Trigger,
    Vrrp,
    decide,
)

TARGET = ROOT / "docs" / "role-machine.md"
HEAD = """# The role machine

Written by `tools/gen_role_docs.py` from `proxypool/core/role.py`, whose text holds the theory; do not edit.

## Transitions

A row is what moves a role, a column the role before, a cell the role after; `.` stays, empty cannot happen.

"""
DEMANDS = """
## What a role demands

| role | gate |
| --- | --- |
"""
PRIORITIES = """
## What a situation demands

| situation | track file | VRRP priority | election |
| --- | --- | --- | --- |
"""


def render() -> str:
    """The whole page."""
    return HEAD + _table() + "\n" + _diagram() + DEMANDS + _gates() + PRIORITIES + _situations()


def _table() -> str:
    rows = [["", *Role], ["---"] * (len(Role) + 1)]
    rows += [[trigger.value, *(_cell(role, trigger) for role in Role)] for trigger in Trigger]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(role: Role, trigger: Trigger) -> str:
    new = TRANSITIONS.get((role, trigger))
    if new is None:
        return ""
    return "." if new is role else f"**{new}**"


def _diagram() -> str:
    reasons: dict[tuple[Role, Role], list[str]] = {}
    for (role, trigger), new in TRANSITIONS.items():
        if role is not new:
            reasons.setdefault((role, new), []).append(trigger.value)
    edges = "".join(f"    {role} --> {new}: {'<br>'.join(why)}\n" for (role, new), why in reasons.items())
    return f"```mermaid\nstateDiagram-v2\n    [*] --> {Role.INIT}\n{edges}```\n"


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
    situations = {
        "before the first look at its health": replace(fit, health=None),
        "cannot serve": replace(fit, health=frozenset({"reason"})),
        "fit, elected": fit,
        "fit, the other is elected": other,
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
