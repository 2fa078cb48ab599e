"""What a leading controller writes: fenced, checked like an operator's edit, and together with its action."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Interface

import pytest
from msgspec.structs import replace

from proxypool.adapters.zookeeper import PoolHistory
from proxypool.adapters.zookeeper.actions import ActionStore, Deposed
from proxypool.adapters.zookeeper.errors import Conflict
from proxypool.adapters.zookeeper.layout import ACTIONS, REPORT, action_suffix
from proxypool.adapters.zookeeper.leadership import Leader, Leadership
from proxypool.core.documents import decode, encode
from proxypool.core.errors import InvalidInput
from proxypool.core.history import Record
from proxypool.core.model import MemberSpec, PairState, Snapshot
from proxypool.core.requests import PairRequest, PairSettings
from proxypool.core.scaling.documents import Action, ActionKind, Report, Step
from proxypool.core.scaling.turns import PutPair, RemovePair, SetState, Turn
from tests.contract.conftest import Connect
from tests.contract.zk import PoolClient, pair_request, wait_until


def card(node: str, address: str, eni: str = "eni9") -> MemberSpec:
    return MemberSpec(node=node, eni=eni, address=IPv4Interface(address))


ADD = Action(
    id="1-s1",
    kind=ActionKind.ADD,
    subnet="s1",
    pair="p-new",
    step=Step.READY,
    reason="load",
    began=1.0,
    step_since=2.0,
    members=(card("node-c", "172.16.1.21/24"), card("node-b9", "172.16.1.22/24")),
    havip=IPv4Address("192.168.4.99"),
    provider="fake",
)


class Controller:
    def __init__(self, client: PoolClient) -> None:
        self.client = client
        self.leadership = Leadership(client.session, "c1", lambda _: None)
        self.leadership.start()
        self.store = ActionStore(client.session, client.mirror)

    @property
    def leader(self) -> Leader:
        wait_until(lambda: self.leadership.leader is not None, "it leads")
        assert self.leadership.leader is not None
        return self.leadership.leader


@pytest.fixture
def controller(operator: PoolClient, connect: Connect) -> Controller:
    return Controller(connect())


def state(client: PoolClient, pair: str) -> PairState | None:
    found = client.store.read_snapshot().pairs["s1"].get(pair)
    return found.state if found else None


def test_an_action_begins_once(controller: Controller) -> None:
    """A pair has one at a time, a subnet several; they are read as they were written."""
    assert controller.store.begin(controller.leader, ADD)
    assert not controller.store.begin(controller.leader, replace(ADD, id="2-s1"))
    other = replace(ADD, pair="p-newer")
    assert controller.store.begin(controller.leader, other)
    assert controller.store.read().actions == {("s1", "p-new"): ADD, ("s1", "p-newer"): other}


def test_an_action_that_gets_another_pair_stays_where_it_is(controller: Controller, operator: PoolClient) -> None:
    """As one that fails on a node does, and goes on with others under another name."""
    controller.store.begin(controller.leader, ADD)
    anew = replace(ADD, pair="p-other", first="p-new")
    controller.store.advance(controller.leader, Turn(anew))
    assert controller.store.read().actions == {("s1", "p-new"): anew}
    assert operator.store.read_scaling().actions == (anew,)
    controller.store.advance(controller.leader, Turn(replace(anew, step=Step.DONE)))
    assert controller.store.read().actions == {}


def test_a_pair_and_its_action_are_written_together(controller: Controller, operator: PoolClient) -> None:
    """The pair is preparing, and has a VRRP id that is free on its nodes; its election waits for candidates."""
    controller.store.begin(controller.leader, ADD)
    after = replace(ADD, step=Step.OPEN)
    controller.store.advance(controller.leader, Turn(after, PutPair()))
    made = operator.store.read_snapshot().pairs["s1"]["p-new"]
    assert (made.state, made.provider, made.members) == (PairState.PREPARING, "fake", ADD.members)
    assert operator.exists("subnets/s1/pairs/p-new/election")
    assert controller.store.read().actions == {ADD.key: after}


def test_what_an_operator_could_not_write_is_refused(controller: Controller) -> None:
    """The HaVip is that of another pair: neither the pair nor the action changes."""
    controller.store.begin(controller.leader, ADD)
    taken = replace(ADD, havip=pair_request(1).havip)
    with pytest.raises(InvalidInput, match="in use by pair s1/p1"):
        controller.store.advance(controller.leader, Turn(taken, PutPair()))
    assert controller.store.read().actions == {ADD.key: ADD}


def test_a_state_changes_only_while_enough_others_are_active(controller: Controller, operator: PoolClient) -> None:
    """The last active pair is not drained."""
    controller.store.begin(controller.leader, ADD)
    controller.store.advance(controller.leader, Turn(ADD, PutPair()))
    drain = SetState("p1", PairState.DRAINING, 1)
    with pytest.raises(InvalidInput, match="only 0 other pairs"):
        controller.store.advance(controller.leader, Turn(ADD, drain))
    controller.store.advance(controller.leader, Turn(ADD, SetState("p-new", PairState.ACTIVE)))
    controller.store.advance(controller.leader, Turn(ADD, drain))
    assert (state(operator, "p1"), state(operator, "p-new")) == (PairState.DRAINING, PairState.ACTIVE)


def test_a_pair_is_removed_only_in_the_state_that_it_should_have(controller: Controller, operator: PoolClient) -> None:
    """An operator who opened it again is faster."""
    controller.store.begin(controller.leader, ADD)
    with pytest.raises(Conflict, match="no longer draining"):
        controller.store.advance(controller.leader, Turn(ADD, RemovePair("p1", PairState.DRAINING)))
    operator.store.pairs.add("s1", other_pair("192.168.4.50"))
    operator.store.pairs.drain("s1", "p1", time.time())
    controller.store.advance(controller.leader, Turn(ADD, RemovePair("p1", PairState.DRAINING)))
    assert state(operator, "p1") is None


def other_pair(havip: str) -> PairRequest:
    members = (card("node-d", "172.16.1.31/24"), card("node-e", "172.16.1.32/24"))
    return PairRequest(id="p2", havip=IPv4Address(havip), members=members)


def test_an_edit_of_the_pool_between_look_and_write_is_seen(
    controller: Controller, operator: PoolClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator takes the HaVip after the controller has looked: the second look sees it."""
    controller.store.begin(controller.leader, ADD)
    look = controller.client.mirror.current
    rivals = [lambda: operator.store.pairs.add("s1", other_pair(str(ADD.havip)))]

    def current(within_s: float) -> Snapshot:
        snapshot = look(within_s)
        while rivals:
            rivals.pop()()
        return snapshot

    monkeypatch.setattr(controller.client.mirror, "current", current)
    with pytest.raises(InvalidInput, match="in use by pair s1/p2"):
        controller.store.advance(controller.leader, Turn(ADD, PutPair()))


def test_the_mirror_is_current_when_it_says_so(controller: Controller, operator: PoolClient) -> None:
    """Whatever was written before an answer was got is in it."""
    for number in range(30):
        operator.store.pairs.set("s1", "p1", PairSettings(weight=1 + number % 2))
        controller.client.get("version")
        assert controller.client.mirror.current(5.0).pairs["s1"]["p1"].weight == 1 + number % 2


def test_a_deposed_leader_writes_nothing(controller: Controller, operator: PoolClient) -> None:
    """Its candidate is gone, and it does not know yet."""
    leader = controller.leader
    controller.store.begin(leader, ADD)
    controller.leadership.stop()
    for act in (
        lambda: controller.store.begin(leader, replace(ADD, subnet="s2")),
        lambda: controller.store.advance(leader, Turn(ADD, PutPair())),
        lambda: controller.store.advance(leader, Turn(replace(ADD, step=Step.DONE))),
        lambda: controller.store.write_report(leader, Report()),
    ):
        with pytest.raises(Deposed):
            act()
    assert controller.store.read().actions == {ADD.key: ADD}
    assert state(operator, "p-new") is None
    assert not operator.exists(REPORT)


def test_an_action_that_is_over_becomes_a_record(controller: Controller, operator: PoolClient) -> None:
    """Either both or none."""
    controller.store.begin(controller.leader, ADD)
    record = Record(kind="scale-out", reason="load", subnet="s1", pair="p-new", at=ADD.began)
    controller.store.advance(controller.leader, Turn(replace(ADD, step=Step.DONE)), record)
    assert controller.store.read().actions == {}
    history = PoolHistory(operator.session)
    assert list(history.read(history.names()).records) == [record]


def test_an_action_that_cannot_be_read_stops_no_other(controller: Controller, operator: PoolClient) -> None:
    """It is named, and left alone."""
    controller.store.begin(controller.leader, ADD)
    operator.make(f"{ACTIONS}/s2_p1", b"{}")
    operator.make(f"{ACTIONS}/s3_p1", encode(ADD))
    found = controller.store.read()
    assert found.actions == {ADD.key: ADD}
    assert list(found.malformed) == ["s2", "s3"]
    assert found.malformed["s3"].endswith("/s3_p1 is about pair s1/p-new")


def test_an_action_that_somebody_removed_is_not_written_again(controller: Controller, operator: PoolClient) -> None:
    """And what it would have done to a pair is not done."""
    controller.store.begin(controller.leader, ADD)
    operator.delete(action_suffix(ADD.key))
    with pytest.raises(Conflict, match="removed by somebody else"):
        controller.store.advance(controller.leader, Turn(ADD, PutPair()))
    assert state(operator, "p-new") is None


def test_the_report_is_written_again_and_again(controller: Controller, operator: PoolClient) -> None:
    """The last one is read."""
    for number in (1, 2):
        controller.store.write_report(controller.leader, Report(leader="c1", epoch=number))
    assert decode(operator.get(REPORT), Report, what="report").epoch == 2
