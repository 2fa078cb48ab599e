"""What Grafana asks Prometheus when it shows a dashboard: read from the JSON, with variables put in.

For tests and pictures. It knows what these dashboards use of Grafana, and no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

FOLDER = Path(__file__).parents[1]
Json: TypeAlias = dict[str, Any]
POINTS = 400
"""That a panel of ordinary width asks for."""
SCRAPE_S = 15
"""Interval that the data source is provisioned with: the least step, and a quarter of `$__rate_interval`."""
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True, slots=True)
class Window:
    """A time range, in seconds since the epoch, and what the variables say."""

    start: float
    end: float
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def length_s(self) -> int:
        """Whole seconds."""
        return round(self.end - self.start)


@dataclass(frozen=True, slots=True)
class Question:
    """One query of a panel, ready to be sent."""

    dashboard: str
    panel: int
    title: str
    ref: str
    expr: str
    legend: str
    is_instant: bool
    step_s: int


def dashboards() -> dict[str, Json]:
    """File name without its end -> what is in it."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(dashboard: Json) -> list[Json]:
    """Those that ask something: no headlines."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def put_in(text: str, window: Window, step_s: int) -> str:
    """A query with its variables' values.

    Raises:
        KeyError: it names a variable that has no value.
    """
    values = {
        "__interval": f"{step_s}s",
        "__rate_interval": f"{max(step_s + SCRAPE_S, 4 * SCRAPE_S)}s",
        "__range": f"{window.length_s}s",
        **window.values,
    }
    return _VARIABLE.sub(lambda found: values[found[1]], text)


def step_of(panel: Json, window: Window) -> int:
    """Seconds between two points: the range by the most points, rounded up to whole scrapes."""
    points = int(panel.get("maxDataPoints") or POINTS)
    return max(1, -(-window.length_s // (points * SCRAPE_S))) * SCRAPE_S


def questions(name: str, dashboard: Json, window: Window) -> Iterator[Question]:
    """Every query of every panel."""
    for panel in panels(dashboard):
        step_s = step_of(panel, window)
        for target in panel["targets"]:
            yield Question(
                dashboard=name,
                panel=panel["id"],
                title=panel["title"],
                ref=target["refId"],
                expr=put_in(target["expr"], window, step_s),
                legend=target.get("legendFormat", ""),
                is_instant=bool(target.get("instant")),
                step_s=step_s,
            )


def events(name: str, dashboard: Json, window: Window) -> Iterator[Question]:
    """Every annotation's query."""
    for number, event in enumerate(dashboard["annotations"]["list"]):
        step_s = int(event["step"].removesuffix("s"))
        expr = put_in(event["expr"], window, step_s)
        yield Question(
            name, -number, event["name"], "Anno", expr, event["titleFormat"], is_instant=False, step_s=step_s
        )
