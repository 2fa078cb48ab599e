"""Every query of the dashboards, asked of a real Prometheus that holds a made-up hour (`pool_hour`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from grafana.dashboards.asking import Question, Window, dashboards, events, questions
from tests.contract.pool_hour import DRAINS_AT, GROWN, LENGTH_S, OFF, POOL, SCRAPE_S, SWITCHOVER_AT, UNFIT, openmetrics
from tests.contract.prometheus_server import IS_INSTALLED, Served, backfill, prometheus

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="needs prometheus and promtool")

BEGAN = 1_764_000_000.0
WINDOW = Window(BEGAN, BEGAN + LENGTH_S, {"pool": POOL, "subnet": ".*", "pair": ".*", "node": ".*"})
ASKED = [question for name, dashboard in dashboards().items() for question in questions(name, dashboard, WINDOW)]
EVENTS = list(events("failover", dashboards()["failover"], WINDOW))
Series: TypeAlias = dict[str, Any]


def name_of(question: Question) -> str:
    return f"{question.dashboard}/{question.title}/{question.ref}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("prometheus")
    backfill(openmetrics(BEGAN), folder)
    with prometheus(folder, lookback_s=SCRAPE_S - 1) as running:
        yield running


def ask(served: Served, question: Question) -> list[Series]:
    """As Grafana would: a series each."""
    if question.is_instant:
        return served.ask(question.expr, WINDOW.end)
    return served.ask_range(question.expr, WINDOW.start, WINDOW.end, question.step_s)


def panel(served: Served, dashboard: str, title: str, ref: str = "A") -> list[Series]:
    """The answer to one query of a panel."""
    return ask(served, next(one for one in ASKED if (one.dashboard, one.title, one.ref) == (dashboard, title, ref)))


def event(served: Served, name: str) -> list[Series]:
    """The answer to an annotation's query."""
    return ask(served, next(one for one in EVENTS if one.title == name))


def values(series: Series) -> list[float]:
    """Over time, or of the one moment."""
    return [float(value) for _, value in series.get("values", [series.get("value")])]


def moments(series: Series, *, least: float = 0.0) -> list[float]:
    """Seconds after the beginning at which it is more than `least`."""
    return [at - BEGAN for at, value in series["values"] if float(value) > least]


@pytest.mark.parametrize("question", ASKED + EVENTS, ids=name_of)
def test_prometheus_takes_every_query(served: Served, question: Question) -> None:
    answer = served.get("/api/v1/format_query", {"query": question.expr})
    assert answer["status"] == "success", answer


@pytest.mark.parametrize("question", ASKED + EVENTS, ids=name_of)
def test_every_query_has_an_answer(served: Served, question: Question) -> None:
    """In an hour in which everything happens that the panels are about, none is empty; no answer is NaN alone."""
    found = ask(served, question)
    assert found
    assert not all(math.isnan(value) for series in found for value in values(series))


def test_numbers_say_what_happened(served: Served) -> None:
    """To the unit, although a series begins with its first event and `increase()` would not see that one."""
    for title, dashboard, wanted in (
        ("Failovers", "failover", 2),
        ("Failovers", "overview", 2),
        ("Switchovers", "failover", 1),
        ("No master", "failover", 0),
        ("Two masters", "failover", 0),
        ("Pairs served", "overview", 3),
        ("Daemons down", "overview", 0),
        ("Leaders", "overview", 1),
        ("Failed", "scaling", 0),
        ("Provider's errors", "scaling", 1),
        ("Pairs ready", "scaling", 3),
    ):
        assert [values(series) for series in panel(served, dashboard, title)] == [[wanted]], title
    (longest,) = panel(served, "failover", "Blackout, max")
    assert values(longest) == [pytest.approx(0.0461)]


def test_every_change_of_master_is_one_cell_of_a_heatmap(served: Served) -> None:
    """Whichever interval it fell into: not 1.07, and not missing for being a node's first."""
    for title, changes in (("Gate", 3), ("Blackout", 3), ("Detection", 1), ("Election", 2)):
        (every,) = [one for one in panel(served, "failover", title) if one["metric"]["le"] == "+Inf"]
        assert sum(values(every)) == changes, title
    by_reason = {
        series["metric"]["reason"]: sum(values(series)) for series in panel(served, "failover", "Changes of master")
    }
    assert by_reason == {"silent": 1, "unfit": 1, "switchover": 1}


def test_changes_of_master_are_marked_when_they_happened(served: Served) -> None:
    """Not when they were scraped: the value is the claim's own time, in ms, the same for as long as it is found."""
    found = {
        (series["metric"]["subnet"], series["metric"]["pair"], series["metric"]["reason"]): set(values(series))
        for series in event(served, "Changes of master")
    }
    assert found == {
        ("s1", "p1", "silent"): {(BEGAN + OFF[0] - 4.2) * 1000},
        ("s1", "p2", "unfit"): {(BEGAN + UNFIT[0] - 4.2) * 1000},
        ("s2", "p1", "switchover"): {(BEGAN + SWITCHOVER_AT - 4.2) * 1000},
    }


def test_scaling_steps_are_marked(served: Served) -> None:
    """Of the subnet that grew and shrank, once each and in time."""
    for name, began in (("Scale-out", GROWN[0]), ("Scale-in", DRAINS_AT)):
        marked = {series["metric"]["subnet"]: moments(series) for series in event(served, name)}
        assert set(marked) == {"s1", "s2"}
        assert marked["s2"] == []
        assert marked["s1"][0] == pytest.approx(began, abs=2 * SCRAPE_S)
        assert marked["s1"][-1] - marked["s1"][0] <= 60


def test_the_role_of_a_member_shows(served: Served) -> None:
    """A master that is gone is a gap; the backup becomes master."""
    found = {
        (series["metric"]["subnet"], series["metric"]["pair"], series["metric"]["node"]): series
        for series in panel(served, "failover", "Role of every member")
    }
    dead, heir = found["s1", "p1", "node-a"], found["s1", "p1", "node-b"]
    assert values(dead)[0] == 3
    assert values(dead)[-1] == 2
    assert not [at for at in moments(dead) if OFF[0] <= at < OFF[1]], "a node that is off has no role"
    assert moments(heir, least=2)[0] == OFF[0]
