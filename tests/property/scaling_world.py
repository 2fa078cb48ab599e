"""A pool that is scaled: documents, a provider that errs, and a controller that crashes between any two of its acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from msgspec.structs import replace

from proxypool.core.breaker import Breaker
from proxypool.core.draining import Left
from proxypool.core.model import MemberSpec, PairSpec, PairState, SubnetSpec
from proxypool.core.scaling.action import step
from proxypool.core.scaling.deaths import Deaths
from proxypool.core.scaling.documents import Action, ActionKind, Key, Step, coming
from proxypool.core.scaling.model import Cause, Decision, ScalingMode, ScalingSpec
from proxypool.core.scaling.placement import CardOffer, NodeRoom
from proxypool.core.scaling.plan import GIVING_BACK, Limits, Nodes, Subject, new_breaker, plan
from proxypool.core.scaling.readiness import Readiness
from proxypool.core.scaling.retry import ErrorKind
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
    PutPair,
    ReleaseAddresses,
    ReleaseCard,
    Released,
    RemovePair,
    Seen,
    SetState,
    Write,
)
from proxypool.daemons.patience import Patience

PROVIDER = "fake"
NODES = {f"n{at}": f"z{at % 5}" for at in range(10)}
DEAD_AFTER_S = 300.0


class Crash(Exception):
    """The controller's process ends here."""


@dataclass
class FakeProvider:
    """Remembers what it gave, as a cloud does."""

    cards: set[tuple[str, str, str]] = field(default_factory=set)
    """Subnet, pair, node."""
    addresses: dict[tuple[str, str], IPv4Address] = field(default_factory=dict)
    failures: list[tuple[ErrorKind, bool]] = field(default_factory=list)
    """Of the next calls: kind of error, and whether what was asked for is done all the same."""
    given: int = 0

    def call(self, subnet: str, pair: str, what: Call) -> Answer:
        """Do it, or fail."""
        if not self.failures:
            return self._do(subnet, pair, what)
        kind, is_done = self.failures.pop(0)
        if is_done:
            self._do(subnet, pair, what)
        node = what.node if isinstance(what, AcquireCard) else ""
        return Failed(f"{kind}, as it is", kind, node=node, retry_after_s=2.0)

    def _do(self, subnet: str, pair: str, what: Call) -> Answer:
        match what:
            case AskOffers():
                return Offered({node: CardOffer(None) for node in NODES})
            case AcquireAddresses():
                if (subnet, pair) not in self.addresses:
                    self.given += 1
                    self.addresses[subnet, pair] = IPv4Address("10.9.0.0") + self.given
                return GotAddresses(self.addresses[subnet, pair])
            case AcquireCard(node):
                self.cards.add((subnet, pair, node))
                number = sorted(NODES).index(node) + 10
                return GotCard(MemberSpec(node=node, eni=f"eth-{pair}", address=IPv4Interface(f"172.16.1.{number}/24")))
            case ReleaseCard(node):
                self.cards.discard((subnet, pair, node))
                return Released(node)
            case ReleaseAddresses():
                self.addresses.pop((subnet, pair), None)
                return Released()


@dataclass
class World:
    """See the module's text."""

    subnets: dict[str, SubnetSpec] = field(default_factory=dict)
    pairs: dict[str, dict[str, PairSpec]] = field(default_factory=dict)
    actions: dict[Key, Action] = field(default_factory=dict)
    finished: list[Action] = field(default_factory=list)
    provider: FakeProvider = field(default_factory=FakeProvider)
    dead: set[str] = field(default_factory=set)
    draining: set[str] = field(default_factory=set)
    wanted: dict[str, int] = field(default_factory=dict)
    is_ready: bool = True
    is_empty: bool = True
    """Whether draining pairs have no connections left."""
    is_slow: bool = False
    """Whether the provider's answers come a round later, so that the actions of a subnet go on in turn."""
    crash_in: int | None = None
    """After so many more acts (commits, calls) the process ends."""
    now: float = 1_800_000_000.0
    deaths: Deaths = field(default_factory=Deaths)
    answers: dict[Key, Answer] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=new_breaker)
    patience: Patience = field(default_factory=Patience)

    def add_subnet(self, name: str, least: int) -> None:
        """A subnet that is to be scaled."""
        scaling = ScalingSpec(min_pairs=least, max_pairs=4, mode=ScalingMode.ENFORCE)
        cidrs = (IPv4Network("172.16.1.0/24"),)
        self.subnets[name] = SubnetSpec(id=name, cidrs=cidrs, key=len(self.subnets) + 1, scaling=scaling)
        self.pairs[name], self.wanted[name] = {}, least

    def active(self, subnet: str) -> int:
        """Pairs that take new connections."""
        return sum(pair.state is PairState.ACTIVE for pair in self.pairs[subnet].values())

    # ---- the controller ------------------------------------------------------------------------------------------

    def round(self) -> None:
        """One round of the controller, which may crash in the middle."""
        try:
            self._round()
        except Crash:
            self.crash_in = None
            self.deaths, self.answers, self.breaker, self.patience = Deaths(), {}, new_breaker(), Patience()

    def _act(self) -> None:
        """Something lasting was done."""
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                raise Crash

    def _round(self) -> None:
        self.deaths = self.deaths.seen(list(NODES), set(NODES) - self.dead, self.now)
        for key in list(self.actions):
            self._advance(key)
        self._begin()

    def _begin(self) -> None:
        carriers = {m.node for pairs in self.pairs.values() for pair in pairs.values() for m in pair.members}
        nodes = Nodes(self.deaths.dead(DEAD_AFTER_S, self.now), frozenset(self.draining), self.deaths.doubt(carriers))
        subjects = [
            Subject(
                spec,
                self.pairs[name],
                Decision(self.wanted[name], self.wanted[name], Cause.LOAD),
                waits=self.patience.waits(name, self.now),
            )
            for name, spec in self.subnets.items()
        ]
        found = plan(
            subjects,
            self.actions.values(),
            nodes,
            Limits(4, PROVIDER),
            self.breaker,
            (self.now, self.now),
        )
        self.breaker = found.breaker
        for action in found.begin:
            assert action.key not in self.actions, "one action in one place"
            others = [one for one in self._others(action) if one.step not in GIVING_BACK]
            assert action.kind is ActionKind.ADD or not others, "drains and replacements begin alone"
            self.actions[action.key] = action
            self._act()
            self._advance(action.key)

    def _others(self, action: Action) -> tuple[Action, ...]:
        return tuple(one for one in self.actions.values() if one.subnet == action.subnet and one.key != action.key)

    def _advance(self, key: Key) -> None:
        for _ in range(40):
            action = self.actions[key]
            turn = step(action, self._seen(action), self.now)
            assert turn.action.key == key, "its place does not change"
            self.answers.pop(key, None)
            if turn.action.step is Step.DONE:
                self._write(action, turn.write)
                del self.actions[key]
                self.finished.append(turn.action)
                self.patience.ended(turn.action, self.now)
                self._act()
                return
            if turn.action != action or turn.write is not None:
                if not self._write(action, turn.write):
                    return
                self.actions[key] = turn.action
                self._act()
                continue
            if turn.call is None:
                return
            answer = self.provider.call(action.subnet, action.pair, turn.call)
            self._act()
            self.answers[key] = answer
            if self.is_slow:
                return
        raise AssertionError(f"{self.actions[key]} turns for ever")

    def _seen(self, action: Action) -> Seen:
        pair = self.pairs[action.subnet].get(action.pair)
        is_fit = self.is_ready and pair is not None and not any(m.node in self.dead for m in pair.members)
        unfit = tuple(m.node for m in pair.members if m.node in self.dead) if pair else ()
        scaling = self.subnets[action.subnet].scaling
        return Seen(
            pairs=self.pairs[action.subnet],
            min_pairs=scaling.min_pairs if scaling else 1,
            nodes=self._rooms(),
            readiness=Readiness(() if is_fit else ("not yet",), unfit),
            left=Left(0 if self.is_empty else 5),
            unreachable=frozenset(self.dead),
            others=self._others(action),
            is_short=self.wanted[action.subnet] > self.active(action.subnet) + coming(self._others(action)),
            is_in_the_way=bool(self._dead_pairs(action)),
            answer=self.answers.get(action.key),
        )

    def _dead_pairs(self, action: Action) -> list[str]:
        """Pairs besides the action's own that a replacement would be begun for."""
        carriers = {m.node for pairs in self.pairs.values() for pair in pairs.values() for m in pair.members}
        dead = frozenset[str]() if self.deaths.doubt(carriers) else self.deaths.dead(DEAD_AFTER_S, self.now)
        if ActionKind.REPLACE in self.patience.waits(action.subnet, self.now):
            return []
        return [
            name
            for name, pair in self.pairs[action.subnet].items()
            if name != action.pair
            and pair.state is PairState.ACTIVE
            and any(member.node in dead for member in pair.members)
        ]

    def _rooms(self) -> tuple[NodeRoom, ...]:
        count = dict.fromkeys(NODES, 0)
        for pairs in self.pairs.values():
            for pair in pairs.values():
                for member in pair.members:
                    count[member.node] += 1
        return tuple(
            NodeRoom(name, {"zone": zone}, name not in self.dead, name in self.draining, count[name])
            for name, zone in NODES.items()
        )

    def _write(self, action: Action, write: Write | None) -> bool:
        pairs = self.pairs[action.subnet]
        match write:
            case PutPair():
                assert action.havip is not None
                taken = {member.node for pair in pairs.values() for member in pair.members}
                assert not taken & {member.node for member in action.members}, "a node in two pairs of a subnet"
                pairs[action.pair] = PairSpec(
                    id=action.pair,
                    subnet=action.subnet,
                    members=action.members,
                    havip=action.havip,
                    vrid=1,
                    provider=action.provider,
                    state=PairState.PREPARING,
                )
            case SetState(name, state, others):
                rest = sum(pair.state is PairState.ACTIVE for other, pair in pairs.items() if other != name)
                if rest < others:
                    return False
                since = self.now if state is PairState.DRAINING else None
                pairs[name] = replace(pairs[name], state=state, draining_since=since)
                if state is PairState.DRAINING:
                    assert rest >= 1, "the last active pair must not be drained"
                    scaling = self.subnets[action.subnet].scaling
                    assert scaling is not None
                    assert rest >= min(scaling.min_pairs, action.pairs_before), "fewer pairs than there must be"
            case RemovePair(name, state):
                assert pairs[name].state is state
                assert state is not PairState.ACTIVE
                del pairs[name]
        return True

    # ---- what must be so at the end ------------------------------------------------------------------------------

    def held(self) -> tuple[set[tuple[str, str, str]], set[tuple[str, str]]]:
        """What the provider gave and did not get back."""
        return self.provider.cards, set(self.provider.addresses)

    def documented(self) -> tuple[set[tuple[str, str, str]], set[tuple[str, str]]]:
        """What the pairs' documents say that it should be."""
        pairs: list[PairSpec] = [pair for found in self.pairs.values() for pair in found.values()]
        cards = {(pair.subnet, pair.id, member.node) for pair in pairs for member in pair.members}
        return cards, {(pair.subnet, pair.id) for pair in pairs}


def states(pairs: Mapping[str, PairSpec]) -> dict[str, str]:
    """For messages."""
    return {name: pair.state.value for name, pair in pairs.items()}
