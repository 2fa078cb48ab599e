"""The dashboards as they are checked in: built by the code, of Grafana's schema, about metrics and pages that exist."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.dashboards.__main__ import REFERENCE, ROOT, texts
from grafana.dashboards.asking import FOLDER, SCRAPE_S, Json, dashboards, panels
from proxypool.telemetry.controller_metrics import ControllerMetrics, ControllerView
from proxypool.telemetry.metrics import HostMetrics, HostView, NodeMetrics, NodeView
from proxypool.telemetry.use_metrics import NodeUse

DASHBOARDS = dashboards()
DOCS = ROOT / "docs"
GRID_WIDTH = 24
SUFFIX = re.compile(r"_(bucket|count|sum)$")
WORDING = {"titleFormat", "textFormat", "step", "useValueForTime"}
"""Of annotations: Grafana reads them, the schema leaves them out."""
each = pytest.mark.parametrize("name", sorted(DASHBOARDS))


def exported() -> set[str]:
    """Names of all metrics that the daemons can export, with the suffixes that queries use."""
    pool: dict[str, Any] = {"is_zookeeper_connected": True, "zookeeper_silence_s": 0.0, "malformed_documents": 0}
    node = NodeMetrics(
        lambda: NodeView(members=(), is_keepalived_up=True, is_keepalived_config_valid=True, **pool), NodeUse
    )
    host = HostMetrics(
        lambda: HostView(
            subnets_served=0,
            subnets_refused=0,
            attachments=0,
            paths=0,
            retired_paths=0,
            havips_silent=0,
            havips_dead=0,
            connections_cut=0,
            **pool,
        )
    )
    names = set()
    for registry in (node.registry, host.registry, ControllerMetrics(ControllerView).registry):
        for family in registry.collect():
            names |= {family.name, f"{family.name}_total"}
    return names


def strings(value: object, *keys: str) -> Iterator[str]:
    """Every text under one of these keys, wherever it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in keys and isinstance(inner, str):
                yield inner
            yield from strings(inner, *keys)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, *keys)


def rewritten(dashboard: Json) -> Json:
    """Read and written by the SDK, which has Grafana's schema: what it does not know is gone."""
    register_default_plugins()
    document: Json = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    return document


def test_the_files_are_what_the_code_builds() -> None:
    """After a change: python -m grafana.dashboards."""
    wanted = texts()
    assert {f"grafana/{path.name}" for path in FOLDER.glob("*.json")} | {REFERENCE} == set(wanted)
    for name, text in wanted.items():
        assert (ROOT / name).read_text() == text, name


@each
def test_the_schema_knows_every_field(name: str) -> None:
    """A misspelt option would be ignored by Grafana without a word."""
    expected = json.loads(json.dumps(DASHBOARDS[name]))
    for event in expected["annotations"]["list"]:
        for key in WORDING:
            event.pop(key, None)
    assert rewritten(expected) == expected


def test_the_schema_finds_a_misspelt_option() -> None:
    """The check above can fail."""
    spoilt = json.loads(json.dumps(DASHBOARDS["failover"]))
    spoilt["panels"][1]["fieldConfig"]["defaults"]["untis"] = "s"
    assert rewritten(spoilt) != spoilt


@each
def test_every_query_uses_exported_metrics(name: str) -> None:
    """A renamed metric would leave an empty panel."""
    used = {
        SUFFIX.sub("", metric)
        for text in strings(DASHBOARDS[name], "expr", "query")
        for metric in re.findall(r"\bproxypool_\w+", text)
    }
    assert used
    assert used <= exported()


@each
def test_every_query_is_about_one_pool(name: str) -> None:
    """Two pools in one Prometheus must not be added up."""
    for expr in strings(DASHBOARDS[name], "expr"):
        selectors = re.findall(r"\b(?:proxypool_|process_|ALERTS\b|up\b)\w*(\{[^}]*\})?", expr)
        assert selectors
        assert all('pool=~"$pool"' in selector for selector in selectors), expr


@each
def test_panels_fill_the_page_and_explain_themselves(name: str) -> None:
    """No hole, no overlap, no title twice, no panel without a word of what it answers."""
    covered: Counter[tuple[int, int]] = Counter()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        covered.update(
            (x, y)
            for x in range(place.get("x", 0), place.get("x", 0) + place["w"])
            for y in range(place.get("y", 0), place.get("y", 0) + place["h"])
        )
    assert set(covered.values()) == {1}
    assert len(covered) == GRID_WIDTH * (1 + max(y for _, y in covered))
    titles = [panel["title"] for panel in DASHBOARDS[name]["panels"]]
    assert len(set(titles)) == len(titles)
    assert all(panel["description"].endswith((".", "%")) for panel in panels(DASHBOARDS[name]))
    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert ids == list(range(1, len(ids) + 1))


@each
def test_every_variable_that_is_used_is_there(name: str) -> None:
    """Grafana's own begin with two underscores."""
    known = {variable["name"] for variable in DASHBOARDS[name]["templating"]["list"]}
    texts_with_variables = strings(DASHBOARDS[name], "expr", "query", "url", "uid")
    used = {found for text in texts_with_variables for found in re.findall(r"\$\{?(\w+)", text)}
    assert {variable for variable in used if not variable.startswith("__")} <= known


@each
def test_links_lead_somewhere(name: str) -> None:
    """To dashboards of ours, and to pages and headlines of docs/."""
    uids = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    links = list(strings(DASHBOARDS[name], "url"))
    assert links
    for link in links:
        if link.startswith("/d/"):
            assert link.removeprefix("/d/").partition("?")[0] in uids
            continue
        path, _, anchor = link.removeprefix("${docs}/").partition("#")
        if path.startswith("runbooks/"):
            continue  # below
        text = (DOCS / f"{path.rstrip('/')}.md").read_text()
        headlines = {line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines() if line.startswith("#")}
        assert not anchor or anchor in headlines, link


RUNBOOKS = DOCS / "runbooks" / "alerts"


@pytest.mark.skipif(not RUNBOOKS.is_dir(), reason="there are no runbooks yet")
@each
def test_runbooks_that_are_linked_exist(name: str) -> None:
    """One page for each alert; links of a table name it by the alert's label."""
    for link in strings(DASHBOARDS[name], "url"):
        found = re.fullmatch(r"\$\{docs\}/runbooks/alerts/(\w+)/", link)
        assert found is None or (RUNBOOKS / f"{found[1]}.md").is_file(), link


def test_provisioning_finds_the_dashboards() -> None:
    """Where the files say that they are, and with the scrape interval that queries count with."""
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/proxypool.yaml").read_text())["providers"]
    assert provider["options"]["path"].startswith("/")
    assert Path(provider["options"]["path"]).name == "proxypool"
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/proxypool.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == f"{SCRAPE_S}s"
