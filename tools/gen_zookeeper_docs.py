# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/zookeeper.md from the layout and the documents: `python tools/gen_zookeeper_docs.py`.

tests/unit/test_reference_docs.py fails when the page is stale, or a path of the layout is not on it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.adapters.zookeeper import layout  # noqa: E402 - the checkout must be found first
from proxypool.adapters.zookeeper.layout import CONTROLLERS, LAYOUT_VERSION, REPORT, Layout  # noqa: E402
from proxypool.core.access import ALL, CONTROLLER, HOST, NODE, RULES, Access, Rule  # noqa: E402
from proxypool.core.history import Intent, Record  # noqa: E402
from proxypool.core.model import (  # noqa: E402
    Alive,
    HostSpec,
    MemberSpec,
    MemberStatus,
    NodeSpec,
    PairSpec,
    PoolSpec,
    SubnetSpec,
)
from proxypool.core.scaling.documents import Action, ControllerAlive, NodeOrders, Report, Spares, SubnetVerdict  # noqa: E402
from proxypool.core.scaling.model import ScalingSpec  # noqa: E402
from tools.struct_docs import cell, fields, one_line, wrapped  # noqa: E402

TARGET = ROOT / "docs" / "reference" / "zookeeper.md"
WRITERS = {
    "version": "`pool init`, and every edit",
    "spec": "`pool init`, `pool apply`",
    "access": "`pool secure`",
    "subnets/<subnet>": "`subnet add`, `scale set`, `pool apply`",
    "subnets/<subnet>/pairs/<pair>": "`pair add`, `pair set`, …; the controller",
    "subnets/<subnet>/spares": "`subnet spare`, `pool apply`",
    "nodes/<node>/orders": "`node cordon`, `node drain`",
    "subnets/<subnet>/pairs/<pair>/switchover": "`pair switchover`",
    "nodes/<node>": "the node's daemon",
    "nodes/<node>/alive": "the node's daemon",
    "subnets/<subnet>/pairs/<pair>/status/<node>": "the node's daemon",
    "subnets/<subnet>/pairs/<pair>/election/<node>-##########": "the node's daemon; `pair switchover`",
    "hosts/<host>": "the host's agent",
    "hosts/<host>/alive": "the host's agent",
    "subnets/<subnet>/hosts/<host>": "the host's agent",
    "history/<ms>_<subnet>_<pair>_<node>": "the new master's daemon; the controller",
}
"""Path → who writes it; all others are the controller's."""
DOCUMENTS: tuple[type[Struct], ...] = (
    *(PoolSpec, Access, SubnetSpec, ScalingSpec, PairSpec, MemberSpec, Spares, NodeOrders, NodeSpec, HostSpec, Alive),
    *(MemberStatus, Intent, Record, Action, ControllerAlive, Report, SubnetVerdict),
)
EPHEMERAL = "; ephemeral"


def paths() -> dict[str, str]:
    """Path below the pool → what is there, in the words of the layout."""
    found = {
        "version": f"The layout's version, now {LAYOUT_VERSION}",
        "spec": "PoolSpec",
        "access": "Access",
        f"{CONTROLLERS}/<controller>-##########": f"ControllerAlive of candidates, the first leads{EPHEMERAL}",
        REPORT: "Report of the leading controller",
        "subnets/<subnet>/pairs/<pair>/election/<node>-##########": (
            f"Candidates, the first of which is elected; the czxid is the epoch{EPHEMERAL}"
        ),
    }
    for name, function in vars(layout).items():
        if name.endswith("_suffix") and name not in {"election_suffix", "statuses_suffix"}:
            found[_path(name, function)] = one_line(function.__doc__ or "").removesuffix(".")
    return dict(sorted(found.items()))


def _path(name: str, function: Callable[..., str]) -> str:
    """The path that a function makes, with the names of its arguments."""
    if name == "action_suffix":
        return function(("<subnet>", "<pair>"))
    if name == "record_suffix":
        return function("<ms>_<subnet>_<pair>_<node>")
    return function(*(f"<{argument}>" for argument in inspect.signature(function).parameters))


def render() -> str:
    """The whole page."""
    rows = "".join(_row(path, words) for path, words in paths().items())
    return f"""# ZooKeeper layout

Written by `tools/gen_zookeeper_docs.py` from `proxypool/adapters/zookeeper/layout.py` and the documents' types; do not
edit.

All of a pool is below `{Layout("<pool>").root}`. Documents are JSON; each has a `v`, and fields that a version does not
know are kept when it writes a document again. One that cannot be read stops nobody: the last good one stays in force,
and `status` shows [PP009](../runbooks/checks/PP009.md). Times are seconds since the epoch unless they say otherwise.

| path | holds | ephemeral | written by |
| --- | --- | --- | --- |
{rows}
Whoever edits the pool commits together with its `version`, so two edits at the same time cannot contradict each other.

## Access

What `proxypool pool secure` gives each node, from `proxypool/core/access.py`. Of ZooKeeper's permissions `c` is to
create below it, `d` to delete below it, `r` to read it, `w` to change its data, `a` to change its access list; whether
a node may be deleted is its parent's business. The administrator has all five everywhere, and everybody who has a
secret may read. How to begin: [securing the control plane](../how-to/secure-the-control-plane.md).

| path | controller | node | host | its own host | |
| --- | --- | --- | --- | --- | --- |
{"".join(_access_row(rule) for rule in RULES)}
A path that this version does not know is the administrator's alone to change. "Its own host" is the one whose key the
entry belongs to; where that is not known, every host may do the same. A child `held` can be deleted by its owner alone,
and ZooKeeper deletes nothing that has children.

{"".join(_document(kind) for kind in DOCUMENTS)}"""


def _row(path: str, words: str) -> str:
    is_ephemeral = words.endswith(EPHEMERAL)
    what = words.removesuffix(EPHEMERAL)
    names = {kind.__name__ for kind in DOCUMENTS}
    first, _, rest = what.partition(" ")
    if first.rstrip(".") in names:
        name = first.rstrip(".")
        what = f"[{name}](#{name.lower()}){first[len(name) :]}{' ' if rest else ''}{rest}"
    return f"| `{path}` | {what} | {'yes' if is_ephemeral else ''} | {WRITERS.get(path, 'the controller')} |\n"


def _access_row(rule: Rule) -> str:
    cells = [
        "".join(one for one in ALL if one in {"r", *rule.grants.get(role, "")}) for role in (CONTROLLER, NODE, HOST)
    ]
    path = f"`{rule.path}`" if rule.path else "the pool's own node"
    return f"| {path} | {' | '.join(cells)} | {rule.owner} | {rule.why} |\n"


def _document(kind: type[Struct]) -> str:
    rows = "".join(
        f"| `{one.name}` | {cell(one.kind)} | {cell(one.default)} | {cell(one.meaning)} |\n"
        for one in fields(kind)
        if one.name != "v"
    )
    text = wrapped(one_line(kind.__doc__ or ""))
    return f"\n## {kind.__name__}\n\n{text}\n\n| field | | default | |\n| --- | --- | --- | --- |\n{rows}"


if __name__ == "__main__":
    TARGET.write_text(render())
