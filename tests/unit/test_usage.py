"""What a node knows of what its pairs use: looks at the counters, and looks at the ports."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from proxypool.adapters.counters import Counters, TableDrops, Traffic
from proxypool.core.config import NodeConfig
from proxypool.core.role import Role
from proxypool.core.scaling.series import NodeSeries, Series
from proxypool.daemons.messages import PortsCounted
from proxypool.daemons.port_sampling import PortSampling
from proxypool.daemons.table_reader import Question
from proxypool.daemons.usage import Beginning, PortsSeen, Usage, limits_of

TRAFFIC = Traffic(100, 10, 1, 200, 20, 2)
WHOLE = Counters(5, 1000, TRAFFIC, TRAFFIC, 7, TableDrops(1, 2, 3), 1.25e9)
NEEDS_COUNTERS = set(Series) - {Series.MASTER, Series.PORTS, Series.PORTS_LIMIT, Series.PORTS_AGE, Series.PORTS_COST}


@dataclass
class Source:
    """Counters as they are told."""

    counters: Counters | None = WHOLE
    looks: int = 0

    def read(self, *, is_master: bool) -> Counters:
        self.looks += 1
        if self.counters is None:
            raise OSError
        return self.counters


def observe(usage: Usage, source: Source, now: float, *, is_master: bool = True) -> None:
    usage.observe(source, now, now + 1e6, is_master=is_master)  # type: ignore[arg-type]  # what it needs of counters


class TestUsage:
    def test_everything_that_is_known_is_told(self) -> None:
        usage = Usage(Beginning(1e6, 0.0))
        observe(usage, Source(), 5.0)
        usage.ports = PortsSeen(9, 0.5, 4.0)
        sample = usage.sample(6.0, is_master=True)
        assert set(sample) == set(Series)
        told = {series: sample[series] for series in (Series.SINCE, Series.CLOCK, Series.AGE, Series.PORTS_AGE)}
        assert told == {Series.SINCE: 1e6, Series.CLOCK: 5.0, Series.AGE: 1.0, Series.PORTS_AGE: 2.0}
        assert (sample[Series.ENI_DROPS], sample[Series.TUNNEL_DROPS], sample[Series.PORTS_COST]) == (3, 3, 0.5)

    def test_what_the_kernel_does_not_tell_is_left_out(self) -> None:
        usage = Usage(Beginning(1e6, 0.0))
        observe(usage, Source(Counters(None, None, None)), 5.0)
        assert set(usage.sample(6.0, is_master=True)) == {Series.MASTER, Series.SINCE, Series.CLOCK, Series.AGE}

    def test_before_the_first_look_only_the_role_is_known(self) -> None:
        usage = Usage(Beginning(1e6, 0.0))
        observe(usage, Source(None), 5.0)
        assert usage.sample(6.0, is_master=False) == {Series.MASTER: 0.0}

    def test_it_is_looked_at_every_second_tick(self) -> None:
        usage, source = Usage(Beginning(1e6, 0.0)), Source()
        for now in (5.0, 6.0, 7.0, 8.0, 9.0):
            observe(usage, source, now)
        assert source.looks == 3

    def test_what_was_read_in_another_role_is_not_told(self) -> None:
        """And the next look comes at once."""
        usage, source = Usage(Beginning(1e6, 0.0)), Source()
        observe(usage, source, 5.0, is_master=False)
        usage.ports = PortsSeen(9, 0.5, 4.0)
        usage.begin(1e6 + 5.5, 5.5)
        assert usage.sample(5.6, is_master=True) == {Series.MASTER: 1.0}
        observe(usage, source, 6.0)
        sample = usage.sample(6.0, is_master=True)
        assert set(sample) == NEEDS_COUNTERS | {Series.MASTER}
        assert sample[Series.SINCE] == 1e6 + 6.0, "the look noticed that the role is another one"

    def test_a_role_that_is_newer_than_the_look_hides_it(self) -> None:
        usage = Usage(Beginning(1e6, 0.0))
        observe(usage, Source(), 5.0, is_master=False)
        assert usage.sample(5.1, is_master=True) == {Series.MASTER: 1.0}

    def test_a_look_that_fails_leaves_the_last_one_to_age(self) -> None:
        usage, source = Usage(Beginning(1e6, 0.0)), Source()
        observe(usage, source, 5.0)
        source.counters = None
        observe(usage, source, 9.0)
        assert usage.sample(9.0, is_master=True)[Series.AGE] == 4.0

    def test_rates_for_the_status(self) -> None:
        usage, source = Usage(Beginning(1e6, 0.0)), Source()
        observe(usage, source, 5.0)
        source.counters = Counters(5, 1000, Traffic(300, 30, 1, 600, 40, 2))
        observe(usage, source, 7.0)
        assert usage.rates == (100.0, 200.0, 20.0)


@dataclass
class Tables:
    """Remembers what was asked; nothing is read."""

    asked: list[Question] = field(default_factory=list)

    def ask(self, question: Question) -> None:
        self.asked.append(question)


def member(entries: int | None = 500, role: Role = Role.MASTER, handles: object = "open") -> SimpleNamespace:
    usage = Usage(Beginning(1e6, 0.0))
    observe(usage, Source(Counters(entries, 1000, None)), 0.0)
    return SimpleNamespace(usage=usage, state=SimpleNamespace(role=role, role_since=0.0), handles=handles)


@dataclass
class Node:
    """A node's members, and what is told of their tables."""

    members: dict[str, SimpleNamespace]
    tables: Tables = field(default_factory=Tables)

    def __post_init__(self) -> None:
        self.sampling = PortSampling(self.members, self.tables)  # type: ignore[arg-type]  # what it needs of them

    def asked(self) -> list[str]:
        """Subnets asked for since the last time."""
        found = [question.subnet for question in self.tables.asked]
        self.tables.asked.clear()
        return found

    def answer(self, subnet: str, now: float, cpu_s: float = 0.001) -> None:
        self.sampling.counted(PortsCounted(subnet, 9, cpu_s, now, None), now)


class TestPorts:
    def test_tables_are_read_one_after_the_other_and_each_every_thirty_seconds(self) -> None:
        node = Node({"s1": member(), "s2": member(), "s3": member()})
        node.sampling.second_passed(10.0)
        assert node.asked() == ["s1"]
        node.sampling.second_passed(11.0)
        assert node.asked() == []
        for subnet, following in (("s1", ["s2"]), ("s2", ["s3"]), ("s3", [])):
            node.answer(subnet, 11.0)
            assert node.asked() == following
        node.sampling.second_passed(39.9)
        assert node.asked() == []
        node.sampling.second_passed(40.0)
        assert node.asked() == ["s1"]
        assert node.members["s3"].usage.ports == PortsSeen(9, 0.001, 11.0)

    def test_a_table_is_left_alone_just_after_a_change_of_master(self) -> None:
        """The processor that reads it forwards nothing meanwhile."""
        node = Node({"s1": member()})
        node.members["s1"].state.role_since = 100.0
        node.sampling.second_passed(104.9)
        assert node.asked() == []
        node.sampling.second_passed(105.0)
        assert node.asked() == ["s1"]

    def test_only_a_masters_table_that_is_open_is_read(self) -> None:
        node = Node({"s1": member(role=Role.BACKUP), "s2": member(handles=None), "s3": member(None)})
        node.sampling.second_passed(10.0)
        assert node.asked() == []
        assert [one.usage.ports for one in node.members.values()] == [None] * 3

    def test_of_few_connections_their_number_is_told(self) -> None:
        """They cannot use more ports; while it is read, a processor forwards nothing."""
        node = Node({"s1": member(0), "s2": member(256), "s3": member(257)})
        node.sampling.second_passed(10.0)
        assert node.asked() == ["s3"]
        assert node.members["s1"].usage.ports == PortsSeen(0, 0.0, 10.0)
        assert node.members["s2"].usage.ports == PortsSeen(256, 0.0, 10.0)
        node.answer("s3", 11.0)
        observe(node.members["s2"].usage, Source(Counters(257, 1000, None)), 39.0)
        node.sampling.second_passed(39.9)
        assert node.asked() == []
        node.sampling.second_passed(40.0)
        assert node.asked() == ["s2"]

    def test_together_they_take_a_hundredth_of_a_processor(self) -> None:
        """How rarely each is read then is told, to those who must know how old is too old."""
        node = Node({"s1": member(), "s2": member()})
        assert node.sampling.interval_s == 30.0
        node.sampling.second_passed(10.0)
        node.answer("s1", 10.5, cpu_s=2.0)
        assert node.asked() == ["s1"], "the other one waits for the next second"
        node.sampling.second_passed(11.0)
        assert node.asked() == ["s2"]
        node.answer("s2", 11.5, cpu_s=1.0)
        assert node.sampling.interval_s == 300.0
        node.sampling.second_passed(309.0)
        assert node.asked() == []
        node.sampling.second_passed(310.0)
        assert node.asked() == ["s1"]

    def test_a_pair_that_is_no_longer_ours_costs_nothing(self) -> None:
        node = Node({"s1": member()})
        node.sampling.second_passed(10.0)
        node.answer("s1", 10.0, cpu_s=5.0)
        node.members["s1"].state.role = Role.BACKUP
        node.sampling.second_passed(11.0)
        assert node.sampling.interval_s == 30.0
        node.members["s1"].state.role = Role.MASTER
        node.sampling.second_passed(12.0)
        assert node.asked() == ["s1", "s1"], "at once when it is ours again"
        del node.members["s1"]
        node.answer("s1", 13.0)

    def test_what_cannot_be_read_is_not_known(self, caplog: pytest.LogCaptureFixture) -> None:
        """Said once; others are read, and this one in its turn."""
        node = Node({"s1": member(), "s2": member()})
        with caplog.at_level(logging.WARNING):
            for now in (10.0, 40.0):
                node.sampling.second_passed(now)
                node.sampling.counted(PortsCounted("s1", None, 0.0, now, "no namespace"), now)
                assert node.asked() == ["s1", "s2"]
                node.answer("s2", now)
        assert node.members["s1"].usage.ports is None
        assert [record.message for record in caplog.records] == ["s1: cannot look at its ports: no namespace"]


def test_a_nodes_limits_are_what_is_configured_and_else_what_its_card_says() -> None:
    """What nobody knows is no limit: loopback has no speed."""
    assert limits_of(NodeConfig(underlay="lo")) == {}
    configured = NodeConfig(underlay="lo", bandwidth_bytes_per_s=5, packets_per_s=6, new_connections_per_s=7)
    assert limits_of(configured) == {
        NodeSeries.BYTES_LIMIT: 5.0,
        NodeSeries.PACKETS_LIMIT: 6.0,
        NodeSeries.CONNECTIONS_LIMIT: 7.0,
    }
