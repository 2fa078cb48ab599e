# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/exit-codes.md from the exit codes of the command line: `python tools/gen_exit_docs.py`.

tests/unit/test_reference_docs.py fails when the page is stale, or a code has no words here.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.cli.exits import ExitCode  # noqa: E402 - the checkout must be found first

TARGET = ROOT / "docs" / "reference" / "exit-codes.md"
WORDS = {
    ExitCode.OK: ("what was asked for is so", "go on"),
    ExitCode.FAILED: ("something was refused or went wrong; one line on standard error says what", "read it"),
    ExitCode.USAGE: ("the command does not exist as it was written", "`--help` of that command"),
    ExitCode.DEGRADED: (
        "`status --exit-code`: served, but the next failure may not be survived; `upgrade-check`: not ready",
        "[the check's runbook](../runbooks/checks/index.md)",
    ),
    ExitCode.CRITICAL: (
        "`status --exit-code`: something is not served, or not safely",
        "[the check's runbook](../runbooks/checks/index.md), now",
    ),
    ExitCode.TIMED_OUT: ("a wait took longer than `--timeout`; what was begun goes on", "wait again"),
    ExitCode.UNREACHABLE: ("ZooKeeper does not answer; traffic does not depend on it", "try another machine"),
    ExitCode.NOT_CONFIRMED: (
        "nobody said yes, or a risk was not accepted by its name; nothing was changed",
        "`--dry-run` shows what would be done; `--yes`, `--accept-risk`",
    ),
    ExitCode.DENIED: (
        "ZooKeeper or the host's agent refuses it to this user, or a file with a secret is open to others",
        "`PROXYPOOL_USER`, `PROXYPOOL_SECRET_FILE`: [the control plane](../how-to/secure-the-control-plane.md)",
    ),
    ExitCode.INTERRUPTED: ("Ctrl-C", "what was begun goes on"),
}


def render() -> str:
    """The whole page."""
    rows = "".join(f"| {code.value} | {' | '.join(WORDS[code])} |\n" for code in ExitCode)
    return f"""# Exit codes

Written by `tools/gen_exit_docs.py` from `proxypool/cli/exits.py`; do not edit.

Of every command, but `lab exec`, which ends with the code of what it ran.

| code | means | next |
| --- | --- | --- |
{rows}"""


if __name__ == "__main__":
    TARGET.write_text(render())
