# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/checks.md and the lists of runbooks of checks, doctor and upgrade-check.

`python tools/gen_check_docs.py`. What a code means is the first paragraph of its runbook.
tests/unit/test_reference_docs.py fails when a page is stale.
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.core import checks, upgrade  # noqa: E402 - the checkout must be found first
from proxypool.core.checks import Check, Code, Level  # noqa: E402
from proxypool.core.doctor import codes as doctor  # noqa: E402
from proxypool.core.scaling import checks as scaling  # noqa: E402
from tools.struct_docs import attribute_docs, cell, one_line, wrapped  # noqa: E402

RUNBOOKS = ROOT / "docs" / "runbooks"
AnyCode: TypeAlias = Code | doctor.Code | upgrade.Code
FOLDERS: dict[type[Enum], Path] = {
    Code: RUNBOOKS / "checks",
    doctor.Code: RUNBOOKS / "doctor",
    upgrade.Code: RUNBOOKS / "upgrade",
}
REFERENCE = ROOT / "docs" / "reference" / "checks.md"
WRITTEN = "Written by `tools/gen_check_docs.py` from"


def pages() -> dict[Path, str]:
    """Every page that is written, with its text."""
    texts = {Code: _checks(), doctor.Code: _doctor(), upgrade.Code: _upgrade()}
    return {REFERENCE: _reference(), **{FOLDERS[kind] / "index.md": text for kind, text in texts.items()}}


def runbook_of(code: AnyCode) -> Path:
    """Where the runbook of a check, or of a finding of doctor or upgrade-check, is."""
    return FOLDERS[type(code)] / f"{code.value[0]}.md"


def meaning_of(code: AnyCode) -> str:
    """The first paragraph of its runbook."""
    text = runbook_of(code).read_text()
    return one_line(text.split("\n\n")[1])


def _reference() -> str:
    subjects = one_line(attribute_docs(Check)["subject"])
    levels = one_line((Level.__doc__ or "").removeprefix("How bad. "))
    rows = "".join(
        f"| [{number}](../runbooks/checks/{number}.md) | `{name}` | {level} |\n" for number, name, level in _codes()
    )
    return f"""# Checks

{WRITTEN} `proxypool/core/checks.py`; do not edit.

What `proxypool status` can find wrong. Codes and names never change their meaning and are never used again, so scripts
and runbooks may rely on them.

{wrapped(levels)}

In `status -o json` a check has `code`, `name`, `level`, `message` and `subject`:
{wrapped(subjects)}

The level of a pair, a subnet and the pool is the worst of its checks; `status --exit-code` ends with 3 for degraded and
4 for critical.

| code | name | level |
| --- | --- | --- |
{rows}
## Limits

| | |
| --- | --- |
| a member's status is stale (PP010) after | {checks.STALE_AFTER_S:g} s |
| two masters are told as a takeover (PP016) for | {checks.TAKEOVER_S:g} s |
| a connection table is high (PP015) from | {checks.CONNTRACK_HIGH:.0%} |
| an action that fails is stuck (PP024) after | {scaling.STUCK_S:g} s |
| one that does not fail, but for waiting for connections, after | {scaling.LONG_S:g} s |
"""


def _checks() -> str:
    return f"""# Runbooks of checks

{WRITTEN} `proxypool/core/checks.py` and the pages themselves; do not edit.

`proxypool status` prints what is wrong, each with a code; `proxypool explain PP007` prints its page on the terminal.
See to critical ones first: something is not served, or not safely.

{_list_of(Code, "level")}"""


def _doctor() -> str:
    return f"""# Runbooks of doctor

{WRITTEN} `proxypool/core/doctor/codes.py` and the pages themselves; do not edit.

`proxypool doctor` looks whether a machine can do its part, and prints what is wrong with what helps. The severity is
the usual one; what matters less for a machine is told as less. `proxypool explain PD013` prints a page on the terminal.

{_list_of(doctor.Code, "severity")}"""


def _upgrade() -> str:
    return f"""# Runbooks of upgrade-check

{WRITTEN} `proxypool/core/upgrade.py` and the pages themselves; do not edit.

`proxypool upgrade-check` says whether the pool is ready for a [rolling upgrade](../../how-to/upgrade.md). What blocks
is to be seen to first; a note is to be known. `proxypool explain PU002` prints a page on the terminal.

{_list_of(upgrade.Code, "weight")}"""


def _list_of(kind: type[AnyCode], grade: str) -> str:
    rows = "".join(
        f"| [{code.value[0]}]({code.value[0]}.md) | `{code.value[1]}` | {code.value[2]} | {cell(meaning_of(code))} |\n"
        for code in kind
    )
    return f"| code | name | {grade} | |\n| --- | --- | --- | --- |\n{rows}"


def _codes() -> list[tuple[str, str, Level]]:
    return [code.value for code in Code]


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
