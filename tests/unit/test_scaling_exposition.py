"""Our own series in the text of `/metrics`."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from proxypool.core.scaling.exposition import NoSeries, PageReader, parse
from proxypool.core.scaling.series import NodeSeries, Sample, Series, Where
from proxypool.telemetry.use_metrics import NodeUse, UseCollector

LIMITS: Sample = {NodeSeries.BYTES_LIMIT: 1.25e9, NodeSeries.PACKETS_LIMIT: 1e6, NodeSeries.CONNECTIONS_LIMIT: 2e4}
SAMPLE: Sample = {series: number + 1e12 / 3 for number, series in enumerate(Series)}


def text_of(use: NodeUse) -> str:
    registry = CollectorRegistry()
    registry.register(UseCollector(lambda: use))
    return generate_latest(registry).decode()


def test_what_is_exported_is_read() -> None:
    """Every series, to the last digit; members that say little, and none."""
    little: Sample = {Series.MASTER: 0.0}
    members = {("s1", "p1"): SAMPLE, ("s-2.x", "p1"): little}
    limits, found = parse(text_of(NodeUse(LIMITS, 30.0, members)))
    assert limits == {**LIMITS, NodeSeries.PORTS_INTERVAL: 30.0}
    assert found == members
    assert parse(text_of(NodeUse())) == ({NodeSeries.PORTS_INTERVAL: 0.0}, {})


def test_the_order_of_labels_and_a_time_do_not_matter() -> None:
    text = 'proxypool_conntrack_entries{subnet="s1",pair="p1",node="n1"} 5 1700000000000\n'
    assert parse(text)[1] == {("s1", "p1"): {Series.CONNTRACK: 5.0}}


def test_what_is_there_twice_is_not_known() -> None:
    """Also if the labels stand in another order."""
    for other in ('{pair="p1",subnet="s1"}', '{subnet="s1",pair="p1"}'):
        text = f'proxypool_conntrack_entries{{pair="p1",subnet="s1"}} 5\nproxypool_conntrack_entries{other} 5\n'
        assert math.isnan(parse(text)[1]["s1", "p1"][Series.CONNTRACK])


def test_what_is_no_number_is_not_known() -> None:
    text = 'proxypool_conntrack_entries{pair="p1",subnet="s1"} many\n'
    assert math.isnan(parse(text)[1]["s1", "p1"][Series.CONNTRACK])


def test_other_series_are_passed_over() -> None:
    """Of others, without the labels, and comments."""
    with pytest.raises(NoSeries):
        parse('up 1\n# proxypool_conntrack_entries{pair="p1",subnet="s1"} 5\nproxypool_member_fit{pair="p1"} 1\n')
    with pytest.raises(NoSeries):
        parse("proxypool_conntrack_entries 5\n")
    with pytest.raises(NoSeries):
        parse("")
    assert parse('proxypool_node_limit_packets_per_second 5\nproxypool_conntrack_entries{pair="p1"} 5\n')[1] == {}


class TestPagesOfOneNode:
    """One after the other."""

    def test_each_is_read_as_if_it_were_the_only_one(self) -> None:
        """Members come and go, say more and less, and values are what they are."""
        reader = PageReader()
        master: dict[Where, Sample] = {("s1", "p1"): SAMPLE}
        backup: dict[Where, Sample] = {("s2", "p1"): {Series.MASTER: 0.0, Series.AGE: 0.5}}
        odd: Sample = {**SAMPLE, Series.AGE: math.inf, Series.CONNTRACK: 0.0}
        uses = (
            *(NodeUse(LIMITS, 30.0, members) for members in (master, master, master | backup, backup, backup, master)),
            NodeUse({**LIMITS, NodeSeries.BYTES_LIMIT: 7.0}, 60.0, {("s1", "p1"): odd}),
            NodeUse(),
            NodeUse(),
        )
        for text in map(text_of, uses):
            assert reader.read(text) == parse(text)

    def test_what_is_no_number_is_not_known_and_the_rest_is(self) -> None:
        reader = PageReader()
        text = text_of(NodeUse(LIMITS, 30.0, {("s1", "p1"): SAMPLE}))
        reader.read(text)
        spoilt, count = re.subn(rf"^({Series.CONNTRACK_LIMIT}\S+) \S+$", r"\1 many", text, flags=re.MULTILINE)
        assert count == 1
        _, members = reader.read(spoilt)
        assert math.isnan(members["s1", "p1"][Series.CONNTRACK_LIMIT])
        assert members["s1", "p1"][Series.CONNTRACK] == SAMPLE[Series.CONNTRACK]
        assert reader.read(text) == parse(text)

    def test_a_page_of_something_else_is_refused_whenever_it_comes(self) -> None:
        reader = PageReader()
        for _ in range(2):
            reader.read(text_of(NodeUse(LIMITS, 30.0, {("s1", "p1"): SAMPLE})))
            with pytest.raises(NoSeries):
                reader.read("up 1\n")
