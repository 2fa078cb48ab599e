"""Rules, alerts, their pages and their tests: checked by promtool, and against what the daemons export."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.metric_pages import exported

ROOT = Path(__file__).parents[2]
HERE = ROOT / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks" / "alerts"
TARGET_LABELS = {"job", "instance", "pool", "role", "node"}
SECTIONS = ("## The rule", "## What to look at", "## What to do", "## Clears")
ANNOTATIONS = {"summary", "description", "runbook_url", "dashboard"}


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((HERE / "rules" / name).read_text())["groups"]
    return found


ALERTS = {rule["alert"]: rule for group in groups("alerts.yml") for rule in group["rules"]}
RECORDED = {rule["record"]: rule for group in groups("recording.yml") for rule in group["rules"]}


def promtool(*arguments: str) -> None:
    """Run it in prometheus/; it must be content."""
    done = subprocess.run(["promtool", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_pass_every_lint() -> None:
    """Names, syntax, duplicates."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules/recording.yml", "rules/alerts.yml")


def test_the_configuration_is_valid() -> None:
    """And the files that it names are there."""
    promtool("check", "config", "prometheus.yml")


@pytest.mark.timeout(400)
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    """All files of prometheus/tests, with the texts that people get. Some ten seconds of an idle processor."""
    promtool("test", "rules", *sorted(str(path.relative_to(HERE)) for path in (HERE / "tests").glob("*.yml")))


def cases(alert: str) -> list[dict[str, Any]]:
    """Its tests of alerts."""
    document = yaml.safe_load((HERE / "tests" / f"{alert}.yml").read_text())
    found = [case for test in document["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in found} == {alert}
    return found


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_both_kinds_of_cases(alert: str) -> None:
    """One that only ever fires, or never does, is no test."""
    assert {bool(case["exp_alerts"]) for case in cases(alert)} == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert: str) -> None:
    """Severity, texts with names and values, page and dashboard."""
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    annotations = rule["annotations"]
    assert annotations.keys() == ANNOTATIONS
    assert annotations["runbook_url"].endswith(f"/runbooks/alerts/{alert}/")
    assert re.search(r"/d/proxypool-(overview|failover|scaling)", annotations["dashboard"])
    # Without a target there is nothing to name.
    assert "{{" in annotations["description"] or alert == "NodesAbsent"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_page_with_the_rule_as_it_is(alert: str) -> None:
    """What is on the page at night must be what fired."""
    page = (RUNBOOKS / f"{alert}.md").read_text()
    assert page.startswith(f"# {alert}\n\n")
    found = [page.index(section) for section in SECTIONS]
    assert found == sorted(found)
    assert f"Severity: **{ALERTS[alert]['labels']['severity']}**" in page
    block = page.split("```promql\n")[1].split("\n```")[0]
    assert block == ALERTS[alert]["expr"].strip()


def test_there_are_no_pages_and_tests_of_alerts_that_are_gone() -> None:
    """One file each; an index is no alert."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"} == ALERTS.keys()
    assert {path.stem for path in (HERE / "tests").glob("*.yml")} == ALERTS.keys()


def names_in(expression: str) -> set[str]:
    """Names of series in an expression."""
    return set(re.findall(r"\b(?:proxypool[:_][a-z0-9_:]+|up)\b", re.sub(r'"[^"]*"', '""', expression)))


def labels_in(expression: str) -> set[str]:
    """Labels in selectors and in by, on and without."""
    lists = re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression)
    matchers = re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    return {label.strip() for text in lists for label in text.split(",")} | set(matchers)


@pytest.mark.parametrize("name", [*ALERTS, *RECORDED])
def test_a_rule_asks_only_for_what_there_is(name: str) -> None:
    """A metric that was renamed would make an alert that never fires."""
    known = exported()
    rule = ALERTS.get(name) or RECORDED[name]
    used = names_in(rule["expr"])
    assert used
    assert used - known.keys() - RECORDED.keys() - {"up"} == set()
    labels = {label for metric in used for label in known.get(metric, frozenset())} | {"subnet", "pair", "le"}
    labels |= {label for metric in used & RECORDED.keys() for label in labels_in(RECORDED[metric]["expr"])}
    assert labels_in(rule["expr"]) <= labels | TARGET_LABELS


def test_the_parser_of_these_tests_finds_names_and_labels() -> None:
    """Or the one before would have nothing to say."""
    expression = 'sum by (pool) (proxypool_a_total{kind!="b"}) / on (node) proxypool:c:rate5m > up{job="proxypool"}'
    assert names_in(expression) == {"proxypool_a_total", "proxypool:c:rate5m", "up"}
    assert labels_in(expression) == {"pool", "kind", "node", "job"}
