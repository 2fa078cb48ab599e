"""The controller's process, whole: pairs come, go and are replaced, whatever kills it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from proxypool.adapters.zookeeper import PoolHistory
from proxypool.adapters.zookeeper.layout import ACTIONS, REPORT
from proxypool.adapters.zookeeper.reading import read_children
from proxypool.core.documents import decode
from proxypool.core.history import Record
from proxypool.core.model import PairSpec, PairState
from proxypool.core.requests import PoolRequest
from proxypool.core.scaling.documents import Report
from proxypool.core.scaling.model import ScalingMode
from proxypool.core.scaling.requests import ScalingRequest
from tests.contract.conftest import Connect
from tests.contract.controllers import LIMIT, NODES, Controller, Nodes, spares
from tests.contract.zk import PoolClient, ZooKeeperServer, free_port, subnet_request, wait_until

Start = Callable[..., Controller]


@pytest.fixture
def empty(connect: Connect) -> PoolClient:
    """An operator, and a pool of one subnet without pairs."""
    client = connect()
    client.store.apply(PoolRequest(subnets=(subnet_request(1),)))
    client.store.scaling.add_spares("s1", spares())
    return client


@pytest.fixture
def nodes(empty: PoolClient, connect: Connect) -> Iterator[Nodes]:
    found = Nodes(connect())
    yield found
    found.stop()


@pytest.fixture
def start(shared_server: ZooKeeperServer, pool: str, tmp_path: Path) -> Iterator[Start]:
    made: list[Controller] = []

    def begin(name: str = "c1", more: str = "", **options: str) -> Controller:
        made.append(Controller(shared_server, pool, tmp_path, name, free_port(), more=more, **options))
        return made[-1].start()

    yield begin
    for controller in made:
        controller.kill()
        print(controller.log.read_text()[-3000:])  # noqa: T201 - pytest shows it if the test fails


def size(client: PoolClient, least: int, most: int = 3, mode: ScalingMode = ScalingMode.OBSERVE) -> None:
    client.store.scaling.set("s1", ScalingRequest(min_pairs=least, max_pairs=most, mode=mode))


def pairs(client: PoolClient) -> list[PairSpec]:
    return list(client.mirror.snapshot.pairs.get("s1", {}).values())


def active(client: PoolClient) -> int:
    return sum(pair.state is PairState.ACTIVE for pair in pairs(client))


def state(client: PoolClient, pair: str) -> PairState | None:
    return next((one.state for one in pairs(client) if one.id == pair), None)


def actions(client: PoolClient) -> tuple[str, ...]:
    (names,) = read_children(client.session, (client.session.layout.path(ACTIONS),))
    return names or ()


def records(client: PoolClient) -> list[Record]:
    history = PoolHistory(client.session)
    return list(history.read(history.names()).records)


def openings(client: PoolClient) -> list[tuple[int | None, int | None]]:
    """Active pairs before and after each addition, in the order of the additions: that in which they began may be
    another, as whoever is ready first is opened first.
    """
    found = [(one.pairs_before, one.pairs_after) for one in records(client) if one.kind == "scale-out"]
    return sorted(found, key=lambda sizes: sizes[0] or 0)


def is_settled(client: PoolClient, count: int) -> Callable[[], bool]:
    return lambda: active(client) == len(pairs(client)) == count and not actions(client)


def test_a_subnet_gets_the_pairs_that_it_must_have(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """In two zones, opened when they are ready, and told in history, report and metrics."""
    size(empty, 2)
    controller = start()
    wait_until(is_settled(empty, 2), "two pairs", 30.0)
    for pair in pairs(empty):
        zones = {nodes.client.mirror.snapshot.nodes[member.node].labels["zone"] for member in pair.members}
        assert len(zones) == 2
        assert pair.provider == "spare"
    assert {(one.kind, one.reason) for one in records(empty)} == {("scale-out", "min-pairs")}
    assert openings(empty) == [(0, 1), (1, 2)]
    wait_until(lambda: report(empty).subnets["s1"].active == 2, "the report says so")
    with urlopen(f"http://127.0.0.1:{controller.port}/metrics") as answer:
        text = answer.read().decode()
    assert 'proxypool_scaling_pairs_ready{subnet="s1"} 2.0' in text
    # What is not written in time, as on a slow machine, is asked for again, and the answer is the same.
    calls = re.search(r'proxypool_provider_calls_total{call="acquire-card",result="ok"} (\S+)', text)
    assert calls is not None
    assert float(calls[1]) >= 4


def report(client: PoolClient) -> Report:
    return decode(client.get(REPORT), Report, what="report")


def test_no_host_is_sent_to_a_pair_that_is_not_ready(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """It stays `preparing` for as long as its members do."""
    nodes.is_ready = False
    size(empty, 1)
    start()
    wait_until(lambda: pairs(empty), "a pair comes", 30.0)
    time.sleep(1.5)
    assert [pair.state for pair in pairs(empty)] == [PairState.PREPARING]
    nodes.is_ready = True
    wait_until(is_settled(empty, 1), "it is opened")


def test_pairs_are_added_together(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """Three that are missing are all prepared before the first is opened; no node is in two of them, and nobody's
    HaVip or card is another's.
    """
    nodes.is_ready = False
    size(empty, 3)
    start()
    wait_until(lambda: len(pairs(empty)) == 3, "three pairs come", 30.0)
    assert {pair.state for pair in pairs(empty)} == {PairState.PREPARING}
    assert sorted(actions(empty)) == sorted(f"s1_{pair.id}" for pair in pairs(empty))
    told = report(empty).subnets["s1"]
    assert (told.active, told.wanted, told.blocked, told.waits) == (0, 3, "", "")
    nodes.is_ready = True
    wait_until(is_settled(empty, 3), "all are open")
    assert {member.node for pair in pairs(empty) for member in pair.members} == set(NODES)
    assert len({pair.havip for pair in pairs(empty)}) == 3
    assert openings(empty) == [(0, 1), (1, 2), (2, 3)]


def test_what_waits_for_its_turn_begins_when_another_one_ends(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """Not with the next round: in a large pool those are far apart."""
    size(empty, 2)
    start(pace="interval_s = 60\nmax_actions = 1")
    wait_until(is_settled(empty, 2), "two pairs, one after the other", 90.0)
    assert openings(empty) == [(0, 1), (1, 2)]
    began = sorted(one.at for one in records(empty))
    assert began[-1] - began[0] < 45.0, "not a round later"


def test_the_pair_that_is_ready_first_is_opened_first(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """Though another one began before it. The log has them as they began; what they tell is how it was."""
    nodes.is_ready = False
    size(empty, 2)
    start()
    wait_until(lambda: len(pairs(empty)) == 2, "two pairs come", 30.0)
    first, second = sorted(pair.id for pair in pairs(empty))
    nodes.late, nodes.is_ready = frozenset({first}), True
    wait_until(lambda: state(empty, second) is PairState.ACTIVE, "the second one is opened", 20.0)
    assert state(empty, first) is PairState.PREPARING
    nodes.late = frozenset()
    wait_until(is_settled(empty, 2), "the first one too")
    told = [(one.pair, one.pairs_before, one.pairs_after) for one in records(empty)]
    assert told == [(first, 1, 2), (second, 0, 1)]


def test_pairs_come_while_another_one_drains(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """Its connections may last for an hour; the load that grows meanwhile does not wait for them."""
    nodes.connections = 7
    size(empty, 2)
    start()
    wait_until(is_settled(empty, 2), "two pairs", 30.0)
    leaving, _ = pairs(empty)
    size(empty, 1)
    empty.store.pairs.drain("s1", leaving.id, time.time())
    wait_until(lambda: actions(empty) == (f"s1_{leaving.id}",), "its removal is under way")
    size(empty, 2)
    wait_until(lambda: active(empty) == 2 and len(actions(empty)) == 1, "another one has come", 20.0)
    assert state(empty, leaving.id) is PairState.DRAINING
    nodes.connections = 0
    wait_until(is_settled(empty, 2), "the first one is gone")
    assert leaving.id not in {pair.id for pair in pairs(empty)}


def test_the_load_adds_pairs(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """More than a pair can carry: another two within seconds."""
    size(empty, 1, 3, ScalingMode.ENFORCE)
    start()
    wait_until(is_settled(empty, 1), "one pair", 30.0)
    began = time.monotonic()
    nodes.entries = int(LIMIT * 1.2)
    wait_until(is_settled(empty, 3), "three pairs", 30.0)
    assert time.monotonic() - began < 10.0
    assert {one.reason for one in records(empty)} <= {"min-pairs", "panic", "max-pairs"}
    assert records(empty)[-1].signals["conntrack"] > 1.0


def test_a_drained_node_is_left_for_others(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """The new pair is open before the old one drains; then nothing of the old one is left."""
    size(empty, 1)
    start()
    wait_until(is_settled(empty, 1), "one pair", 30.0)
    (old,) = pairs(empty)
    left = old.members[0].node
    fewest = [1]
    empty.store.scaling.drain(left, time.time(), "tester", "")

    def is_replaced() -> bool:
        fewest.append(active(empty))
        return is_settled(empty, 1)() and pairs(empty)[0].id != old.id

    wait_until(is_replaced, "another pair", 30.0)
    assert min(fewest) == 1
    assert left not in {member.node for member in pairs(empty)[0].members}
    assert [one.kind for one in records(empty)] == ["scale-out", "replace"]


def test_a_dead_node_is_replaced_after_a_while(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """Ten seconds in this test, and not before. The old pair goes when the node is back, and could be told."""
    size(empty, 1)
    start()
    wait_until(is_settled(empty, 1), "one pair", 30.0)
    (old,) = pairs(empty)
    began = time.monotonic()
    nodes.die(old.members[1].node)

    def is_replaced() -> bool:
        return [pair.state for pair in pairs(empty) if pair.id != old.id] == [PairState.ACTIVE]

    wait_until(is_replaced, "another pair", 40.0)
    assert time.monotonic() - began >= 10.0
    wait_until(lambda: state(empty, old.id) is PairState.DRAINING, "the old one drains")
    time.sleep(1.0)
    assert state(empty, old.id) is PairState.DRAINING
    nodes.register(old.members[1].node)
    wait_until(is_settled(empty, 1), "the old one is gone", 20.0)
    assert records(empty)[-1].reason == "dead-node"


def test_the_next_leader_goes_on_where_the_last_one_was(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """SIGTERM: at once, and with exit code 0."""
    nodes.is_ready = False
    size(empty, 1)
    first = start("c1")
    wait_until(lambda: pairs(empty), "a pair comes", 30.0)
    (before,) = pairs(empty)
    second = start("c2")
    wait_until(lambda: second.said("started"), "it stands", 20.0)
    assert first.end() == 0
    second.wait_to_lead()
    nodes.is_ready = True
    wait_until(is_settled(empty, 1), "it is opened")
    assert [pair.id for pair in pairs(empty)] == [before.id]
    assert [one.by for one in records(empty)] == ["c2"]


def test_nothing_leaks_whenever_it_is_killed(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """Killed again and again while pairs come and go; in the end there is what there must be, and no more."""
    moments = random.Random(7)
    size(empty, 2)
    controller = start()
    controller.wait_to_lead()
    wait_until(lambda: pairs(empty), "the first pair comes", 20.0)
    for _ in range(4):
        for node in sorted({member.node for pair in pairs(empty) for member in pair.members})[:1]:
            empty.store.scaling.drain(node, time.time(), "tester", "")
        time.sleep(moments.uniform(0.0, 2.0))
        controller.kill()
        controller.start()
        time.sleep(moments.uniform(1.0, 3.0))
        for node in sorted(nodes.client.mirror.snapshot.nodes):
            empty.store.scaling.uncordon(node, "tester", "")
    wait_until(is_settled(empty, 2), "two pairs and no action", 60.0)
    assert {pair.provider for pair in pairs(empty)} == {"spare"}


def test_a_bad_document_is_shown_and_stops_nothing(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """Neither a subnet's nor an action's. Where a pair cannot be read none is added."""
    empty.store.apply(PoolRequest(subnets=(subnet_request(2), subnet_request(3), subnet_request(4))))
    start().wait_to_lead()
    empty.put("subnets/s2", b"{")
    empty.make(f"{ACTIONS}/s3", b"nonsense")
    empty.make("subnets/s4/pairs/p1", b"unreadable")
    empty.store.scaling.set("s4", ScalingRequest(min_pairs=1))
    size(empty, 1)
    wait_until(lambda: active(empty) == 1, "a pair", 20.0)

    def told() -> set[str]:
        return {name for name in ("s2", "s3") if any(name in problem for problem in report(empty).problems)}

    wait_until(lambda: told() == {"s2", "s3"}, "both are told")
    assert "subnets/s4/pairs/p1" in report(empty).subnets["s4"].blocked


def test_a_provider_that_is_not_there_is_told(empty: PoolClient, nodes: Nodes, start: Start) -> None:
    """No pair comes, and the process goes on."""
    size(empty, 1)
    controller = start(more='[provider]\nname = "clowd"\n')
    controller.wait_to_lead()
    wait_until(lambda: empty.exists(REPORT) and report(empty).subnets["s1"].blocked, "it is told", 10.0)
    assert "there is no provider 'clowd'" in report(empty).subnets["s1"].blocked
    assert any("clowd" in problem for problem in report(empty).problems)
    assert controller.process is not None
    assert controller.process.poll() is None
    assert pairs(empty) == []


def test_zookeeper_may_go_and_come_back(
    own_server: ZooKeeperServer, pool: str, clients: list[PoolClient], tmp_path: Path
) -> None:
    """The process lives on, leads again, and does its work."""
    client = PoolClient(own_server, pool, 30.0).start()
    clients.append(client)
    client.store.apply(PoolRequest(subnets=(subnet_request(1),)))
    client.store.scaling.add_spares("s1", spares())
    nodes = Nodes(client)
    controller = Controller(own_server, pool, tmp_path, "c1", free_port()).start()
    try:
        controller.wait_to_lead()
        own_server.stop()
        time.sleep(3.0)
        own_server.start()
        client.session.connect(20)
        size(client, 1)
        wait_until(is_settled(client, 1), "a pair", 30.0)
        assert controller.process is not None
        assert controller.process.poll() is None
    finally:
        controller.kill()
        nodes.stop()
