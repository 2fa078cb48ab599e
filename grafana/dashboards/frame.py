"""What all dashboards share: variables, annotations, links to each other, and how they become JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    TextBoxVariable,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import TimeZoneBrowser
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.dashboard import Dashboard as Model

from grafana.dashboards.panels import BLUE, GREY, ORANGE, RED, SOURCE
from grafana.dashboards.promql import MEMBER, POOL, SUBNET, rise
from proxypool.core.history import Kind

TAG = "proxypool"
OVERVIEW, FAILOVER, SCALING = "proxypool-overview", "proxypool-failover", "proxypool-scaling"
"""Their uids, which are in links."""
DOCS_URL = "http://127.0.0.1:8000"
"""Where `mkdocs serve` shows docs/: whoever has it elsewhere sets the variable `docs`."""
ALL = VariableOption(selected=True, text="All", value="$__all")
SEEN = "2m"
"""For so long after something happened its annotation is found: more than a scrape and a step of the query."""
Section: TypeAlias = tuple[str, Sequence[Builder[Panel]]]
"""A headline, and the panels below it: from left to right, 24 wide."""


class _Worded(AnnotationQuery):
    """The SDK's schema has no place for how an annotation of Prometheus is worded; Grafana reads it all the same."""

    wording: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """With the wording."""
        return {**super().to_json(), **self.wording}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Builder[AnnotationQuery]):
    """An annotation: wherever `expr` is more than 0."""

    name: str
    colour: str
    expr: str
    title: str
    """May name labels, as `{{label}}`; like `text`."""
    text: str = ""
    is_time: bool = False
    """Whether the value of `expr` is when it happened, in ms; else it is the moment of the sample."""

    def build(self) -> AnnotationQuery:
        """As Grafana reads it."""
        built = _Worded(name=self.name, datasource=SOURCE, icon_color=self.colour, expr=self.expr)
        built.wording = {"titleFormat": self.title, "textFormat": self.text, "step": "30s"}
        if self.is_time:
            built.wording = {**built.wording, "useValueForTime": True}
        return built


def _found(name: str, label: str, query: str, about: str) -> QueryVariable:
    """A choice of labels' values; all of them at first."""
    return (
        QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(SOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(ALL)
    )


def _pool() -> QueryVariable:
    """One at a time: two pools may have subnets of the same name."""
    return (
        QueryVariable("pool")
        .label("Pool")
        .description("Label `pool`, which the scrape configuration sets. Empty: it sets none.")
        .datasource(SOURCE)
        .query({"query": "label_values(proxypool_build_info, pool)", "refId": "variable-pool"})
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(VariableSort.NATURAL_ASC)
        .multi(False)
        .include_all(False)
    )


def changes_of_master() -> Event:
    """At the moment of the claim, as the new master noted it: not when it was scraped. A new pair's first is none."""
    counted = f'proxypool_failovers_total{{{MEMBER}, kind!="{Kind.START.value}"}}'
    happened = f"sgn({rise(counted, SEEN)} > 0)"
    at = f"1000 * proxypool_failover_last_timestamp_seconds{{{MEMBER}}}"
    return Event(
        name="Changes of master",
        colour=RED,
        expr=f"{at} * on (node, subnet, pair) group_right () {happened}",
        title="{{kind}} {{subnet}}/{{pair}}: {{reason}}",
        text="{{node}} is master now",
        is_time=True,
    )


def scaling_steps() -> tuple[Event, Event]:
    """When the number of pairs that take connections has changed."""
    ready = f"max by (subnet) (proxypool_scaling_pairs_ready{{{SUBNET}}})"
    before = f"max by (subnet) (proxypool_scaling_pairs_ready{{{SUBNET}}} offset 1m)"
    return (
        Event(name="Scale-out", colour=BLUE, expr=f"{ready} > bool {before}", title="scale-out {{subnet}}"),
        Event(name="Scale-in", colour=ORANGE, expr=f"{ready} < bool {before}", title="scale-in {{subnet}}"),
    )


def leaders() -> Event:
    """When another controller leads."""
    leads = f"proxypool_controller_leader{{{POOL}}}"
    return Event(
        name="Another leader",
        colour=GREY,
        expr=f"{leads} == 1 unless {leads} offset 1m == 1",
        title="{{node}} leads",
    )


def dashboard(title: str, uid: str, about: str, sections: Sequence[Section]) -> Dashboard:
    """With variables, annotations and links."""
    built = (
        Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .timezone(TimeZoneBrowser)
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Source").type("prometheus"))
        .with_variable(_pool())
        .with_variable(
            _found("subnet", "Subnet", f"label_values(proxypool_member_role{{{POOL}}}, subnet)", "A customer's subnet.")
        )
        .with_variable(
            _found("pair", "Pair", f"label_values(proxypool_member_role{{{SUBNET}}}, pair)", "Of the subnet.")
        )
        .with_variable(
            _found(
                "node", "Node", f"label_values(proxypool_member_role{{{SUBNET}}}, node)", "Proxy nodes; label `node`."
            )
        )
        .with_variable(
            TextBoxVariable("docs")
            .label("Docs")
            .description("Where the project's pages are served, for the links to runbooks.")
            .default_value(DOCS_URL)
            .hide(VariableHide.HIDE_VARIABLE)
        )
        .link(
            DashboardLink("proxypool")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for event in (changes_of_master(), *scaling_steps(), leaders()):
        built = built.annotation(event)
    for headline, panels in sections:
        built = built.with_row(Row(headline).collapsed(False))
        for panel in panels:
            built = built.with_panel(panel)
    return built


def number_panels(model: Model) -> Model:
    """Ids in the order of the page: links and provisioning need them to stay."""
    for number, panel in enumerate(model.panels or [], start=1):
        panel.id_val = number
    return model


def text_of(model: Model) -> str:
    """As it is checked in."""
    return json.dumps(model, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
