"""What the controller's work grows with, counted in calls: a pool of ten thousand pairs must not stand still."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface
from itertools import chain

from msgspec.structs import replace

from proxypool.core.model import MemberSpec, NodeSpec, PairSpec, Snapshot, SubnetSpec
from proxypool.core.scaling.documents import Spares
from proxypool.core.scaling.exposition import PageReader, parse
from proxypool.core.scaling.model import ScalingMode, ScalingSpec
from proxypool.core.scaling.plan import Limits, Nodes, Plan, Subject, new_breaker, plan
from proxypool.core.scaling.policy import Parameters
from proxypool.core.scaling.series import NodeSample, NodeSeries, Series
from proxypool.core.scaling.signals import Signals
from proxypool.daemons.sizing import Sizing
from proxypool.providers.contract import Intent, PoolView
from proxypool.providers.spare import Spare
from tests.unit.builders import subnet
from tests.unit.counted_calls import calls
from tests.unit.signal_samples import LIMITS, counted, idle

PAIRS = 2
PAIRS_OF_A_NODE = 10
STALE_S, NOW = 6.0, 14.0
MOST_OF_A_SUBNET, MOST_OF_A_MEMBER, MOST_OF_A_LINE = 220, 105, 0.5
"""Calls: some more than there are. Of a subnet there were 512, of a line 4."""


class Pool:
    """So many subnets of two pairs each, on as many nodes as that takes; masters are busy."""

    def __init__(self, subnets: int) -> None:
        self.nodes = max(4, 2 * subnets * PAIRS // PAIRS_OF_A_NODE)
        names = [f"s{number}" for number in range(subnets)]
        self.subnets = {name: _scaled(name, key) for key, name in enumerate(names, 1)}
        self.pairs = {
            name: {f"p{at}": self._pair(name, at, number * PAIRS + at) for at in range(PAIRS)}
            for number, name in enumerate(names)
        }
        self.signals = Signals(STALE_S)
        self.sizing = Sizing(Parameters(), self.signals, lambda _cause, _more: None)

    def _pair(self, name: str, at: int, number: int) -> PairSpec:
        places = (number % self.nodes, (number + self.nodes // 2) % self.nodes)
        members = tuple(_card(f"n{place}", 10 + 2 * at + side) for side, place in enumerate(places))
        havip = IPv4Address("192.168.0.0") + number
        return PairSpec(id=f"p{at}", subnet=name, members=members, havip=havip, vrid=1 + number % 255)

    def said(self, at: float) -> list[NodeSample]:
        """By all nodes."""
        members: dict[str, dict[tuple[str, str], object]] = {}
        for pair in chain.from_iterable(pairs.values() for pairs in self.pairs.values()):
            for side, one in enumerate(pair.members):
                members.setdefault(one.node, {})[pair.subnet, pair.id] = idle(at) if side else counted(at)
        return [NodeSample(node, at, LIMITS, found) for node, found in members.items()]  # type: ignore[arg-type]

    def hear(self, at: float) -> int:
        """All nodes have answered; in how many calls that was taken in."""
        samples = self.said(at)

        def hear() -> None:
            for sample in samples:
                self.signals.saw(sample)

        return calls(hear)

    def round(self, now: float) -> Plan:
        """What a round does for all subnets."""
        self.sizing.look(self.subnets, Snapshot(subnets=self.subnets, pairs=self.pairs), (), now)
        decisions = self.sizing.decisions
        subjects = [Subject(spec, self.pairs[name], decisions[name]) for name, spec in self.subnets.items()]
        return plan(subjects, (), Nodes(), Limits(), new_breaker(), (1_800_000_000.0, now))


def _scaled(name: str, key: int) -> SubnetSpec:
    return replace(subnet(name, key=key), scaling=ScalingSpec(min_pairs=PAIRS, mode=ScalingMode.ENFORCE))


def _card(node: str, number: int) -> MemberSpec:
    return MemberSpec(node=node, eni=f"eth{number}", address=IPv4Interface(f"172.16.101.{number}/24"))


def test_a_round_does_little_for_each_subnet_and_the_same_in_a_large_pool() -> None:
    """With all that is known having changed since the last one, as it does while traffic flows."""
    of_a_subnet = []
    for size in (10, 100):
        pool = Pool(size)
        for at in (10.0, 12.0, NOW):
            heard = pool.hear(at)
        assert heard / (size * PAIRS * 2) <= MOST_OF_A_MEMBER
        pool.round(12.0)
        assert pool.signals.load_of(pool.pairs["s0"].values(), NOW).at_least == {}, "everything is known"
        of_a_subnet.append(calls(lambda pool=pool: pool.round(NOW)) / size)  # type: ignore[misc]
    small, large = of_a_subnet
    assert large <= small <= MOST_OF_A_SUBNET


def _card_calls(size: int) -> list[int]:
    """Of each call that an add makes, when another pair has come since the last one."""
    pool = Pool(size)
    cards = (_card("n1", 31), _card("n3", 32))
    spares = {"s0": Spares(members=cards, havips=(IPv4Address("192.168.200.1"),))}
    spare = Spare(lambda: PoolView(spares, pool.pairs))
    nodes = tuple(NodeSpec(id=card.node, underlay=IPv4Address("10.0.0.1")) for card in cards)
    spec, intent = pool.subnets["s0"], Intent("pool", pool.subnets["s0"], "p9")
    spare.offers(spec, nodes, 1.0)
    found = []
    for act in (
        lambda: spare.offers(spec, nodes, 1.0),
        lambda: spare.acquire_addresses(intent, nodes, 1.0),
        lambda: spare.acquire_card(intent, nodes[0], 1.0),
    ):
        pool.pairs = {**pool.pairs, "s1": dict(pool.pairs["s1"])}
        found.append(calls(act))
    return found


def test_what_a_new_pair_takes_costs_the_same_in_a_large_pool() -> None:
    """The provider `spare` looks only at subnets whose pairs have changed."""
    small, large = (_card_calls(size) for size in (10, 100))
    assert all(after - before <= 100 - 10 for before, after in zip(small, large, strict=True)), "one look at a subnet"


def test_a_page_like_the_last_one_is_not_read_line_by_line() -> None:
    """Half a million lines come in every interval of a thousand nodes."""

    def page(scale: float) -> str:
        lines = [f"{series} {1e6 * scale}" for series in NodeSeries]
        for number in range(20):
            labels = f'{{subnet="s{number}",pair="p1"}}'
            lines += [f"# TYPE {series} gauge\n{series}{labels} {number * scale}" for series in Series]
        return "\n".join([*lines, ""])

    reader, texts = PageReader(), [page(scale) for scale in (1.0, 2.0, 3.0)]
    for text in texts[:2]:
        reader.read(text)
    found = []
    assert calls(lambda: found.append(reader.read(texts[2]))) <= MOST_OF_A_LINE * texts[2].count("\n")
    assert found == [parse(texts[2])]
