"""Write the dashboards and the table of their panels: `python -m grafana.dashboards`. A test says if they are stale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.models.dashboard import Dashboard, RowPanel

from grafana.dashboards import failover, overview, scaling
from grafana.dashboards.frame import number_panels, text_of

ROOT = Path(__file__).parents[2]
REFERENCE = "docs/reference/dashboards.md"
HEAD = """# Panels of the dashboards

Written by `python -m grafana.dashboards`. How to install them, and what was proven: [dashboards.md](../dashboards.md).
"""


def texts() -> dict[str, str]:
    """File, from the project's root on -> content."""
    built = {
        module.__name__.rpartition(".")[2]: number_panels(module.build().build())
        for module in (overview, failover, scaling)
    }
    return {f"grafana/{name}.json": text_of(model) for name, model in built.items()} | {REFERENCE: reference(built)}


def reference(built: Mapping[str, Dashboard]) -> str:
    """What each panel answers, as a page of the docs."""
    lines = [HEAD]
    for name, model in built.items():
        lines += [f"## {name.capitalize()}", "", str(model.description)]
        for panel in model.panels or []:
            if isinstance(panel, RowPanel):
                lines += ["", f"**{panel.title}**", "", "| panel | | answers |", "| --- | --- | --- |"]
            else:
                lines.append(f"| {panel.title} | {panel.type_val} | {panel.description} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write what changed."""
    for name, text in texts().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
