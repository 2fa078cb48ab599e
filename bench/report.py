"""Rows, the table on the terminal, and `bench/out/NAME.json`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.figures import median, paired_ratio, quantile

OUT = Path(__file__).resolve().parent / "out"
PRECISE_BELOW = 10.0


@dataclass(frozen=True)
class Row:
    """One figure beside the other that it is measured against. p50 and p99 are of ours; `ratio` is ours/other."""

    measure: str
    unit: str
    ours: float
    other: float | None
    other_name: str
    ratio: float | None
    p50: float
    p99: float
    runs: int


@dataclass
class Report:
    """What a bench found."""

    rows: list[Row] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)
    """measure → what the row should show, for people"""
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """measure → every single value, in the order measured"""
    notes: list[str] = field(default_factory=list)

    def compare(  # noqa: PLR0913 - a row has that many columns
        self,
        measure: str,
        unit: str,
        ours: Sequence[float],
        other: Sequence[float],
        other_name: str,
        *,
        paired: bool = False,
        ratio: float | None = None,
        target: str = "",
    ) -> None:
        """Medians of both. `paired`: the ratio is the median of the pairs' ratios, as measured one after the other."""
        mine, theirs = median(ours), median(other)
        if ratio is None:
            ratio = paired_ratio(ours, other) if paired else mine / theirs if theirs else None
        self._add(Row(measure, unit, mine, theirs, other_name, ratio, *_quantiles(ours), len(ours)), target)
        self.samples[measure] = {"ours": list(ours), other_name: list(other)}

    def limit(self, measure: str, unit: str, ours: Sequence[float], limit: float | None) -> None:
        """Nothing to compare with but what was promised; without even that it is for information."""
        name = "target" if limit is not None else ""
        mine = median(ours)
        ratio = mine / limit if limit else None
        target = "" if limit is None else f"<= {_number(limit)} {unit}"
        self._add(Row(measure, unit, mine, limit, name, ratio, *_quantiles(ours), len(ours)), target)
        self.samples[measure] = {"ours": list(ours)}

    def _add(self, row: Row, target: str) -> None:
        self.rows.append(row)
        if target:
            self.targets[row.measure] = target

    def table(self) -> str:
        """Aligned, for people."""
        lines = [("MEASURE", "UNIT", "OURS", "OTHER", "", "RATIO", "P50", "P99", "RUNS", "TARGET")]
        for row in self.rows:
            ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
            other = "-" if row.other is None else _number(row.other)
            target = self.targets.get(row.measure, "")
            figures = (_number(row.ours), other, row.other_name, ratio, _number(row.p50), _number(row.p99))
            lines.append((row.measure, row.unit, *figures, str(row.runs), target))
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        left = {0, 1, 4, 9}
        text = [
            "  ".join(
                cell.ljust(w) if i in left else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([*(line.rstrip() for line in text), *(f"note: {note}" for note in self.notes)])

    def document(self, machine: dict[str, Any]) -> dict[str, Any]:
        """For `bench/out/NAME.json`."""
        return {
            "machine": machine,
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "rows": [asdict(row) for row in self.rows],
            "targets": self.targets,
            "notes": self.notes,
            "samples": self.samples,
        }


def write(name: str, document: dict[str, Any]) -> Path:
    """`bench/out/NAME.json`, replaced in one step."""
    OUT.mkdir(exist_ok=True)
    path, new = OUT / f"{name}.json", OUT / f".{name}.json.new"
    new.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    new.rename(path)
    return path


def machine(tunnel: str) -> dict[str, Any]:
    """What the figures depend on, and how busy it was before we began."""
    memory_kib = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        if "MemTotal" in line
    )
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "memory_mib": memory_kib // 1024,
        "python": platform.python_version(),
        "keepalived": _first_line(["keepalived", "--version"]),
        "tunnel": tunnel,
        "load_average_1_min": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _first_line(command: list[str]) -> str:
    """keepalived writes its version on standard error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter((done.stdout + done.stderr).splitlines()), "")


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    return median(values), quantile(values, 0.99)


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if abs(value) < PRECISE_BELOW:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.1f}"
