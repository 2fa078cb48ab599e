"""Health: reasons, doubts, probes; damping; the breaker."""

from __future__ import annotations

import itertools

import pytest

from proxypool.core.breaker import Breaker
from proxypool.core.damping import Damping
from proxypool.core.health import PROBE_INTERVAL_S, Probe, ProbeTrack, Sight, VrrpSight, caution, reasons
from proxypool.core.model import Candidate
from proxypool.core.role import (
    PRIORITY_CLAIM,
    Caution,
    ClaimAllowed,
    Coordinator,
    CoordinatorChanged,
    ElectionSeen,
    HealthSeen,
    MemberState,
    SetGate,
    SetPriority,
    Vrrp,
    VrrpChanged,
    step,
)

WELL = Sight(is_programmed=True)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (WELL, set()),
        (Sight(is_programmed=False), {"not-programmed"}),
        (Sight(is_programmed=True, is_eni_up=False), {"eni-down"}),
        (Sight(is_programmed=True, is_tunnel_up=False), {"tunnel-down"}),
        (Sight(is_programmed=True, probe=Probe.SILENT), {"gateway-unreachable"}),
        (Sight(is_programmed=True, probe=Probe.DOUBTFUL), set()),
        (Sight(is_programmed=True, probe=Probe.UNANSWERED), set()),
        (Sight(is_programmed=True, gate_wrong_s=3.5), {"gate-wrong"}),
        (Sight(is_programmed=True, vrrp=VrrpSight(is_up=False, is_configured=False)), {"keepalived-down"}),
        (Sight(is_programmed=True, vrrp=VrrpSight(is_configured=False)), {"vrrp-not-configured"}),
        (Sight(is_programmed=False, is_eni_up=False), {"not-programmed", "eni-down"}),
    ],
)
def test_each_reason_has_its_name(seen: Sight, expected: set[str]) -> None:
    assert reasons(seen) == expected


def test_a_full_table_must_empty_by_some() -> None:
    """Entered at 95 %, left below 85 %."""
    seen: frozenset[str] = frozenset()
    for used, is_full in ((0.94, False), (0.95, True), (0.90, True), (0.85, True), (0.84, False), (0.94, False)):
        seen = reasons(Sight(is_programmed=True, conntrack=used), seen)
        assert (seen == {"conntrack-full"}) is is_full, used


def test_doubts_come_before_damping() -> None:
    assert caution(WELL, is_damped=False) is Caution.NONE
    assert caution(WELL, is_damped=True) is Caution.DAMPED
    assert caution(Sight(is_programmed=True, probe=Probe.DOUBTFUL), is_damped=True) is Caution.DOUBTFUL
    assert caution(Sight(is_programmed=True, conntrack=0.9), is_damped=False) is Caution.DOUBTFUL
    starting = Sight(is_programmed=True, vrrp=VrrpSight(is_starting=True))
    assert caution(starting, is_damped=False) is Caution.STARTING
    assert caution(starting, is_damped=True) is Caution.DAMPED


def test_a_target_that_never_answered_is_no_reason() -> None:
    track = ProbeTrack()
    for now in range(9):
        track = track.sent(float(now))
    assert track.outcome is Probe.UNANSWERED


def test_a_target_is_silent_after_three_probes_and_back_with_the_first_answer() -> None:
    track = ProbeTrack().sent(0.0).answered(0.002)
    assert (track.outcome, track.rtt_s) == (Probe.OK, 0.002)
    outcomes = []
    for number in range(1, 5):
        track = track.sent(number * PROBE_INTERVAL_S)
        outcomes.append(track.outcome)
    assert outcomes == [Probe.OK, Probe.DOUBTFUL, Probe.DOUBTFUL, Probe.SILENT]
    assert track.answered(2.1).outcome is Probe.OK


@pytest.mark.parametrize("phase", [0.0, 0.1, 0.25, 0.4, 0.49])
@pytest.mark.parametrize("died_at", [0.0, 0.01, 0.2, 0.3, 0.49])
def test_a_backup_doubts_before_a_master_is_sure(phase: float, died_at: float) -> None:
    """Whatever the phase between their probes when the gateway falls silent for both."""

    def first(wanted: set[Probe], offset: float) -> float:
        track, now = ProbeTrack(has_answered=True), offset
        while True:
            track = track.sent(now)
            if track.outcome in wanted:
                return now
            if now < died_at:
                track = track.answered(now)
            now += PROBE_INTERVAL_S

    assert first({Probe.DOUBTFUL}, phase) < first({Probe.SILENT}, 0.0)


def test_the_hold_doubles_with_every_relapse_and_halves_in_quiet_minutes() -> None:
    damping, now, holds = Damping().seen(is_well=True, now=0.0), 0.0, []
    assert damping.left_s(0.0) == 0.0
    for _ in range(8):
        damping = damping.seen(is_well=False, now=now).seen(is_well=True, now=now + 1)
        holds.append(damping.left_s(now + 1))
        now += 10
    assert holds == [1, 2, 4, 8, 16, 32, 60, 60]
    assert damping.left_s(now + 60) == 0.0
    relapsed = damping.seen(is_well=False, now=now + 200).seen(is_well=True, now=now + 201)
    assert relapsed.left_s(now + 201) == 2 * 60 / 8


def test_a_member_that_was_never_well_is_not_held() -> None:
    """Its first look came before its namespace was ready."""
    damping = Damping().seen(is_well=False, now=0.0).seen(is_well=False, now=1.0).seen(is_well=True, now=2.0)
    assert damping.left_s(2.0) == 0.0


def test_a_member_that_goes_on_being_unfit_relapses_once() -> None:
    damping = Damping().seen(is_well=True, now=0.0)
    for now in range(1, 9):
        damping = damping.seen(is_well=False, now=float(now))
    assert damping.seen(is_well=True, now=9.0).left_s(9.0) == 1.0


def test_the_breaker_lets_a_few_through_and_then_one_at_a_time() -> None:
    breaker, moved = Breaker(), []
    for tenth in range(1000, 1301):
        now = tenth / 10
        breaker, is_allowed = breaker.take(now)
        if is_allowed:
            moved.append(now)
    assert moved[:3] == [100.0, 100.1, 100.2]
    assert len(moved) == 3 + 6
    assert all(later - earlier > 4.5 for earlier, later in itertools.pairwise(moved[3:]))


def test_a_node_whose_masters_all_lost_their_daemon_moves_a_few_at_a_time() -> None:
    """Twenty pairs wait for a master that does not stand in the election again; asked every second, as daemons do."""
    elected = (Candidate(node="n2", epoch=7, session=7),)
    states = []
    for _ in range(20):
        state = MemberState("n2")
        for event in (
            CoordinatorChanged(Coordinator.CONNECTED),
            VrrpChanged(Vrrp.BACKUP),
            HealthSeen(frozenset()),
            ElectionSeen(elected),
        ):
            state, _ = step(state, event, 100.0)
        states.append(state)
    breaker, claims = Breaker(), []
    for now in range(100, 231):
        for at, state in enumerate(states):
            if state.wants_claim(float(now)):
                breaker, is_allowed = breaker.take(float(now))
                if is_allowed:
                    states[at], effects = step(state, ClaimAllowed(), float(now))
                    assert effects == (SetGate(is_open=True), SetPriority(PRIORITY_CLAIM))
                    claims.append(now)
    assert claims[:3] == [115, 115, 115]
    assert [claims.count(now) for now in sorted(set(claims))[1:]] == [1] * 17
    assert len(claims) == 20
    assert claims[-1] == 115 + 17 * 5


def test_a_member_that_has_just_returned_takes_nothing_from_one_that_may_be_about_to() -> None:
    """What made both unfit ends for one of them first."""
    damping = Damping().seen(is_well=True, now=0.0).seen(is_well=False, now=10.0).seen(is_well=True, now=20.0)
    assert damping.has_just_returned(20.9)
    assert not damping.has_just_returned(21.0)
    assert caution(Sight(is_programmed=True), is_damped=True, has_just_returned=True) is Caution.DOUBTFUL
    assert caution(Sight(is_programmed=True), is_damped=True) is Caution.DAMPED
    assert not Damping().seen(is_well=True, now=0.0).has_just_returned(0.5), "it was never unfit"
