"""Tables: a line for each set of labels, a column for each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue

from grafana.dashboards.panels import SOURCE, Query, colours, queries_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Of a table: what its values are called and how they look."""

    title: str
    unit: str = ""
    decimals: int | None = None
    width: int | None = None
    steps: Sequence[tuple[float | None, str]] = ()
    """Colours the text."""
    links: Sequence[DashboardLink] = ()

    def properties(self) -> list[DynamicConfigValue]:
        """As overrides."""
        found = []
        if self.unit:
            found.append(DynamicConfigValue("unit", self.unit))
        if self.decimals is not None:
            found.append(DynamicConfigValue("decimals", self.decimals))
        if self.width is not None:
            found.append(DynamicConfigValue("custom.width", self.width))
        if self.steps:
            found += [
                DynamicConfigValue("thresholds", colours(*self.steps).build()),
                DynamicConfigValue("color", {"mode": "thresholds"}),
                DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ]
        if self.links:
            found.append(DynamicConfigValue("links", [link.build() for link in self.links]))
        return found


def rows(
    title: str,
    about: str,
    keys: Mapping[str, Column],
    values: Sequence[tuple[str, Column]],
    *,
    width: int = 24,
    sort: str = "",
    empty: str = "-",
) -> table.Panel:
    """A line for each set of `keys` (labels); `values` are queries of now, each with these labels.

    `empty` stands in a cell without a value, and in place of a table without a line.
    """
    letters = "ABCDEFGHIJ"[: len(values)]
    # A single query's column is called Value, those of several Value #A, …
    sources = ["Value"] if len(values) == 1 else [f"Value #{letter}" for letter in letters]
    names = {label: column.title for label, column in keys.items()}
    names |= {source: column.title for source, (_, column) in zip(sources, values, strict=True)}
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .targets(list(queries_of([Query(expr) for expr, _ in values], instant=True, as_table=True)))
        .height(8)
        .span(width)
        .no_value(empty)
        .align(kinds.FieldTextAlignment.AUTO)
        .show_header(True)
        .cell_height(kinds.TableCellHeight.SM)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(names)},
                    "renameByName": names,
                },
            )
        )
    )
    if sort:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    for column in (*keys.values(), *(column for _, column in values)):
        if properties := column.properties():
            panel = panel.override_by_name(column.title, properties)
    return panel
