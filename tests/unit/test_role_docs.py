"""docs/role-machine.md is what the machine is."""

from __future__ import annotations

import re

from proxypool.core.role import TRANSITIONS, Trigger
from tools.gen_role_docs import PICTURE, TARGET, picture, render


def test_the_page_and_its_picture_are_not_stale() -> None:
    assert TARGET.read_text() == render(), "write it again: python tools/gen_role_docs.py"
    assert PICTURE.read_text() == picture(), "write it again: python tools/gen_role_docs.py"


def test_every_change_of_role_is_in_the_picture() -> None:
    """As many arrows as changes, each with the numbers of the rows that make it; and the one that begins."""
    changes: dict[tuple[str, str], list[int]] = {}
    for (role, trigger), new in TRANSITIONS.items():
        if role is not new:
            changes.setdefault((role, new), []).append(list(Trigger).index(trigger) + 1)
    drawn = re.findall(r'class="why"[^>]*>([^<]*)<', picture())
    assert sorted(drawn) == sorted(", ".join(map(str, numbers)) for numbers in changes.values())
    assert picture().count('class="edge"') == len(changes) + 1
