"""The role machine, as transcripts: see `role_script` for the words. Every line is an event and what it leads to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from proxypool.core.detection import PROFILES, Profile, detection_of
from proxypool.core.role import (
    PRIORITY_ASIDE,
    PRIORITY_ELECTED,
    PRIORITY_NORMAL,
    TRANSITIONS,
    Coordinator,
    CoordinatorChanged,
    ElectionSeen,
    GateSeen,
    HealthSeen,
    HeartbeatHeard,
    MemberState,
    PrioritySeen,
    Role,
    RoleChanged,
    SetGate,
    SetPriority,
    Tick,
    Timers,
    Trigger,
    Vrrp,
    VrrpChanged,
    decide,
    step,
)
from tests.unit import builders as make
from tests.unit.role_script import replay

SETTLED = """0.0 n1: zookeeper connected
0.0 n1: vrrp master => gate open; init to master
0.0 n1: health fit => contend
0.0 n1: elects n1 n2 @100 => priority elected; elected n1 @100
0.0 n2: zookeeper connected
0.0 n2: vrrp backup => gate closed; init to backup
0.0 n2: health fit => contend
0.0 n2: elects n1 n2 @100 => priority normal; elected n1 @100
"""
"""n1 is master and elected, n2 its backup."""


def check(transcript: str) -> None:
    """The machines say what the transcript says."""
    assert replay(transcript).strip() == transcript.strip()


def test_a_cold_start_of_two_members() -> None:
    """After a reboot both stand aside; the first in the election claims, the second returns when it hears it."""
    check(
        """
# Both boot: keepalived stands aside until the daemons have looked.
0.0 n1: zookeeper connected
0.0 n1: vrrp backup => gate closed; init to backup
0.1 n1: track -254
0.1 n1: gate closed
0.2 n1: health fit => contend
0.3 n1: elects n1 @100 => priority normal; elected n1 @100
0.3 n1: vrrp backup
0.4 n2: zookeeper connected
0.4 n2: vrrp backup => gate closed; init to backup
0.4 n2: track -254
0.5 n2: health fit => contend
0.5 n1: vrrp master => gate open; priority elected; backup to master
0.6 n2: elects n1 n2 @100 => elected n1 @100
0.6 n1: elects n1 n2 @100
0.7 n2: heard => priority normal
0.8 n2: vrrp backup
"""
    )


def test_a_master_to_which_nothing_comes_stands_aside() -> None:
    """Its advertisements may still be heard; with the first packet it returns, as the backup that it has become."""
    check(
        SETTLED
        + """
2.0 n1: underlay silent => priority aside; withdraw
2.0 n1: vrrp fault => gate closed; master to fault
2.1 n2: vrrp master => gate open; backup to master
6.0 n2: elects n2 @101 => priority elected; elected n2 @101
9.0 n1: underlay heard => priority normal
9.0 n1: elects n2 @101 => elected n2 @101
9.1 n1: vrrp backup => contend; fault to backup
"""
    )


def test_a_member_whose_keepalived_has_just_started_is_chosen() -> None:
    """It claims when it may: its gate stays closed until then, and the living master serves."""
    check(
        SETTLED
        + """
1.0 n2: vrrp stop => priority aside; withdraw; backup to fault
1.0 n2: health keepalived-down
1.5 n2: vrrp backup => priority unfit
1.5 n2: health fit starting => priority starting; contend; fault to backup
1.6 n2: elects n2+ n1 @100 => elected n2 @100
1.6 n1: elects n2+ n1 @100 => priority normal; elected n2 @100
3.5 n2: health fit => gate open; priority claim
3.5 n2: vrrp master => backup to master
"""
    )


def test_the_breaker_waits_for_keepalived_too() -> None:
    """Neither when the breaker has allowed it."""
    check(
        SETTLED
        + """
1.0 n2: elects n2 @101 => elected n2 @101
2.0 n2: health fit starting => priority starting
9.0 n2: allowed
9.5 n2: health fit => gate open; priority claim
"""
    )


def test_the_master_dies() -> None:
    """VRRP alone replaces it; the election confirms it when the session expires, and nothing moves again."""
    check(
        SETTLED
        + """

# n1 is powered off
1.2 n2: vrrp master => gate open; backup to master
1.2 n2: gate open
4.9 n2: elects n2 @101 => priority elected; elected n2 @101
5.0 n2: tick
9.9 n2: tick
"""
    )


def test_a_planned_switchover() -> None:
    """It begins with the election: the member to be maintained becomes unfit by its operator's wish."""
    check(
        SETTLED
        + """

# n1 leaves the election for maintenance: its candidate goes
1.0 n1: health draining => priority unfit; withdraw
1.0 n2: elects n2 @101 => elected n2 @101
1.0 n1: elects n2 @101 => elected n2 @101
1.0 n2: vrrp master => gate open; priority elected; backup to master
1.0 n1: vrrp backup => gate closed; master to fault
"""
    )


def test_an_operator_chooses_the_other() -> None:
    """`pair switchover`: the chosen one claims at once, with more than a dead daemon's track file may hold."""
    check(
        SETTLED
        + """

1.0 n2: elects n2+ @101 => gate open; priority claim; elected n2 @101
1.0 n1: elects n2+ @101 => priority normal; elected n2 @101
1.0 n2: vrrp master => backup to master
1.0 n1: vrrp backup => gate closed; master to backup
1.1 n1: elects n2+ n1 @101
# The choice is done with: had it to yield, it would not take it back
1.1 n2: elects n2+ n1 @101
2.0 n2: tick => priority elected
5.0 n2: vrrp backup => gate closed; priority normal; master to backup
"""
    )


def test_a_claim_that_comes_to_nothing_closes_the_gate_again() -> None:
    """keepalived does not take the HaVip: after a second nothing is left prepared, and what comes of it later counts."""
    check(
        SETTLED
        + """

1.0 n2: elects n2+ @101 => gate open; priority claim; elected n2 @101
1.9 n2: tick
2.0 n2: tick => gate closed
2.5 n2: tick
3.0 n2: vrrp master => gate open; backup to master
"""
    )


def test_a_session_that_expires_moves_nothing() -> None:
    """The other is elected, but hears a living master: it goes to the end of the queue when that one stands again."""
    check(
        SETTLED
        + """

1.0 n1: zookeeper lost
5.1 n2: elects n2 @101 => elected n2 @101
5.2 n1: zookeeper connected
5.3 n1: elects n2 @101 => priority normal; elected n2 @101
5.3 n1: elects n2 n1 @101
5.3 n2: elects n2 n1 @101 => withdraw
5.4 n1: elects n1 @102 => priority elected; elected n1 @102
5.4 n2: elects n1 @102 => contend; elected n1 @102
5.5 n2: elects n1 n2 @102
5.5 n1: elects n1 n2 @102
"""
    )


def test_a_master_whose_daemon_is_dead_is_replaced_when_the_breaker_allows_it() -> None:
    """It does not stand in the election again: after a while the elected one claims, but not without being allowed."""
    check(
        SETTLED
        + """

5.1 n2: elects n2 @101 => elected n2 @101
30.0 n2: tick
30.0 n2: allowed => gate open; priority claim
30.0 n2: vrrp master => backup to master
31.0 n2: tick => priority elected
"""
    )


def test_a_member_that_has_just_become_backup_does_not_yield() -> None:
    """Nobody may be master yet: it would hand the election round for nothing."""
    check(
        """
0.0 n1: zookeeper connected
0.0 n1: vrrp backup => gate closed; init to backup
0.1 n1: health fit => contend
0.2 n1: elects n1 n2 @100 => priority normal; elected n1 @100
1.9 n1: tick
2.0 n1: tick => withdraw
"""
    )


def test_a_damped_member_is_better_than_an_unfit_one() -> None:
    """It is not elected, and takes over only from a master that is unfit; for a master it is no matter."""
    check(
        SETTLED
        + """

1.0 n2: health eni-down => priority unfit; withdraw; backup to fault
2.0 n2: health fit damped => priority damped; fault to backup
3.0 n1: health eni-down => priority unfit; withdraw
3.0 n2: vrrp master => gate open; priority normal; contend; backup to master
"""
    )


def test_a_doubtful_backup_takes_nothing_from_an_unfit_master() -> None:
    """A gateway that is silent for both moves nothing: the backup has doubts before the master is sure."""
    check(
        SETTLED
        + """

1.0 n2: health fit doubtful => priority unfit
1.5 n1: health gateway-unreachable => priority unfit; withdraw
1.9 n2: health gateway-unreachable => withdraw; backup to fault
# The master finds it back first, as a backup is damped
9.0 n1: health fit => priority elected; contend
9.1 n2: health fit damped => priority damped; fault to backup
"""
    )


def test_a_paused_pair_moves_for_a_dead_master_only() -> None:
    """Neither health nor the election move it."""
    check(
        SETTLED
        + """

1.0 n1: paused
1.0 n2: paused
2.0 n1: health eni-down
3.0 n2: elects n2+ @101 => elected n2 @101
3.0 n1: elects n2+ @101 => elected n2 @101
# It dies
4.0 n2: vrrp master => gate open; priority elected; backup to master
"""
    )


def test_resume_does_what_was_put_off() -> None:
    """The master is unfit: it yields now."""
    check(
        SETTLED
        + """

1.0 n1: paused
2.0 n1: health eni-down
9.0 n1: resumed => priority unfit; withdraw
"""
    )


def test_strict_waits_for_the_election_and_for_its_predecessors_lease() -> None:
    """Nobody but the elected one may be master, and that one only while its lease lasts."""
    check(
        """
0.0 n1: zookeeper connected
0.0 n1: strict
0.0 n1: vrrp backup => gate closed; init to backup
0.0 n1: track -254
0.1 n1: health fit => contend
0.1 n1: vrrp fault => backup to fault
0.2 n1: lease 100 until 3.2
0.2 n1: elects n1 @100 => elected n1 @100
1.2 n1: lease 100 until 4.2
3.4 n1: tick
3.5 n1: tick => priority claim
3.5 n1: vrrp backup => fault to backup
3.6 n1: vrrp master => gate open; backup to master
4.2 n1: tick => gate closed; priority aside
4.2 n1: vrrp fault => master to fault
# It is the same candidate: nobody else can have been elected
6.0 n1: lease 100 until 9.0 => priority claim
# A lease of another session than the candidate's is none
7.0 n1: lease 101 until 10.0 => priority aside
"""
    )


STRICT_MASTER = """0.0 n1: zookeeper connected
0.0 n1: strict
0.0 n1: vrrp backup => gate closed; init to backup
0.0 n1: health fit => contend
0.0 n1: elects n1 n2 @100 => elected n1 @100
0.0 n1: lease 100 until 90 => priority aside
0.0 n1: vrrp fault => backup to fault
4.0 n1: tick => priority claim
4.0 n1: vrrp master => gate open; fault to master
5.0 n1: tick => priority elected
"""


def test_strict_yields_before_it_leaves_the_election() -> None:
    """An unfit master gives way to one that stands: its candidate goes when its gate is closed."""
    check(
        STRICT_MASTER
        + """

5.0 n1: health eni-down => gate closed; priority aside; withdraw
5.1 n1: vrrp fault => master to fault
5.2 n1: elects n2 @101 => elected n2 @101
# Fit again it waits for its turn
6.0 n1: health fit => contend
"""
    )


def test_strict_yields_to_one_that_an_operator_chose() -> None:
    """It stands again at once, at the end of the queue."""
    check(
        STRICT_MASTER
        + """

5.0 n1: elects n1 n2+ @100 => gate closed; priority aside; withdraw
5.1 n1: vrrp fault => master to fault
5.2 n1: elects n2+ @101 => contend; elected n2 @101
"""
    )


def test_strict_serves_unfit_where_nobody_else_stands() -> None:
    """As the last one it serves as well as it can."""
    check(
        STRICT_MASTER
        + """

5.0 n1: elects n1 @100
5.0 n1: health eni-down
6.1 n1: elects n1 n2 @100
7.1 n1: tick => gate closed; priority aside; withdraw
"""
    )


def test_an_unfit_member_leaves_the_election_and_lowers_its_priority() -> None:
    """Fit again, it is a backup, and nothing moves back."""
    check(
        SETTLED
        + """

1.0 n1: health eni => priority unfit; withdraw
1.0 n2: vrrp master => gate open; backup to master
1.0 n1: vrrp backup => gate closed; master to fault
1.1 n2: elects n2 @101 => priority elected; elected n2 @101
1.1 n1: elects n2 @101 => elected n2 @101
2.0 n1: health fit => priority normal; contend; fault to backup
2.1 n1: elects n2 n1 @101
"""
    )


def test_the_last_member_serves_as_well_as_it_can() -> None:
    """Unfit, but nobody else is there: it keeps the HaVip and the gate until VRRP moves them."""
    check(
        """
0.0 n1: zookeeper connected
0.0 n1: vrrp master => gate open; init to master
0.0 n1: health fit => contend
0.0 n1: elects n1 @100 => priority elected; elected n1 @100
1.0 n1: health conntrack-full => priority unfit; withdraw
1.1 n1: elects nobody => elected nobody @100
1.2 n1: gate open
"""
    )


def test_zookeeper_lost_changes_nothing() -> None:
    """Roles, gates and priorities stay, and VRRP goes on failing over."""
    check(
        SETTLED
        + """

1.0 n1: zookeeper suspended
1.0 n2: zookeeper suspended
5.0 n1: zookeeper lost
5.0 n2: zookeeper lost
6.0 n1: tick
6.0 n1: gate open
6.0 n1: track 239
6.0 n2: gate closed
6.0 n2: track 199
# VRRP goes on failing over
7.0 n2: vrrp master => gate open; backup to master
20.0 n2: tick
"""
    )


def test_a_restarted_daemon_adopts_the_master() -> None:
    """Nothing is touched before the first look at its health; what it does then is what is there already."""
    check(
        SETTLED
        + """

10.0 n1: restart
10.0 n1: zookeeper connected
10.0 n1: vrrp master => gate open; init to master
10.0 n1: gate open
10.0 n1: track 239
10.1 n1: elects n1 n2 @100 => elected n1 @100
10.1 n1: tick
10.9 n1: health fit => contend
11.0 n1: gate open
11.0 n1: track 239
"""
    )


def test_a_restarted_daemon_moves_no_gate_before_vrrp_has_spoken() -> None:
    """An unfit master may be the last one that serves."""
    check(
        """
0.0 n1: restart
0.0 n1: health eni => priority unfit
0.0 n1: gate open
0.0 n1: track 99
0.0 n1: vrrp master => gate open; withdraw; init to master
"""
    )


def test_a_stale_epoch_is_ignored() -> None:
    """Also when the election was empty in between."""
    check(
        """
0.0 n1: zookeeper connected
0.0 n1: vrrp backup => gate closed; init to backup
0.0 n1: health fit => contend
0.0 n1: elects n2 n1 @107 => priority normal; elected n2 @107
0.1 n1: elects n1 n2 @100
0.2 n1: elects nobody => elected nobody @107
0.3 n1: elects n1 @106
0.4 n1: elects n1 @108 => elected n1 @108
"""
    )


def test_two_masters_that_do_not_hear_each_other() -> None:
    """After the tie break the one not elected stands aside; it returns when it hears the other again."""
    check(
        SETTLED
        + """

# They no longer hear each other
1.0 n2: vrrp master => gate open; backup to master
3.0 n2: tick
4.9 n2: tick
5.0 n2: tick => gate closed; priority aside
5.0 n2: vrrp fault => master to fault
9.0 n2: tick
# The partition heals
20.0 n2: heard => priority normal
20.0 n2: tick
20.0 n2: vrrp backup => fault to backup
20.1 n2: heard
"""
    )


def test_the_tie_break_begins_anew_with_every_connection() -> None:
    """Until then sessions of the dead may have been kept alive by ZooKeeper's own outage."""
    check(
        SETTLED
        + """

1.0 n2: vrrp master => gate open; backup to master
4.0 n2: zookeeper suspended
4.5 n2: zookeeper connected
5.1 n2: tick
8.4 n2: tick
8.5 n2: tick => gate closed; priority aside
"""
    )


def test_one_that_stands_aside_returns_when_the_other_is_dead() -> None:
    """ZooKeeper says so: its candidate is gone."""
    check(
        SETTLED
        + """

1.0 n2: vrrp master => gate open; backup to master
5.0 n2: tick => gate closed; priority aside
5.0 n2: vrrp fault => master to fault
# n1 dies, and ZooKeeper says so
30.0 n2: elects n2 @101 => priority normal; elected n2 @101
30.0 n2: gate closed
30.0 n2: vrrp backup => fault to backup
30.2 n2: vrrp master => gate open; priority elected; backup to master
"""
    )


def test_one_that_stands_aside_returns_when_zookeeper_is_lost() -> None:
    """A broken connection says nothing yet; a lost session does: nobody knows any more whether the other lives."""
    check(
        SETTLED
        + """

1.0 n2: vrrp master => gate open; backup to master
5.0 n2: tick => gate closed; priority aside
5.0 n2: vrrp fault => master to fault
7.0 n2: zookeeper suspended
8.0 n2: zookeeper connected
9.0 n2: zookeeper suspended
13.0 n2: zookeeper lost => priority normal
13.0 n2: vrrp backup => fault to backup
13.2 n2: vrrp master => gate open; backup to master
30.0 n2: tick
"""
    )


def test_a_restarted_daemon_still_stands_aside() -> None:
    """Its predecessor's track file says so; or every restart in a partition would open a second gate."""
    check(
        SETTLED
        + """

1.0 n2: vrrp master => gate open; backup to master
5.0 n2: tick => gate closed; priority aside
5.0 n2: vrrp fault => master to fault
6.0 n2: restart
6.0 n2: track -254
6.0 n2: vrrp backup => gate closed; init to backup
6.0 n2: gate closed
6.1 n2: zookeeper connected
6.2 n2: elects n1 n2 @100 => elected n1 @100
6.3 n2: health fit => contend
7.0 n2: tick
8.0 n2: heard => priority normal
"""
    )


def test_gate_drift_is_repaired() -> None:
    """Whoever changed `ip_forward`, it follows the role."""
    check(
        SETTLED
        + """

1.0 n1: gate closed => gate open
1.0 n2: gate open => gate closed
1.1 n1: gate open
"""
    )


def test_track_file_drift_is_repaired() -> None:
    """Whoever wrote it or removed it."""
    check(
        SETTLED
        + """

1.0 n1: track 199 => priority elected
1.0 n2: track 239 => priority normal
1.1 n1: track missing => priority elected
1.2 n1: track 239
"""
    )


def test_a_member_without_keepalived_cannot_be_elected() -> None:
    """Otherwise the other, master and not elected, would stand aside for one that claims nothing."""
    check(
        SETTLED
        + """

1.0 n1: vrrp stop => gate closed; priority aside; withdraw; master to fault
1.0 n2: vrrp master => gate open; backup to master
1.1 n2: elects n2 @101 => priority elected; elected n2 @101
1.1 n1: elects n2 @101 => elected n2 @101
5.0 n1: vrrp backup => priority normal; contend; fault to backup
"""
    )


def test_a_member_whose_keepalived_has_a_fault_cannot_be_elected() -> None:
    """The fault of a cut cable; a fault because the member stands aside is none."""
    check(
        SETTLED
        + """

1.0 n1: vrrp fault => gate closed; priority normal; withdraw; master to fault
5.0 n1: vrrp backup => contend; fault to backup
"""
    )


def test_a_priority_is_raised_again_without_zookeeper() -> None:
    """The last election that was read holds."""
    check(
        SETTLED
        + """

1.0 n2: zookeeper lost
2.0 n2: health eni => priority unfit; withdraw; backup to fault
3.0 n2: health fit => priority normal; contend; fault to backup
"""
    )


def test_a_member_that_boots_without_zookeeper_serves_when_it_is_lost() -> None:
    """It stands aside for as long as the other may be elected and alive."""
    check(
        """
0.0 n1: vrrp backup => gate closed; init to backup
0.0 n1: track -254
0.1 n1: health fit => contend
0.2 n1: vrrp fault => backup to fault
4.0 n1: zookeeper lost => priority normal
4.0 n1: vrrp backup => fault to backup
4.2 n1: vrrp master => gate open; backup to master
"""
    )


def test_a_member_that_boots_contends_although_keepalived_reports_a_fault() -> None:
    """The fault is its own track file's, which it reads late here; nobody would ever be elected otherwise."""
    check(
        """
0.0 n1: zookeeper connected
0.0 n1: vrrp fault => gate closed; init to fault
0.0 n1: health fit
0.0 n1: elects nobody
1.0 n1: track -254 => contend
1.0 n1: elects n1 @100 => priority normal; elected n1 @100
1.0 n1: vrrp backup => fault to backup
"""
    )


def settled(node: str) -> MemberState:
    """The member in the settled pair."""
    state = MemberState(node)
    for event in (
        CoordinatorChanged(Coordinator.CONNECTED),
        VrrpChanged(Vrrp.MASTER if node == "n1" else Vrrp.BACKUP),
        HealthSeen(frozenset()),
        ElectionSeen(make.candidates("n1", "n2")),
    ):
        state, _ = step(state, event, 0.0)
    return state


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_the_same_news_twice_lead_to_nothing(node: str) -> None:
    state = settled(node)
    is_master = node == "n1"
    for event in (
        VrrpChanged(Vrrp.MASTER if is_master else Vrrp.BACKUP),
        HealthSeen(frozenset()),
        ElectionSeen(make.candidates("n1", "n2")),
        GateSeen(is_master),
        PrioritySeen(PRIORITY_ELECTED if is_master else PRIORITY_NORMAL),
        Tick(),
    ):
        state, effects = step(state, event, 9.0)
        assert effects == ()


def test_the_gate_comes_first_and_facts_come_last() -> None:
    """Packets wait for the gate."""
    state = replace(settled("n2"), track=7)
    _, effects = step(state, VrrpChanged(Vrrp.MASTER), 1.0)
    assert [type(effect) for effect in effects] == [SetGate, SetPriority, RoleChanged]


def test_a_change_of_role_tells_why_when_and_whether_it_was_planned() -> None:
    state, effects = step(settled("n2"), VrrpChanged(Vrrp.MASTER), 7.5)
    assert state.role_since == 7.5
    fact = next(effect for effect in effects if isinstance(effect, RoleChanged))
    assert fact == RoleChanged(Role.BACKUP, Role.MASTER, "keepalived claimed the HaVip", 100, was_elected=False)


def test_without_zookeeper_from_the_start_a_fit_member_is_of_normal_priority() -> None:
    state = MemberState("n1")
    state, _ = step(state, VrrpChanged(Vrrp.BACKUP), 0.0)
    _, effects = step(state, HealthSeen(frozenset()), 0.0)
    assert SetPriority(PRIORITY_NORMAL) in effects


def test_the_deadline_is_the_end_of_the_tie_break() -> None:
    state = settled("n2")
    assert state.next_deadline is None
    state, _ = step(state, VrrpChanged(Vrrp.MASTER), 10.0)
    assert state.next_deadline == 10.0 + state.timers.tie_break_s
    state, _ = step(state, ElectionSeen(make.candidates("n2", first_epoch=101)), 11.0)
    assert state.next_deadline is None


def test_on_its_way_back_a_member_stays_in_the_election() -> None:
    """keepalived still reports the fault that the track file made; what comes after it is not known yet."""
    state = replace(settled("n2"), role=Role.FAULT, vrrp=Vrrp.FAULT, is_aside=True, track=PRIORITY_ASIDE)
    assert decide(state).contend is True
    state, effects = step(state, HeartbeatHeard(), 1.0)
    assert effects == (SetPriority(PRIORITY_NORMAL),)
    assert decide(state).contend is None


class TestTimers:
    @pytest.mark.parametrize(("session_s", "tick_s"), [(4.0, 2.0), (4.0, 0.5), (1.0, 0.5), (10.0, 2.0)])
    def test_a_tie_is_broken_later_than_a_dead_members_session_ends(self, session_s: float, tick_s: float) -> None:
        """A session ends in whole ticks of the server; before that nobody can tell a dead member from a deaf one."""
        assert Timers.for_session(session_s, tick_s).tie_break_s > session_s + tick_s

    def test_without_the_servers_tick_it_is_the_longest_there_can_be(self) -> None:
        assert Timers.for_session(4.0) == Timers.for_session(4.0, 2.0)
        assert Timers() == Timers.for_session(4.0)

    @pytest.mark.parametrize("profile", Profile)
    def test_the_shipped_timers_of_vrrp_are_quicker_than_all_that_waits_for_them(self, profile: Profile) -> None:
        assert Timers.for_session(4.0, detection_s=PROFILES[profile].longest_s) == Timers.for_session(4.0)

    def test_slow_advertisements_are_waited_for(self) -> None:
        """3 s and the skew pass before VRRP misses a master that announces itself once a second."""
        slow = detection_of(Profile.BALANCED, advert_ms=1000, missing=3)
        timers = Timers.for_session(4.0, detection_s=slow.longest_s)
        assert slow.longest_s == 4.0
        assert slow.longest_s < timers.silent_s < timers.tie_break_s


class TestTransitions:
    VRRP = tuple(trigger for trigger in Trigger if trigger not in {Trigger.FIT, Trigger.UNFIT})

    def test_vrrp_may_say_anything_in_any_role(self) -> None:
        for role, trigger in itertools.product(Role, self.VRRP):
            assert (role, trigger) in TRANSITIONS

    def test_only_vrrp_makes_a_master(self) -> None:
        """The gate must be where the HaVip is."""
        into = {trigger for (role, trigger), new in TRANSITIONS.items() if new is Role.MASTER and role is not new}
        assert into == {Trigger.VRRP_MASTER}

    def test_nothing_leads_back_to_init(self) -> None:
        assert Role.INIT not in TRANSITIONS.values()

    def test_fitness_moves_a_role_only_where_vrrp_says_backup(self) -> None:
        """Neither init nor master can be there then, so the table has no such lines, and no event looks for one."""
        by_fitness = {role for role, trigger in TRANSITIONS if trigger in {Trigger.FIT, Trigger.UNFIT}}
        assert by_fitness == {Role.BACKUP, Role.FAULT}
        for vrrp, reasons in itertools.product(Vrrp, ({"eni"}, set[str]())):
            state, _ = step(MemberState("n1"), VrrpChanged(vrrp), 0.0)
            role = state.role
            state, _ = step(state, HealthSeen(frozenset(reasons)), 0.0)
            if vrrp is not Vrrp.BACKUP:
                assert state.role is role
