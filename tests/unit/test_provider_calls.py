"""Calls to the provider: what its errors mean, and that one action has one call at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

import pytest
from msgspec.structs import replace

from proxypool.core.model import MemberSpec, NodeSpec, SubnetSpec
from proxypool.core.scaling.documents import Action, ActionKind, Step
from proxypool.core.scaling.placement import CardOffer
from proxypool.core.scaling.retry import ErrorKind
from proxypool.core.scaling.series import NodeSample, Unread
from proxypool.core.scaling.turns import (
    AcquireAddresses,
    AcquireCard,
    Answer,
    AskOffers,
    Call,
    Failed,
    GotAddresses,
    GotCard,
    Offered,
    ReleaseAddresses,
    ReleaseCard,
    Released,
)
from proxypool.daemons.controller_messages import HeldSeen, Message, NodesRead, ProviderAnswered
from proxypool.daemons.patience import Patience
from proxypool.daemons.provider_calls import Pool, ProviderCalls
from proxypool.daemons.sweeping import SWEEP_S, Sweeping
from proxypool.providers.contract import (
    Addresses,
    Held,
    Intent,
    NotAuthorised,
    Offer,
    QuotaExceeded,
    Refused,
    Throttled,
    Unavailable,
)
from tests.unit.builders import N1, node, subnet

POOL = Pool("test", {"s1": subnet()}, {"n1": node("n1", "10.0.0.1"), "n2": node("n2", "10.0.0.2")})
ACTION = Action(
    id="1-s1",
    kind=ActionKind.ADD,
    subnet="s1",
    pair="p1",
    step=Step.ACQUIRE,
    reason="load",
    began=1.0,
    step_since=1.0,
    provider="fake",
)


class FakeProvider:
    name = "fake"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[tuple[object, ...]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.holds: tuple[Held, ...] = ()

    def _note(self, *what: object) -> None:
        self.asked.append(what)
        assert self.may_answer.wait(5)
        if self.error is not None:
            raise self.error

    def offers(self, subnet: SubnetSpec, nodes: Iterable[NodeSpec], deadline_s: float) -> Mapping[str, Offer]:
        self._note("offers", subnet.id, *(spec.id for spec in nodes))
        return {"n1": Offer(3), "n2": Offer(0, "full")}

    def acquire_addresses(self, intent: Intent, nodes: tuple[NodeSpec, ...], deadline_s: float) -> Addresses:
        self._note("addresses", intent.pair, *(spec.id for spec in nodes))
        return Addresses(IPv4Address("10.9.0.1"))

    def acquire_card(self, intent: Intent, node: NodeSpec, deadline_s: float) -> MemberSpec:
        self._note("card", intent.pair, node.id, intent.request)
        return N1

    def release_card(self, intent: Intent, node: str, deadline_s: float) -> None:
        self._note("release", intent.subnet.id, intent.pair, node)

    def release_addresses(self, intent: Intent, deadline_s: float) -> None:
        self._note("release", intent.subnet.id, intent.pair)

    def held(self, pool: str, subnets: Iterable[SubnetSpec], deadline_s: float) -> tuple[Held, ...]:
        self._note("held", pool)
        return self.holds


class Bench:
    def __init__(self) -> None:
        self.provider = FakeProvider()
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.counted: list[tuple[str, str]] = []
        self.calls = ProviderCalls(
            self.provider, self.inbox.put, lambda call, result: self.counted.append((call, result)), 5.0
        )
        self.calls.start()

    def answer(self, call: Call, pool: Pool = POOL) -> Answer:
        self.calls.ask(ACTION, call, pool)
        message = self.inbox.get(timeout=5)
        assert isinstance(message, ProviderAnswered)
        self.calls.done(ACTION)
        return message.answer

    def next_release(self) -> tuple[object, ...]:
        """Released without an action, so that nobody is told."""
        deadline = time.monotonic() + 5
        while not (found := [what for what in self.provider.asked if what[0] == "release"]):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        self.provider.asked.clear()
        (one,) = found
        return one


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.provider.may_answer.set()
    made.calls.stop()


def test_each_call_becomes_one_of_the_provider(bench: Bench) -> None:
    """The action's id goes along: to a platform another action is another wish."""
    assert bench.answer(AskOffers()) == Offered({"n1": CardOffer(3), "n2": CardOffer(0, "full")})
    assert bench.answer(AcquireAddresses(("n1", "n2"))) == GotAddresses(IPv4Address("10.9.0.1"))
    assert bench.answer(AcquireCard("n1")) == GotCard(N1)
    assert bench.answer(ReleaseCard("n7")) == Released("n7")
    assert bench.answer(ReleaseAddresses()) == Released()
    assert bench.provider.asked == [
        ("offers", "s1", "n1", "n2"),
        ("addresses", "p1", "n1", "n2"),
        ("card", "p1", "n1", "1-s1"),
        ("release", "s1", "p1", "n7"),
        ("release", "s1", "p1"),
    ]
    assert {result for _, result in bench.counted} == {"ok"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Throttled("slow down", 9.0), ErrorKind.THROTTLED),
        (Unavailable("no answer"), ErrorKind.UNAVAILABLE),
        (QuotaExceeded("full"), ErrorKind.QUOTA),
        (NotAuthorised("no"), ErrorKind.AUTH),
        (Refused("never"), ErrorKind.REFUSED),
        (ZeroDivisionError("a defect"), ErrorKind.UNAVAILABLE),
    ],
)
def test_an_error_is_told_by_its_kind(bench: Bench, error: Exception, kind: ErrorKind) -> None:
    """A provider's defect says nothing of what was done, and ends no thread."""
    bench.provider.error = error
    answer = bench.answer(AcquireCard("n2"))
    assert answer == Failed(str(error), kind, node="n2", retry_after_s=9.0 if kind is ErrorKind.THROTTLED else 0.0)
    assert bench.counted == [("acquire-card", kind.value)]
    bench.provider.error = None
    assert bench.answer(AcquireCard("n1")) == GotCard(N1)


def test_a_node_that_is_gone_is_an_answer(bench: Bench) -> None:
    answer = bench.answer(AcquireCard("n9"))
    assert answer == Failed("node n9 is no longer registered", ErrorKind.REFUSED, node="n9")


def test_a_subnet_that_is_gone_gets_its_cards_released(bench: Bench) -> None:
    assert bench.answer(ReleaseCard("n1"), Pool("test", {}, {})) == Released("n1")
    assert bench.provider.asked == [("release", "s1", "p1", "n1")]


def test_a_call_that_hangs_holds_up_its_own_action_only(bench: Bench) -> None:
    """Not the subnet's others."""
    bench.provider.may_answer.clear()
    bench.calls.ask(ACTION, AskOffers(), POOL)
    bench.calls.ask(ACTION, AskOffers(), POOL)
    assert bench.calls.is_busy(ACTION)
    assert not bench.calls.is_busy(replace(ACTION, pair="p2"))
    bench.provider.may_answer.set()
    assert isinstance(bench.inbox.get(timeout=5), ProviderAnswered)
    assert bench.inbox.empty()
    assert len(bench.provider.asked) == 1


def test_nodes_that_say_nothing_are_told_by_why() -> None:
    answers: Mapping[str, NodeSample | Unread]
    answers = {"n1": NodeSample("n1", 1.0), "n2": Unread.NO_ADDRESS, "n3": Unread.TIMEOUT, "n4": Unread.NO_ADDRESS}
    assert NodesRead(answers).trouble == "what pairs use is not known of 3 of 4 nodes: 2 no-address, 1 timeout"
    assert NodesRead({"n1": NodeSample("n1", 1.0)}).trouble is None
    assert NodesRead({}, "no server").trouble == "no server"


def test_what_nothing_needs_is_released_when_it_is_found_twice(bench: Bench) -> None:
    """The first time it may be on its way into a document. Cards go before addresses."""
    sweeping = Sweeping(bench.calls)
    sweeping.lead(0.0)
    bench.provider.holds = (Held("s1", "p7", "n1"), Held("s1", "p7"))
    sweeping.second_passed(POOL, SWEEP_S - 1.0)
    assert bench.inbox.empty()
    for turn in (1, 2):
        sweeping.second_passed(POOL, turn * SWEEP_S)
        message = bench.inbox.get(timeout=5)
        assert isinstance(message, HeldSeen)
        assert len(bench.provider.asked) == turn
        sweeping.saw(message.held, {}, (), POOL)
    assert bench.next_release() == ("release", "s1", "p7", "n1")
    sweeping.saw(frozenset({("s1", "p7", "")}), {}, (), POOL)
    assert bench.next_release() == ("release", "s1", "p7")


def test_after_a_failure_a_subnet_is_left_alone_longer_each_time() -> None:
    """Until something succeeds. Other kinds of actions do not wait."""
    patience = Patience()
    failed = replace(ACTION, error="no room")
    patience.ended(failed, 0.0)
    assert patience.waits("s1", 5.0) == {ActionKind.ADD: "no room (tried again in 5 s)"}
    assert patience.waits("s1", 10.0) == patience.waits("s2", 5.0) == {}
    patience.ended(failed, 10.0)
    assert ActionKind.ADD in patience.waits("s1", 29.0)
    patience.ended(ACTION, 30.0)
    patience.ended(failed, 40.0)
    assert patience.waits("s1", 50.0) == {}


def test_what_fails_together_is_one_failure() -> None:
    """Five pairs that find no room do not make the sixth wait for minutes."""
    patience = Patience()
    failed = replace(ACTION, error="no room")
    for _ in range(5):
        patience.ended(failed, 0.0)
    assert patience.waits("s1", 5.0) == {ActionKind.ADD: "no room (tried again in 5 s)"}
    assert patience.waits("s1", 10.0) == {}
