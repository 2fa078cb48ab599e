"""Whatever happens to counters, roles, daemons and answers: a load that counts as known is the true one, of just now.

The traffic of the pair only grows, so the true load is between what it was some seconds ago and what it is. What the
members' daemons do with their counters is their own code; the kernel below and the network above are made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxypool.adapters.counters import Counters, TableDrops, Traffic
from proxypool.core.scaling.exposition import NoSeries, PageReader, parse
from proxypool.core.scaling.model import Signal
from proxypool.core.scaling.series import NodeSample, NodeSeries, Sample, Series
from proxypool.core.scaling.signals import Signals
from proxypool.daemons.usage import Beginning, PortsSeen, Usage
from tests.property.effort import effort
from tests.unit.builders import pair

STALE_AFTER_S = 6.0
PAIR = pair()
WHERE = ("s1", "p1")
ENTRIES, LIMIT, PORTS = 5000, 20_000, 16_128
CONNECTIONS_PER_S, BYTES_PER_S, PACKETS_PER_S = 100_000, 10_000_000, 50_000
LIMITS: Sample = {
    NodeSeries.BYTES_LIMIT: 1e8,
    NodeSeries.PACKETS_LIMIT: 1e6,
    NodeSeries.CONNECTIONS_LIMIT: 1e6,
    NodeSeries.PORTS_INTERVAL: 30.0,
}
TRUTH = {
    Signal.CONNTRACK: 0.25,
    Signal.CONNECTIONS: 0.1,
    Signal.BYTES: 0.1,
    Signal.PACKETS: 0.1,
    Signal.PORTS: 0.25,
}
GROWING = (Signal.CONNECTIONS, Signal.BYTES, Signal.PACKETS)
OLDEST_S = 2 * STALE_AFTER_S + 3.0
"""A rate is the mean between two looks that may be so far apart, and old, and told late."""
ENOUGH_S = 20.0
"""Counters are reset only when they hold more than two looks can be apart; else nobody could see it."""


@dataclass
class Kernel:
    """Of one node. Counters are exact."""

    passed_s: float = 1000.0
    """So much of the traffic has the tunnel seen."""
    natted_s: float = 1000.0
    """And so much the rule for source NAT."""

    def read(self, *, is_master: bool) -> Counters:
        """As `NamespaceCounters`. A backup has a copy of the table."""
        volume, packets = round(BYTES_PER_S * self.passed_s), round(PACKETS_PER_S * self.passed_s)
        return Counters(
            ENTRIES,
            LIMIT,
            Traffic(volume, packets, 0, volume, packets, 0),
            Traffic(volume, packets, 0, volume, packets, 0),
            round(CONNECTIONS_PER_S * self.natted_s) if is_master else None,
            TableDrops(0, 0, 0) if is_master else None,
        )


@dataclass
class Node:
    name: str
    usage: Usage
    kernel: Kernel = field(default_factory=Kernel)
    said: list[NodeSample] = field(default_factory=list)


@dataclass
class World:
    """One pair, its two nodes, and who reads them."""

    now: float = 5000.0
    master: int = 0
    signals: Signals = field(default_factory=lambda: Signals(STALE_AFTER_S))
    traffic: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 1.0)])
    """Since when it is so many times what it was in the beginning."""
    nodes: list[Node] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = [Node(name, Usage(Beginning(self.now, self.now))) for name in ("n1", "n2")]

    def is_master(self, which: int) -> bool:
        return which == self.master

    def wait(self, span_s: float) -> None:
        self.now += span_s
        kernel, more = self.nodes[self.master].kernel, span_s * self.traffic[-1][1]
        kernel.passed_s, kernel.natted_s = kernel.passed_s + more, kernel.natted_s + more

    def grow(self, _which: int) -> None:
        """The entries and ports are not looked at twice: they stay."""
        self.traffic.append((self.now, self.traffic[-1][1] * 1.5))

    def truth(self, signal: Signal, now: float) -> float:
        """The load at a moment."""
        times = max(scale for since, scale in self.traffic if since <= now)
        return TRUTH[signal] * (times if signal in GROWING else 1.0)

    def tick(self, which: int) -> None:
        node = self.nodes[which]
        node.usage.observe(node.kernel, self.now, self.now, is_master=self.is_master(which))  # type: ignore[arg-type]

    def count_ports(self, which: int) -> None:
        if self.is_master(which):
            self.nodes[which].usage.ports = PortsSeen(PORTS, 0.01, self.now)

    def move(self, which: int) -> None:
        """It becomes master, if it is not."""
        if self.master != which:
            self.master = which
            for node in self.nodes:
                node.usage.begin(self.now, self.now)

    def restart(self, which: int) -> None:
        self.nodes[which].usage = Usage(Beginning(self.now, self.now))

    def remake(self, which: int) -> None:
        """The namespace is made anew, and the daemon opens it."""
        self.nodes[which].kernel = Kernel(0.0, 0.0)
        self.nodes[which].usage.begin(self.now, self.now)

    @property
    def enough(self) -> float:
        return ENOUGH_S * self.traffic[-1][1]

    def remake_rule(self, which: int) -> None:
        """The rule for source NAT, unseen by anybody."""
        kernel = self.nodes[which].kernel
        kernel.natted_s = 0.0 if kernel.natted_s > self.enough else kernel.natted_s

    def remake_tunnel(self, which: int) -> None:
        kernel = self.nodes[which].kernel
        kernel.passed_s = 0.0 if kernel.passed_s > self.enough else kernel.passed_s

    def scrape(
        self, which: int, spoil: Callable[[dict[str, float]], None] = lambda _: None, late_s: float = 0.0
    ) -> None:
        """The question was asked `late_s` ago."""
        node = self.nodes[which]
        said = dict(node.usage.sample(self.now, is_master=self.is_master(which)))
        spoil(said)
        sample = NodeSample(node.name, self.now - late_s, LIMITS, {WHERE: said})
        node.said.append(sample)
        self.signals.saw(sample)

    def repeat(self, which: int, back: int) -> None:
        """An answer that was given before comes again."""
        if self.nodes[which].said:
            self.signals.saw(self.nodes[which].said[-1 - back % len(self.nodes[which].said)])

    def check(self) -> None:
        found = self.signals.load_of((PAIR,), self.now)
        for signal, load in found.load.items():
            if load is not None:
                lowest, highest = self.truth(signal, self.now - OLDEST_S), self.truth(signal, self.now)
                assert lowest * (1 - 1e-3) <= load <= highest * (1 + 1e-3), (signal, found)
            assert (load is None) is (signal in found.problems["p1"]), (signal, found)
        for signal, load in found.at_least.items():
            assert found.load[signal] is None
            assert math.isfinite(load)
            assert load >= 0


@dataclass(frozen=True)
class Step:
    """What happens, at which node, and as the action says."""

    name: str
    which: int
    span_s: float
    series: Series
    value: float
    back: int


SIMPLE = ("grow", "tick", "move", "restart", "remake", "remake_rule", "remake_tunnel", "count_ports", "scrape")
steps = st.builds(
    Step,
    st.sampled_from(
        ("round", "round", "round", "wait", "late", "lose", "spoil", "repeat", "silence", "silence", "grow", *SIMPLE)
    ),
    st.sampled_from((0, 1)),
    st.floats(0.05, 3.0),
    st.sampled_from([each for each in Series if each is not Series.MASTER]),
    st.sampled_from((math.nan, math.inf, -math.inf, -1.0)),
    st.integers(0, 3),
)


def act(world: World, step: Step) -> None:
    """Make it happen."""

    def lose(said: dict[str, float]) -> None:
        said.pop(step.series, None)

    def spoil(said: dict[str, float]) -> None:
        if step.series in said:
            said[step.series] = step.value

    match step.name:
        case "round":
            live(world)
        case "wait":
            world.wait(step.span_s)
        case "silence":
            world.wait(20 * step.span_s)
        case "late":
            world.scrape(step.which, late_s=step.span_s)
        case "lose":
            world.scrape(step.which, lose)
        case "spoil":
            world.scrape(step.which, spoil)
        case "repeat":
            world.repeat(step.which, step.back)
        case name:
            getattr(world, name)(step.which)


def live(world: World) -> None:
    """A second or two as they should be."""
    for each in (0, 1):
        world.wait(1.0)
        world.tick(each)
        world.scrape(each)


@given(st.lists(steps, max_size=50))
@effort(300)
def test_a_known_load_is_true(happening: list[Step]) -> None:
    """Resets, moved masters, restarts, NaN, what is missing, late, old or repeated."""
    world = World()
    for step in happening:
        act(world, step)
        world.check()


def test_the_world_is_understood_when_nothing_happens() -> None:
    """Else the test above would prove nothing."""
    world = World()
    world.count_ports(0)
    for _ in range(3):
        live(world)
    found = world.signals.load_of((PAIR,), world.now)
    assert found.load == pytest.approx(TRUTH, rel=1e-3)


@given(st.text(alphabet=' {}="\n\\#,.0123456789NaInf+-epair_subnets1xyz', max_size=200), st.data())
@effort(200)
def test_any_text_is_read_or_refused(text: str, data: st.DataObject) -> None:
    """And nothing but numbers comes of it."""
    lines = text.split("\n")
    for name in data.draw(st.lists(st.sampled_from([*Series, *NodeSeries]), max_size=4)):
        lines.insert(data.draw(st.integers(0, len(lines))), f"{name}{data.draw(st.sampled_from(lines))}")
    try:
        limits, members = parse("\n".join(lines))
    except ValueError:
        return
    assert all(isinstance(value, float) for sample in (limits, *members.values()) for value in sample.values())


LINES = st.lists(
    st.tuples(
        st.sampled_from([*list(Series)[:4], *NodeSeries, "# HELP a text of it", "other_series"]),
        st.sampled_from(
            ['{subnet="s1",pair="p1"}', '{pair="p1",subnet="s1"}', '{subnet="s2",pair="p1"}', '{a="b c"}', ""]
        ),
        st.sampled_from(["0", "1.5", "NaN", "+Inf", "many", "2 1700000000000"]),
    ),
    max_size=8,
)


@given(st.lists(st.one_of(st.none(), LINES, st.integers(0, 7)), max_size=12))
@effort(120)
def test_a_page_is_read_the_same_whatever_was_read_before(pages: list[list[tuple[str, str, str]] | int | None]) -> None:
    """Another page, the last one again, or the last one with another value somewhere."""
    reader, lines = PageReader(), list[tuple[str, str, str]]()
    for page in pages:
        if isinstance(page, list):
            lines = page
        elif page is not None and page < len(lines):
            lines = [*lines[:page], (*lines[page][:2], "7.25"), *lines[page + 1 :]]
        text = "".join(f"{name}{labels} {value}\n" for name, labels, value in lines)
        assert _read(reader.read, text) == _read(parse, text)


def _read(how: Callable[[str], object], text: str) -> str:
    """As text, so that NaN equals NaN."""
    try:
        return repr(how(text))
    except NoSeries:
        return "none"
