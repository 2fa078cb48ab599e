"""What is said of the metrics is so: the reference, names, labels, and how many series there can be."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from proxypool.core.discovery import Daemon
from proxypool.telemetry.exposition import render as render_page
from proxypool.telemetry.metrics import NodeMetrics
from tools.gen_metrics_docs import TARGET, entries, render
from tools.metric_pages import controller_page, exported, families, host_page, node_page, pages, series_of

LABELS = {
    *("subnet", "pair", "node"),
    *("call", "cause", "direction", "kind", "outcome", "phase", "reason", "result", "role", "signal", "state", "topic"),
    "version",
}
"""All that there are: names of documents, and words of a closed set. A new one must be one of these."""
PER_SUBNET, OF_NODE = 80, 400
"""Limits of series of a node, for each subnet and besides."""
SUBNETS, ATTACHMENTS = 200, 2_000


def test_the_page_is_not_stale() -> None:
    """A metric that is not in it is not known to anybody."""
    assert TARGET.read_text() == render(), "write it again: python tools/gen_metrics_docs.py"


def test_every_metric_has_a_series_on_the_pages() -> None:
    """Or its labels would be missing in the reference, and checks would not see it."""
    assert [family.name for _, family in families() if not family.samples] == []
    assert len(entries()) > 100


def test_a_metric_means_the_same_wherever_it_is() -> None:
    """Same name, same type, same text."""
    found: dict[str, tuple[str, str]] = {}
    for _, family in families():
        said = found.setdefault(family.name, (family.type, family.documentation))
        assert said == (family.type, family.documentation)


def test_labels_are_of_a_closed_set() -> None:
    """Never a flow, a destination or an instance: there is no end to those."""
    assert {label for labels in exported().values() for label in labels} <= LABELS


def test_a_node_of_many_subnets_has_a_bounded_number_of_series() -> None:
    """So many for each subnet and so many besides, whatever its pairs have been through."""
    one, many = series_of(node_page(1)), series_of(node_page(SUBNETS))
    assert one <= OF_NODE + PER_SUBNET
    assert many <= OF_NODE + SUBNETS * PER_SUBNET


def test_attachments_make_no_series() -> None:
    """An instance lives for seconds; what is exported of them is how many there are."""
    few, many = (series_of(host_page(attachments=count, subnets=SUBNETS)) for count in (1, ATTACHMENTS))
    assert few == many
    assert many <= OF_NODE + SUBNETS


def test_a_controller_has_some_series_of_each_scaled_subnet() -> None:
    """And one of each pair and of each node."""
    page = controller_page(SUBNETS, pairs=4, nodes=50)
    assert series_of(page) <= 100 + SUBNETS * (20 + 4) + 50


def test_a_node_that_gives_a_subnet_up_gives_its_series_up() -> None:
    """Subnets come and go for years; a node is not restarted for years."""
    page, subnets = node_page(2), {"subnet-0", "subnet-1"}
    counted = r"proxypool_(failover|reconcile|kernel|drift).*"
    for subnet in subnets:
        assert {name for name, of in _series(page, counted) if of == subnet} > {"proxypool_failovers_total"}
        page.forget(subnet)
    assert {name for name, of in _series(page, counted) if of in subnets} == set()


def _series(page: NodeMetrics, pattern: str) -> list[tuple[str, str]]:
    """Name and subnet of those with such a name."""
    samples = (sample for family in page.registry.collect() for sample in family.samples)
    return [(one.name, one.labels.get("subnet", "")) for one in samples if re.fullmatch(pattern, one.name)]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
@pytest.mark.parametrize("daemon", Daemon)
def test_promtool_has_nothing_to_say(daemon: Daemon) -> None:
    """Names, units and help texts of everything that a daemon exports."""
    text = render_page(pages()[daemon].registry).decode()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
