"""The command to run next for each check: what a tired operator types when `status` shows it. Pure.

A command either shows more, or is the one way out. Nothing here changes a pool but what undoes an operator's own order.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

NODE_LOG = "journalctl -u proxypool-node -n 50"


class NextStep(Struct, frozen=True):
    """A command, and where to type it."""

    command: str
    on: str = ""
    """The machine; empty: wherever `proxypool` reaches the pool."""


_EXPLAIN = NextStep("proxypool explain {about}")
_NODE_LOG = NextStep(NODE_LOG, "{node}")
_STEPS: Mapping[str, NextStep] = {
    "no-master": _EXPLAIN,
    "two-masters": _EXPLAIN,
    "no-backup": _EXPLAIN,
    "elected-not-master": _EXPLAIN,
    "havip-mismatch": NextStep("systemctl status keepalived proxypool-node", "{node}"),
    "member-unfit": _EXPLAIN,
    "member-not-reporting": _NODE_LOG,
    "node-not-alive": NextStep("systemctl status proxypool-node", "{node}"),
    "malformed-document": NextStep("proxypool pool apply --dry-run FILE"),
    "stale-status": _NODE_LOG,
    "gate-mismatch": _NODE_LOG,
    "nobody-elected": _EXPLAIN,
    "node-problem": NextStep("proxypool explain {node}"),
    "no-pair": _EXPLAIN,
    "conntrack-high": NextStep("proxypool explain {subnet}"),
    "taking-over": NextStep("proxypool status {subnet} -w"),
    "no-active-pair": _EXPLAIN,
    "state-not-synced": _NODE_LOG,
    "paused": NextStep("proxypool pair resume {subnet} {pair}"),
    "egress-unanswered": _NODE_LOG,
    "no-controller": NextStep("systemctl start proxypool-controller", "a controller"),
    "controller-silent": NextStep("journalctl -u proxypool-controller -n 50", "the leading controller"),
    "controller-problem": NextStep("proxypool scale status"),
    "scaling-stuck": NextStep("proxypool explain {subnet}"),
    "scaling-paused": NextStep("proxypool scale resume {subnet}"),
    "mixed-versions": NextStep("proxypool upgrade-check"),
    "document-too-new": NextStep("proxypool upgrade-check"),
    "host-problem": NextStep("proxypool explain hosts/{host}"),
    "at-max-pairs": NextStep("proxypool scale set {subnet} --max N"),
}
"""By name of the check."""


def next_step(check: str, subject: str) -> NextStep:
    """What to run about a check on a subject; see `Check.subject` for its forms.

    Raises:
        KeyError: there is no such check.
    """
    step = _STEPS[check]
    parts = [*subject.split("/"), "", ""]
    of_machine = check in {"node-problem", "host-problem"}
    names = {
        "subnet": parts[0],
        "pair": parts[1],
        "host": parts[1],
        "node": parts[1] if of_machine else parts[2],
        "about": "/".join(part for part in parts[:2] if part),
    }
    return NextStep(step.command.format_map(names), step.on.format_map(names))
