"""docs/role-machine.md is what the machine is."""

from __future__ import annotations

from proxypool.core.role import TRANSITIONS, Role
from tools.gen_role_docs import TARGET, render


def test_the_page_is_not_stale() -> None:
    assert TARGET.read_text() == render(), "write it again: python tools/gen_role_docs.py"


def test_every_change_of_role_is_in_the_diagram() -> None:
    page = render()
    for (role, trigger), new in TRANSITIONS.items():
        if role is not new:
            (edge,) = [line for line in page.splitlines() if line.startswith(f"    {role} --> {new}: ")]
            assert trigger.value in edge
    assert f"[*] --> {Role.INIT}" in page
