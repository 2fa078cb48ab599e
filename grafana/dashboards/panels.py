"""Panels as these dashboards want them: units, thresholds and legends are said once, here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.dashboard import DashboardLink, FieldColor, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import heatmap as heatmap_kinds
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"
DOCS = "${docs}"
"""Where the pages of docs/ are served: a variable of each dashboard."""
HEATMAP_COLUMNS = 60
"""So few, as what happens once a day would be a hair's breadth otherwise."""


@dataclass(frozen=True, slots=True)
class Query:
    """One line of a panel; `legend` in Grafana's `{{label}}` form."""

    expr: str
    legend: str = ""


def colours(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    """Colours by value; the first step's value is None: from minus infinity."""
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value, colour) for value, colour in steps])


ANY_IS_BAD = ((None, GREEN), (1.0, RED))
NEUTRAL = ((None, BLUE),)


def page(title: str, path: str) -> DashboardLink:
    """A link to a page of docs/."""
    return DashboardLink(title).url(f"{DOCS}/{path}").target_blank(True)


def runbook(alert: str) -> DashboardLink:
    """A link to the page of an alert of prometheus/."""
    return page(f"Runbook {alert}", f"runbooks/alerts/{alert}/")


def dashboard_link(title: str, uid: str, extra: str = "") -> DashboardLink:
    """A link to another dashboard, with the same source, pool and time. `extra`: further parameters, `&var-…=…`."""
    return DashboardLink(title).url(
        f"/d/{uid}?var-datasource=${{datasource}}&var-pool=${{pool}}{extra}&${{__url_time_range}}"
    )


def queries_of(queries: Sequence[Query], *, instant: bool = False, as_table: bool = False) -> list[Dataquery]:
    """As Grafana sends them; `instant`: of the end of the time range alone."""
    built = []
    for letter, query in zip("ABCDEFGHIJ", queries, strict=False):
        one = Dataquery().datasource(SOURCE).ref_id(letter).expr(query.expr)
        one = one.instant() if instant else one.range()
        if query.legend:
            one = one.legend_format(query.legend)
        built.append(one.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES))
    return built


def number(
    title: str,
    about: str,
    expr: str,
    *,
    steps: Sequence[tuple[float | None, str]] = ANY_IS_BAD,
    unit: str = "none",
    width: int = 3,
    links: Sequence[DashboardLink] = (),
) -> stat.Panel:
    """One large number: of now, or of the whole time range."""
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .targets(list(queries_of([Query(expr)], instant=True)))
        .height(4)
        .span(width)
        .unit(unit)
        .no_value("-")
        .thresholds(colours(*steps))
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .links(list(links))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How lines are drawn."""

    unit: str = "short"
    width: int = 12
    height: int = 8
    least: float | None = 0.0
    most: float | None = None
    decimals: int | None = None
    stacked: bool = False
    bars: bool = False
    """What happened in each interval, not what is."""
    steps: bool = False
    """Whole numbers that hold until they change."""
    fill: int = 0
    limit: float | None = None
    """A line above which it is bad."""
    empty: str = ""
    """What stands there if there is no series at all."""
    styles: Mapping[str, Mapping[str, object]] | None = None
    """Name of a series -> properties of its own."""


PLAIN = Look()


def lines(
    title: str, about: str, queries: Sequence[Query], look: Look = PLAIN, *, links: Sequence[DashboardLink] = ()
) -> timeseries.Panel:
    """Values over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .targets(list(queries_of(queries)))
        .height(look.height)
        .span(look.width)
        .unit(look.unit)
        .line_width(0 if look.bars else 1)
        .fill_opacity(80 if look.bars else look.fill)
        .show_points(kinds.VisibilityMode.NEVER if look.bars else kinds.VisibilityMode.AUTO)
        .draw_style(kinds.GraphDrawStyle.BARS if look.bars else kinds.GraphDrawStyle.LINE)
        .color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["sum"] if look.bars else [])
        )
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
        .links(list(links))
    )
    return _looked(panel, look)


def _looked(panel: timeseries.Panel, look: Look) -> timeseries.Panel:
    if look.least is not None:
        panel = panel.min(look.least)
    if look.most is not None:
        panel = panel.max(look.most)
    if look.decimals is not None:
        panel = panel.decimals(look.decimals)
    if look.steps:
        panel = panel.line_interpolation(kinds.LineInterpolation.STEP_AFTER)
    if look.bars:
        panel = panel.max_data_points(HEATMAP_COLUMNS)
    if (look.bars or look.steps) and look.most is None and look.unit == "none":
        # Else an axis of nothing but zeroes would go up to 100.
        panel = panel.axis_soft_max(2)
    if empty := look.empty or ("Nothing happened" if look.bars else ""):
        panel = panel.no_value(empty)
    if look.stacked or look.bars:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if look.limit is not None:
        panel = panel.thresholds(colours((None, GREEN), (look.limit, RED))).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        )
    for name, properties in (look.styles or {}).items():
        panel = panel.override_by_name(name, [DynamicConfigValue(key, value) for key, value in properties.items()])
    return panel


def fixed(colour: str) -> dict[str, object]:
    """A colour of its own; a value of `Look.styles`."""
    return {"color": {"mode": "fixed", "fixedColor": colour}}


def dashed(colour: str) -> dict[str, object]:
    """A limit, not a measurement."""
    return {**fixed(colour), "custom.lineStyle": {"fill": "dash", "dash": [6, 6]}, "custom.fillOpacity": 0}


def states(
    title: str,
    about: str,
    query: Query,
    texts: Mapping[int, tuple[str, str]],
    *,
    width: int = 12,
    links: Sequence[DashboardLink] = (),
    data_links: Sequence[DashboardLink] = (),
) -> statetimeline.Panel:
    """What somebody was, over time: a bar each. `texts`: number -> text and colour."""
    mapping = ValueMap(
        options={
            str(value): ValueMappingResult(text=text, color=colour, index=place)
            for place, (value, (text, colour)) in enumerate(texts.items())
        }
    )
    return (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .targets(list(queries_of([query])))
        .height(8)
        .span(width)
        .mappings([mapping])
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(colours((None, GREY)))
        .fill_opacity(75)
        .line_width(0)
        .merge_values(True)
        .show_value(kinds.VisibilityMode.AUTO)
        .row_height(0.8)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.SINGLE))
        .links(list(links))
        .data_links(list(data_links))
    )


def durations(
    title: str, about: str, expr: str, *, width: int = 6, links: Sequence[DashboardLink] = ()
) -> heatmap.Panel:
    """A histogram over time. `expr` has the label `le`, and counts what is new in `$__interval`."""
    query = (
        Dataquery()
        .datasource(SOURCE)
        .ref_id("A")
        .expr(expr)
        .range()
        .legend_format("{{le}}")
        .format(PromQueryFormat.HEATMAP)
    )
    return (
        heatmap.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(query)
        .height(8)
        .span(width)
        .max_data_points(HEATMAP_COLUMNS)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_kinds.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap_kinds.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        # Nothing happened: no cell.
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(kinds.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().decimals(0))
        .cell_gap(1)
        .show_value(kinds.VisibilityMode.NEVER)
        .mode(kinds.TooltipDisplayMode.SINGLE)
        .hide_y_histogram()
        .hide_legend()
        .links(list(links))
    )
