"""Pairs come and go while the controller crashes, the provider errs and nodes die: nothing leaks, nobody is cut off."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxypool.core.model import PairState
from proxypool.core.scaling.pairs import in_state
from proxypool.core.scaling.retry import ErrorKind
from tests.property.effort import effort
from tests.property.scaling_world import NODES, World, states

ERRORS = st.sampled_from(list(ErrorKind))


class ScalingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(least=st.lists(st.integers(1, 2), min_size=1, max_size=2))
    def subnets(self, least: list[int]) -> None:
        for at, number in enumerate(least):
            self.world.add_subnet(f"s{at}", number)

    @rule(crash_in=st.one_of(st.none(), st.integers(0, 12)))
    def round(self, crash_in: int | None) -> None:
        self.world.crash_in = crash_in
        self.world.round()
        self.world.now += 2.0

    @rule(seconds=st.sampled_from([10.0, 130.0, 400.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(subnet=st.integers(0, 1), wanted=st.integers(1, 4))
    def load(self, subnet: int, wanted: int) -> None:
        name = sorted(self.world.subnets)[subnet % len(self.world.subnets)]
        scaling = self.world.subnets[name].scaling
        assert scaling is not None
        self.world.wanted[name] = max(scaling.min_pairs, wanted)

    @rule(kind=ERRORS, is_done=st.booleans())
    def provider_errs(self, *, kind: ErrorKind, is_done: bool) -> None:
        self.world.provider.failures.append((kind, is_done))

    @rule(node=st.sampled_from(sorted(NODES)))
    def node_dies_or_returns(self, node: str) -> None:
        self.world.dead ^= {node}

    @rule(node=st.sampled_from(sorted(NODES)))
    def node_is_drained_or_not(self, node: str) -> None:
        self.world.draining ^= {node}

    @rule(subnet=st.integers(0, 1), number=st.integers(0, 3))
    def operator_drains_or_undrains(self, subnet: int, number: int) -> None:
        """Whatever the controller is doing to it."""
        pairs = self.world.pairs[sorted(self.world.subnets)[subnet % len(self.world.subnets)]]
        chosen = sorted(name for name, pair in pairs.items() if pair.state is not PairState.PREPARING)
        if chosen:
            name = chosen[number % len(chosen)]
            is_active = pairs[name].state is PairState.ACTIVE
            pairs[name] = in_state(pairs[name], PairState.DRAINING if is_active else PairState.ACTIVE, self.world.now)

    @rule(is_slow=st.booleans())
    def provider_takes_its_time(self, *, is_slow: bool) -> None:
        self.world.is_slow = is_slow

    @rule(is_ready=st.booleans(), is_empty=st.booleans())
    def pairs_come_up_or_empty(self, *, is_ready: bool, is_empty: bool) -> None:
        self.world.is_ready, self.world.is_empty = is_ready, is_empty

    @invariant()
    def no_node_is_chosen_twice(self) -> None:
        """By pairs and actions of one subnet; in the middle of an action its own pair is one with it."""
        for subnet, pairs in self.world.pairs.items():
            users = {name: {member.node for member in pair.members} for name, pair in pairs.items()}
            for action in self.world.actions.values():
                if action.subnet == subnet:
                    users.setdefault(action.pair, set()).update(action.nodes)
            chosen = [node for nodes in users.values() for node in nodes]
            assert len(chosen) == len(set(chosen)), users

    @invariant()
    def nothing_acquired_is_unknown(self) -> None:
        """What is held belongs to a pair, or to the action that is under way: also in the middle."""
        cards, addresses = self.world.held()
        known, havips = self.world.documented()
        under_way = {(action.subnet, action.pair) for action in self.world.actions.values()}
        assert {card for card in cards - known if card[:2] not in under_way} == set()
        assert addresses - havips - under_way == set()

    def teardown(self) -> None:
        world = self.world
        world.dead.clear()
        world.draining.clear()
        world.provider.failures.clear()
        world.is_ready = world.is_empty = True
        world.is_slow = False
        for _ in range(100):
            world.crash_in = None
            world.round()
            world.now += 70.0
        assert world.actions == {}
        assert world.held() == world.documented(), world.finished
        for name in world.subnets:
            assert world.active(name) == world.wanted[name] == len(world.pairs[name]), (
                name,
                world.active(name),
                world.wanted[name],
                states(world.pairs[name]),
                [(one.kind.value, one.reason, one.pair, one.error) for one in world.finished[-12:]],
            )


TestScalingActions = ScalingMachine.TestCase
TestScalingActions.settings = settings(effort(60), stateful_step_count=50)
