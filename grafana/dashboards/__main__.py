"""Write the dashboards. `python -m grafana.dashboards`; a test says when that was forgotten."""

from __future__ import annotations

from pathlib import Path

from grafana.dashboards import failover, overview, scaling
from grafana.dashboards.frame import number_panels, text_of

FOLDER = Path(__file__).parents[1]


def texts() -> dict[str, str]:
    """File name -> content."""
    return {
        f"{module.__name__.rpartition('.')[2]}.json": text_of(number_panels(module.build().build()))
        for module in (overview, failover, scaling)
    }


def main() -> None:
    """Write those that changed."""
    for name, text in texts().items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
