# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/metrics.md from what the daemons export: `python tools/gen_metrics_docs.py`.

`tests/static/test_metrics.py` fails when the file is stale.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.metric_pages import (  # noqa: E402 - the checkout must be found first
    controller_page,
    families,
    host_page,
    node_page,
    series_of,
)

TARGET = ROOT / "docs" / "reference" / "metrics.md"
HEAD = """# Metrics

Written by `tools/gen_metrics_docs.py` from what the daemons export; do not edit.

Every daemon serves `/metrics` (Prometheus' text format 0.0.4, gzip if accepted) where `[metrics] listen` says; default
127.0.0.1, port 9477 on a node, 9478 on a host, 9479 for a controller. On a loopback address nobody else can ask: a
Prometheus on another machine needs an address of the underlay, as `listen = "0.0.0.0:9477"`.

How Prometheus finds the daemons, and the rules and alerts: [prometheus/README.md](../../prometheus/README.md).

**Labels** are `subnet`, `pair`, `node` and closed sets of words. None is a flow, a destination, an instance or a host's
address. A scrape configuration adds `pool`, `role` (node, host, controller) and `node` (the daemon's name); `role` and
`node` of a metric of ours win over those, which is `honor_labels: true`.

**How many series**: a node has about {per_subnet} for each subnet it is in a pair of, and {of_node} besides. A host has
{of_host}, and one more for each pair whose HaVip is silent; what is attached to it makes no difference. A leading
controller has {per_scaled} for each scaled subnet, one for each pair and node of the pool, and {of_controller} besides.
What is not known has no series: neither 0 nor NaN.

**What it costs**: a scrape of a node with 200 subnets, some 14,000 lines, takes the daemon less than 100 ms.
"""


@dataclass
class Entry:
    """One metric, whoever exports it."""

    kind: str
    text: str
    labels: set[str] = field(default_factory=set)
    daemons: list[str] = field(default_factory=list)


def entries() -> dict[str, Entry]:
    """By name, with `_total` where it is a counter."""
    found: dict[str, Entry] = {}
    for daemon, family in families():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        entry = found.setdefault(name, Entry(family.type, family.documentation))
        entry.daemons.append(daemon.value)
        for sample in family.samples:
            entry.labels |= set(sample.labels) - {"le"}
    return found


UNITS = ("seconds", "bytes", "packets", "entries", "pairs", "ports", "documents", "records", "nodes", "connections")
_ORDER = ("subnet", "pair", "node")


def unit_of(name: str, kind: str) -> str:
    """In words, from the name: base units are its last word but for `_total`."""
    base = name.removesuffix("_total")
    if base.endswith("timestamp_seconds"):
        return "seconds since 1970"
    for numerator in ("bytes", "packets", "connections"):
        if base.endswith(f"{numerator}_per_second"):
            return f"{numerator} per second"
    last = base.rsplit("_", 1)[-1]
    if last in UNITS:
        return last
    return "count" if kind == "counter" else ""


def render() -> str:
    """The whole page."""
    found = entries()
    text = HEAD.format(**_sizes())
    sections = (
        ("Of every daemon", lambda entry: len(entry.daemons) == 3),  # noqa: PLR2004 - node, host, controller
        ("Of nodes and hosts", lambda entry: entry.daemons == ["node", "host"]),
        ("Of nodes", lambda entry: entry.daemons == ["node"]),
        ("Of hosts", lambda entry: entry.daemons == ["host"]),
        ("Of controllers", lambda entry: entry.daemons == ["controller"]),
    )
    written = 0
    for title, belongs in sections:
        rows = {name: entry for name, entry in sorted(found.items()) if belongs(entry)}
        written += len(rows)
        text += f"\n## {title}\n\n| name | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n"
        text += "".join(_row(name, entry) for name, entry in rows.items())
    if written != len(found):
        raise ValueError("a metric of another set of daemons than the sections know")
    return text


def _row(name: str, entry: Entry) -> str:
    labels = sorted(entry.labels, key=lambda label: (_ORDER.index(label) if label in _ORDER else len(_ORDER), label))
    words = ", ".join(f"`{label}`" for label in labels)
    meaning = entry.text.replace("|", r"\|")
    return f"| `{name}` | {entry.kind} | {unit_of(name, entry.kind)} | {words} | {meaning} |\n"


def _sizes() -> dict[str, int]:
    node = [series_of(node_page(subnets)) for subnets in (1, 2)]
    controller = [series_of(controller_page(subnets, nodes=1)) for subnets in (1, 2)]
    per_subnet, per_scaled = node[1] - node[0], controller[1] - controller[0] - 1
    return {
        "per_subnet": per_subnet,
        "of_node": node[0] - per_subnet,
        "of_host": series_of(host_page(subnets=0)),
        "per_scaled": per_scaled,
        "of_controller": controller[0] - per_scaled - 2,
    }


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render())
