"""Schedules come from their seed alone, and cover what they should."""

from collections import Counter
from dataclasses import replace

from proxypool.lab.fault_kinds import HEALS, Fault
from proxypool.lab.topology import Topology
from tests.chaos.history import FaultEvent
from tests.chaos.schedule import (
    LONGEST_S,
    NO_JUMP,
    NODE_FAULTS,
    STATEFUL_FAULTS,
    STATELESS_FAULTS,
    ZOOKEEPER_FAULTS,
    make,
)
from tests.chaos.world import NONE, Active, after

TOPOLOGY = Topology("chaos", nodes=3, hosts=1, subnets=2, zk=3)
SEEDS = [f"unit/{number}" for number in range(60)]


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert make("7/1", TOPOLOGY, 40.0) == make("7/1", TOPOLOGY, 40.0)
    assert make("7/1", TOPOLOGY, 40.0) != make("7/2", TOPOLOGY, 40.0)


def test_every_kind_of_fault_occurs_and_steps_are_in_order() -> None:
    seen: Counter[Fault] = Counter()
    for seed in SEEDS:
        steps = make(seed, TOPOLOGY, 40.0)
        assert [step.at for step in steps] == sorted(step.at for step in steps)
        assert all(0 < step.at <= 40.0 for step in steps)
        seen.update(step.fault for step in steps)
    assert set(NODE_FAULTS | STATELESS_FAULTS | ZOOKEEPER_FAULTS) <= set(seen)
    assert not set(STATEFUL_FAULTS) & set(seen)


def test_conntrackd_is_killed_where_it_runs() -> None:
    seen = {step.fault for seed in SEEDS for step in make(seed, replace(TOPOLOGY, egress=True), 40.0)}
    assert set(NODE_FAULTS | STATEFUL_FAULTS | ZOOKEEPER_FAULTS) <= seen
    assert not set(STATELESS_FAULTS) & seen


def test_clocks_jump_both_ways_and_only_where_a_daemon_runs() -> None:
    jumps = set()
    for seed in SEEDS:
        waiting: dict[str, set[Fault]] = {}
        for step in make(seed, TOPOLOGY, 40.0):
            there = waiting.setdefault(step.machine, set())
            there.discard(step.fault)
            if step.fault is Fault.JUMP_CLOCK:
                jumps.add(step.seconds)
                assert not there & (NO_JUMP | {Fault.POWER_ON})
            else:
                assert not step.seconds
            there |= {HEALS[step.fault]} if step.fault in HEALS else set()
    assert jumps == {3600.0, -3600.0}


def test_some_schedules_spare_a_member_of_each_pair_and_some_do_not() -> None:
    spared = 0
    for seed in SEEDS:
        hit = {step.machine for step in make(seed, TOPOLOGY, 40.0)}
        pairs = [{m.node for m in pair.members} for plan in TOPOLOGY.subnet_plans for pair in plan.pairs]
        spared += all(nodes - hit for nodes in pairs)
    assert 10 < spared < 55


def test_faults_overlap_and_end_before_long() -> None:
    most = 0
    for seed in SEEDS:
        lasting: dict[tuple[str, Fault], float] = {}
        for step in make(seed, TOPOLOGY, 40.0):
            if step.fault in HEALS:
                lasting[step.machine, HEALS[step.fault]] = step.at
                most = max(most, len(lasting))
            elif (began := lasting.pop((step.machine, step.fault), None)) is not None:
                assert step.at - began <= LONGEST_S + 7.0
    assert most >= 3


def event(fault: Fault, subnet: str | None = None) -> FaultEvent:
    return FaultEvent(1.0, 1.0, fault.value, "node-a", subnet)


def lasting(*faults: tuple[Fault, str | None]) -> Active:
    active = NONE
    for fault, subnet in faults:
        active = after(active, event(fault, subnet))
    return active


def test_each_fault_lasts_until_it_is_healed() -> None:
    for fault, healer in HEALS.items():
        active = lasting((fault, None))
        assert active == {(fault, None)}
        assert after(active, event(healer)) == NONE
        assert after(active, event(Fault.POWER_ON)) == NONE


def test_power_off_ends_everything_else() -> None:
    assert lasting((Fault.STOP_DAEMON, None), (Fault.POWER_OFF, None)) == {(Fault.POWER_OFF, None)}


def test_healing_one_subnets_card_leaves_the_other_cut() -> None:
    active = lasting((Fault.CUT_ENI, "s1"), (Fault.CUT_ENI, "s2"))
    assert after(active, event(Fault.HEAL_ENI, "s1")) == {(Fault.CUT_ENI, "s2")}
    assert after(active, event(Fault.HEAL_ENI)) == NONE


def test_what_passes_by_itself_does_not_last() -> None:
    assert lasting((Fault.FLUSH_IPTABLES, "s1"), (Fault.STORM_KEEPALIVED, None)) == NONE
