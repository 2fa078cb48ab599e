"""The dashboards' queries, asked of a real Prometheus that holds what a lab's daemons exported (`tests/lab/record_pool.py`):
eight nodes, one of which loses its power, and a load that takes four pairs, after which two drain.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from grafana.dashboards.asking import Question, Window, dashboards, events, questions
from tests.contract.prometheus_server import IS_INSTALLED, Served, backfill, prometheus

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="needs prometheus and promtool")

LINES = lzma.decompress((Path(__file__).parent / "data" / "lab.om.xz").read_bytes()).decode().splitlines()
MOMENTS = sorted({float(line.rpartition(" ")[2]) for line in LINES if not line.startswith("#")})
WINDOW = Window(MOMENTS[0], MOMENTS[-1], {"pool": "lab", "subnet": ".*", "pair": ".*", "node": ".*"})
LOOKBACK_S = 12
"""Two scrapes of the recording."""
ASKED = [question for name, dashboard in dashboards().items() for question in questions(name, dashboard, WINDOW)]
EVENTS = list(events("failover", dashboards()["failover"], WINDOW))
EMPTY = {
    "overview/Alerts that fire/A": "no rules were evaluated",
    "overview/Put right, and failed/A": "nobody changed what is ours",
    "overview/Put right, and failed/B": "no round failed",
    "failover/Probe through the ENI/A": "these pairs have no probe, and the lab's customers no gateway",
}
"""What this recording cannot have."""


def name_of(question: Question) -> str:
    return f"{question.dashboard}/{question.title}/{question.ref}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("prometheus")
    backfill(LINES, folder)
    with prometheus(folder, lookback_s=LOOKBACK_S) as running:
        yield running


def ask(served: Served, question: Question) -> list[dict[str, object]]:
    if question.is_instant:
        return served.ask(question.expr, WINDOW.end)
    return served.ask_range(question.expr, WINDOW.start, WINDOW.end, question.step_s)


@pytest.mark.parametrize("question", ASKED, ids=name_of)
def test_a_real_pool_has_what_the_panels_ask_for(served: Served, question: Question) -> None:
    """Or it is said above why not."""
    assert bool(ask(served, question)) == (name_of(question) not in EMPTY)


def test_what_happened_shows(served: Served) -> None:
    """One node lost its power, two pairs became four, and two again."""
    found = {question.title: ask(served, question) for question in ASKED if question.dashboard == "failover"}
    assert [series["value"][1] for series in found["Failovers"]] == ["1"]  # type: ignore[index]
    ready = next(ask(served, one) for one in ASKED if (one.title, one.ref) == ("Pairs, and the load in pairs", "A"))
    assert [float(value) for value, _ in groupby(value for _, value in ready[0]["values"])] == [2, 4, 2]  # type: ignore[attr-defined]
