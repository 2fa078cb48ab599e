"""The dashboard and the code must speak of the same metrics."""

import json
import re
from pathlib import Path

from proxypool.telemetry.metrics import HostMetrics, HostView, NodeMetrics, NodeView
from proxypool.telemetry.use_metrics import NodeUse

DASHBOARDS = sorted((Path(__file__).parents[2] / "grafana").glob("*.json"))
SUFFIX = re.compile(r"_(bucket|count|sum)$")


def exported() -> set[str]:
    """Names of all metrics that the daemons can export, with the suffixes that queries use."""
    node = NodeMetrics(
        lambda: NodeView(
            members=(),
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.0,
            is_keepalived_up=True,
            is_keepalived_config_valid=True,
            malformed_documents=0,
        ),
        NodeUse,
    )
    host = HostMetrics(
        lambda: HostView(
            is_zookeeper_connected=True,
            zookeeper_silence_s=0.0,
            subnets_served=0,
            subnets_refused=0,
            malformed_documents=0,
            attachments=0,
            paths=0,
            retired_paths=0,
            havips_silent=0,
            havips_dead=0,
            connections_cut=0,
        )
    )
    names = set()
    for registry in (node.registry, host.registry):
        for family in registry.collect():
            names |= {family.name, f"{family.name}_total"}
    return names


def queries(dashboard: object) -> list[str]:
    """Every expression of a dashboard, wherever it stands."""
    if isinstance(dashboard, dict):
        own = [str(dashboard[key]) for key in ("expr", "query") if isinstance(dashboard.get(key), str)]
        return own + [found for value in dashboard.values() for found in queries(value)]
    if isinstance(dashboard, list):
        return [found for value in dashboard for found in queries(value)]
    return []


def test_every_query_uses_exported_metrics() -> None:
    """A renamed metric would leave an empty panel."""
    known = exported()
    used = set()
    for path in DASHBOARDS:
        for query in queries(json.loads(path.read_text())):
            used |= {SUFFIX.sub("", name) for name in re.findall(r"proxypool_\w+", query)}
    assert used
    assert used <= known
