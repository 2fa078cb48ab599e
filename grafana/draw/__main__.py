"""Ask a real Prometheus all that a dashboard asks, and draw the answers: `python -m grafana.draw --help`."""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from grafana.dashboards.asking import Json, Question, Window, dashboards, events, questions
from tests.contract.pool_hour import LENGTH_S, POOL, SCRAPE_S, openmetrics
from tests.contract.prometheus_server import Served, backfill, prometheus

HERE = Path(__file__).parent
ROW_PIXELS = 38
EVERYTHING = {"subnet": ".*", "pair": ".*", "node": ".*"}
PAGE = """<!doctype html>
<meta charset="utf-8">
<link rel="stylesheet" href="page.css">
<style>body {{ margin: 0 }}</style>
<div id="page"></div>
<script>PICTURE = {data}</script>
<script src="page.js"></script>
"""


def answered(served: Served, dashboard: Json, name: str, window: Window) -> Mapping[int, list[Json]]:
    """Panel's id -> what each of its queries found."""
    found: dict[int, list[Json]] = {}
    for question in questions(name, dashboard, window):
        if question.is_instant:
            result = served.ask(question.expr, window.end)
        else:
            result = served.ask_range(question.expr, window.start, window.end, question.step_s)
        about = {"ref": question.ref, "legend": question.legend, "step": question.step_s}
        found.setdefault(question.panel, []).append({**about, "result": result})
    return found


def marked(served: Served, dashboard: Json, name: str, window: Window) -> list[Json]:
    """Moment and colour of every annotation."""
    found: list[Json] = []
    shown = zip(events(name, dashboard, window), dashboard["annotations"]["list"], strict=True)
    for question, event in shown:
        moments = _moments(served, question, window, is_time=bool(event.get("useValueForTime")))
        found += [{"at": at, "colour": event["iconColor"]} for at in moments]
    return found


def _moments(served: Served, question: Question, window: Window, *, is_time: bool) -> Iterable[float]:
    """One for all that lies no further apart than a step, as Grafana does it."""
    for series in served.ask_range(question.expr, window.start, window.end, question.step_s):
        last = None
        for at, value in series["values"]:
            moment = float(value) / 1000 if is_time else float(at)
            if float(value) > 0 and (last is None or moment - last > question.step_s):
                yield moment
            if float(value) > 0:
                last = moment


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """One screenshot of a page."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            "chromium", "--headless=new", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            f"--window-size={width},{height}", "--virtual-time-budget=15000", "--allow-file-access-from-files",
            f"--screenshot={picture}", page.as_uri(),
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def draw(served: Served, window: Window, out: Path, width: int, mode: str) -> None:
    """Every dashboard: a page and its picture."""
    for name, dashboard in dashboards().items():
        picture = {
            "dashboard": dashboard,
            "window": {"start": window.start, "end": window.end},
            "answers": answered(served, dashboard, name, window),
            "events": marked(served, dashboard, name, window),
            "width": width,
            "mode": mode,
        }
        page = out / f"{name}.html"
        page.write_text(PAGE.format(data=json.dumps(picture).replace("</", "<\\/")))
        places = [panel["gridPos"] for panel in dashboard["panels"]]
        height = max(place.get("y", 0) + place["h"] for place in places) * ROW_PIXELS
        photograph(page, out / f"{name}.png", width, height)
        print(out / f"{name}.png")  # noqa: T201 - what a person wants to know


def missing() -> list[str]:
    """What it takes and is not there."""
    programs = [name for name in ("prometheus", "promtool", "node", "chromium") if shutil.which(name) is None]
    return programs + ([] if (HERE / "node_modules").is_dir() else ["node_modules (npm ci)"])


def main() -> None:
    """Backfill, ask, draw."""
    parser = argparse.ArgumentParser(prog="python -m grafana.draw", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder of pages and pictures")
    parser.add_argument("--width", type=int, default=1600, help="of the page in pixels")
    parser.add_argument("--mode", choices=("dark", "light"), default="dark")
    parser.add_argument("--samples", type=Path, help="OpenMetrics text, .xz, instead of the made-up hour")
    arguments = parser.parse_args()
    if absent := missing():
        parser.error(f"not here: {', '.join(absent)}; grafana/draw/README.md says how to get it")
    if arguments.samples and not arguments.samples.is_file():
        parser.error(f"no file {arguments.samples}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    subprocess.run(["node", str(HERE / "build.mjs"), str(arguments.out / "page.js")], check=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.samples:
            lines = lzma.decompress(arguments.samples.read_bytes()).decode().splitlines()
            moments = [float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")]
            window = Window(min(moments), max(moments), {"pool": POOL, **EVERYTHING})
        else:
            began = time.time() // 3600 * 3600 - LENGTH_S
            lines = list(openmetrics(began))
            window = Window(began, began + LENGTH_S, {"pool": POOL, **EVERYTHING})
        backfill(lines, Path(folder))
        with prometheus(Path(folder), lookback_s=SCRAPE_S - 1) as served:
            draw(served, window, arguments.out.resolve(), arguments.width, arguments.mode)


if __name__ == "__main__":
    main()
