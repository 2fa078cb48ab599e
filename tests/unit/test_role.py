"""The role machine, as transcripts: see `role_script` for the words. Every line is an event and what it leads to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

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
0.3 n1: elects n1 @100 => priority elected; elected n1 @100
0.3 n1: vrrp backup
0.4 n2: zookeeper connected
0.4 n2: vrrp backup => gate closed; init to backup
0.4 n2: track -254
0.5 n2: health fit => contend
0.5 n1: vrrp master => gate open; backup to master
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
9.0 n1: underlay heard => priority elected
9.0 n1: elects n2 @101 => priority normal; elected n2 @101
9.1 n1: vrrp backup => contend; fault to backup
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
1.0 n2: elects n2 @101 => priority elected; elected n2 @101
1.0 n1: elects n2 @101 => elected n2 @101
1.0 n2: vrrp master => gate open; backup to master
1.0 n1: vrrp backup => gate closed; master to fault
"""
    )


def test_a_session_that_expires() -> None:
    """The role goes to the other, and comes back to nobody: the late candidate stands at the end of the queue."""
    check(
        SETTLED
        + """

1.0 n1: zookeeper lost
1.1 n2: elects n2 @101 => priority elected; elected n2 @101
1.1 n2: vrrp master => gate open; backup to master
1.1 n1: vrrp backup => gate closed; master to backup
1.2 n1: zookeeper connected
1.3 n1: elects n2 n1 @101 => priority normal; elected n2 @101
1.3 n2: elects n2 n1 @101
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
0.4 n1: elects n1 @108 => priority elected; elected n1 @108
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
5.0 n2: tick => priority aside
5.0 n2: vrrp fault => gate closed; master to fault
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
8.5 n2: tick => priority aside
"""
    )


def test_one_that_stands_aside_returns_when_the_other_is_dead() -> None:
    """ZooKeeper says so: its candidate is gone."""
    check(
        SETTLED
        + """

1.0 n2: vrrp master => gate open; backup to master
5.0 n2: tick => priority aside
5.0 n2: vrrp fault => gate closed; master to fault
# n1 dies, and ZooKeeper says so
30.0 n2: elects n2 @101 => priority elected; elected n2 @101
30.0 n2: gate closed
30.0 n2: vrrp backup => fault to backup
30.2 n2: vrrp master => gate open; backup to master
"""
    )


def test_one_that_stands_aside_returns_when_zookeeper_is_lost() -> None:
    """A broken connection says nothing yet; a lost session does: nobody knows any more whether the other lives."""
    check(
        SETTLED
        + """

1.0 n2: vrrp master => gate open; backup to master
5.0 n2: tick => priority aside
5.0 n2: vrrp fault => gate closed; master to fault
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
5.0 n2: tick => priority aside
5.0 n2: vrrp fault => gate closed; master to fault
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

1.0 n1: vrrp stop => gate closed; withdraw; master to fault
1.0 n2: vrrp master => gate open; backup to master
1.1 n2: elects n2 @101 => priority elected; elected n2 @101
1.1 n1: elects n2 @101 => priority normal; elected n2 @101
5.0 n1: vrrp backup => contend; fault to backup
"""
    )


def test_a_member_whose_keepalived_has_a_fault_cannot_be_elected() -> None:
    """The fault of a cut cable; a fault because the member stands aside is none."""
    check(
        SETTLED
        + """

1.0 n1: vrrp fault => gate closed; withdraw; master to fault
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
1.0 n1: elects n1 @100 => priority elected; elected n1 @100
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
