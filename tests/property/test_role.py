"""One role machine and any events: what holds of every step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxypool.core.model import Candidate
from proxypool.core.role import (
    PRIORITY_ASIDE,
    PRIORITY_CLAIM,
    PRIORITY_DAMPED,
    PRIORITY_ELECTED,
    PRIORITY_NORMAL,
    PRIORITY_STARTING,
    PRIORITY_UNFIT,
    Caution,
    ClaimAllowed,
    Coordinator,
    CoordinatorChanged,
    ElectionSeen,
    Event,
    GateSeen,
    HealthSeen,
    HeartbeatHeard,
    LeaseSeen,
    MemberState,
    OrdersSeen,
    PrioritySeen,
    Role,
    SetContending,
    SetGate,
    SetPriority,
    Tick,
    Vrrp,
    VrrpChanged,
    decide,
    step,
)
from tests.property.effort import effort

candidates = st.lists(
    st.builds(
        Candidate,
        node=st.sampled_from(("n1", "n2")),
        epoch=st.integers(1, 9),
        session=st.integers(1, 9),
        is_chosen=st.booleans(),
    ),
    max_size=3,
).map(tuple)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(VrrpChanged, st.sampled_from(Vrrp)),
    st.builds(ElectionSeen, candidates),
    st.builds(CoordinatorChanged, st.sampled_from(Coordinator)),
    st.builds(HealthSeen, st.sampled_from((frozenset[str](), frozenset({"eni"}))), st.sampled_from(Caution)),
    st.builds(OrdersSeen, st.booleans(), st.booleans()),
    st.builds(LeaseSeen, st.integers(1, 9), st.floats(0, 60)),
    st.just(ClaimAllowed()),
    st.builds(GateSeen, st.booleans()),
    st.builds(PrioritySeen, st.sampled_from((None, -254, 99, 0, 199, 239, 7))),
    st.just(HeartbeatHeard()),
    st.just(Tick()),
)
histories = st.lists(st.tuples(st.integers(0, 5), events), max_size=25)


PRIORITIES = {
    *(PRIORITY_CLAIM, PRIORITY_ELECTED, PRIORITY_NORMAL, PRIORITY_DAMPED, PRIORITY_UNFIT, PRIORITY_ASIDE),
    PRIORITY_STARTING,
}


@given(histories)
@effort(200)
def test_every_step_is_legal_and_lawful(history: list[tuple[int, Event]]) -> None:
    state, now = MemberState("n1"), 0.0
    for pause, event in history:
        now += pause
        old = state
        state, effects = step(old, event, now)
        assert state.epoch >= old.epoch
        assert state.role_since == (now if state.role is not old.role else old.role_since)
        wanted = decide(state)
        assert wanted.priority in {None, state.track}, "a wish that no effect told"
        assert wanted.contend in {None, state.contends}, "a wish that no effect told"
        if state.role is Role.MASTER:
            assert state.vrrp in {Vrrp.MASTER, Vrrp.UNKNOWN}, "the gate must be where the HaVip is"
        for effect in effects:
            match effect:
                case SetGate(is_open):
                    assert is_open is decide(state).gate
                    is_prepared = state.is_preparing and state.is_elected and not state.is_strict
                    assert not is_open or state.role is Role.MASTER or is_prepared
                case SetPriority(value):
                    assert state.health is not None
                    assert value == decide(state).priority == state.track
                    assert value in PRIORITIES
                    assert value < PRIORITY_ELECTED or state.is_elected or state.is_paused
                case SetContending(contend):
                    assert not contend or not state.health or state.is_paused or state.is_strict
                case _:
                    pass


@given(histories)
@effort(100)
def test_what_was_done_is_not_done_again(history: list[tuple[int, Event]]) -> None:
    """The world as the machine wants it leads to nothing, and so does time before the deadline."""
    state, now = MemberState("n1"), 0.0
    for pause, event in history:
        now += pause
        state, _ = step(state, event, now)
    if state.role is not Role.INIT:
        assert step(state, GateSeen(bool(decide(state).gate)), now)[1] == ()
    if state.next_deadline is None or now < state.next_deadline:
        assert step(state, Tick(), now)[1] == ()


FIRST_LOOKS_OF_A_MASTER: tuple[Event, ...] = (
    CoordinatorChanged(Coordinator.CONNECTED),
    VrrpChanged(Vrrp.MASTER),
    GateSeen(True),
    PrioritySeen(PRIORITY_ELECTED),
    ElectionSeen((Candidate(node="n1", epoch=5, session=1), Candidate(node="n2", epoch=6, session=2))),
    HealthSeen(frozenset()),
)
FIRST_LOOKS_OF_A_BACKUP: tuple[Event, ...] = (
    CoordinatorChanged(Coordinator.CONNECTED),
    VrrpChanged(Vrrp.BACKUP),
    GateSeen(False),
    PrioritySeen(PRIORITY_NORMAL),
    ElectionSeen((Candidate(node="n2", epoch=5, session=1), Candidate(node="n1", epoch=6, session=2))),
    HealthSeen(frozenset()),
)


@given(st.sampled_from((FIRST_LOOKS_OF_A_MASTER, FIRST_LOOKS_OF_A_BACKUP)).flatmap(st.permutations))
@effort(150)
def test_a_restarted_daemon_touches_nothing_in_whatever_order_it_looks(looks: list[Event]) -> None:
    """It resumes its session once it is connected: until then it has read no election."""
    is_master = VrrpChanged(Vrrp.MASTER) in looks
    connected = looks.index(CoordinatorChanged(Coordinator.CONNECTED))
    read = next(index for index, look in enumerate(looks) if isinstance(look, ElectionSeen))
    looks[min(connected, read)], looks[max(connected, read)] = looks[connected], looks[read]
    state = MemberState("n1")
    for look in looks:
        state, effects = step(state, look, 0.0)
        for effect in effects:
            match effect:
                case SetGate(is_open):
                    assert is_open is is_master
                case SetPriority(value):
                    is_connected = state.coordinator is Coordinator.CONNECTED
                    assert value == (PRIORITY_ELECTED if is_master and is_connected else PRIORITY_NORMAL)
                case SetContending(contend):
                    assert contend
                case _:
                    pass
    assert state.role is (Role.MASTER if is_master else Role.BACKUP)
    assert state.track == (PRIORITY_ELECTED if is_master else PRIORITY_NORMAL)
