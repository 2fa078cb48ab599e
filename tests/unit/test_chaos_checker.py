"""The checker of recorded histories can fail: each invariant has a history that violates it, and its neighbour that does not."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from proxypool.lab.fault_kinds import Fault
from tests.chaos import bounds
from tests.chaos.checker import check, timeline
from tests.chaos.history import Connection, FaultEvent, GateChange, History, Pair, Probes, Said, Span

A, B = "node-a", "node-b"
MAC = {A: "02:00:00:00:00:0a", B: "02:00:00:00:00:0b"}
PAIR = Pair(
    "s1", "p1", "192.168.4.100", {A: "172.16.101.11", B: "172.16.101.12"}, {mac: node for node, mac in MAC.items()}
)
SESSION_S, TICK_S = 4.0, 0.5
TIE_S = bounds.tie_break_s(SESSION_S, TICK_S)
FAULT_AT = 40.0
END = 100.0


def fault(at: float, kind: str, machine: str, subnet: str | None = None) -> FaultEvent:
    return FaultEvent(at, at + 0.01, kind, machine, subnet)


def gate(at: float, node: str, *, is_open: bool = True) -> GateChange:
    return GateChange(at, node, "s1", is_open)


def probes(*gaps: tuple[float, float], own_stall_s: float = 0.0) -> Probes:
    return Probes("s1", "p1", "pod1", 0.0, END, 10000, 0, gaps, own_stall_s)


CALM = History(
    seed="by hand",
    session_timeout_s=SESSION_S,
    server_tick_s=TICK_S,
    zookeepers=("zk1", "zk2", "zk3"),
    pairs=(PAIR,),
    start=0.0,
    end=END,
    gates=(gate(0.0, A),),
    holders=(Span(PAIR.havip, MAC[A], 0.0, END),),
    probes=(probes(),),
)


def invariants(history: History) -> list[int]:
    return [violation.invariant for violation in check(history)]


def test_nothing_happened_and_nothing_is_wrong() -> None:
    assert check(CALM) == []


# ---- 1 ---------------------------------------------------------------------------------------------------------------


def overlap(length_s: float, *faults: FaultEvent) -> History:
    """The other gate is open for so long from the fault on."""
    opened = gate(FAULT_AT, B), gate(FAULT_AT + length_s, B, is_open=False)
    return replace(CALM, gates=(*CALM.gates, *opened), faults=faults)


def test_1_two_open_gates_for_a_moment_are_a_takeover() -> None:
    assert invariants(overlap(bounds.TWO_GATES_S - 0.1)) == []


def test_1_two_open_gates_for_longer_than_it_takes_to_notice() -> None:
    (violation,) = check(overlap(bounds.TWO_GATES_S + 0.1))
    assert violation.invariant == 1
    assert violation.subject == "s1/p1"
    assert violation.start == FAULT_AT


@pytest.mark.parametrize("cut", ["cut-vrrp", "cut-vrrp-in", "cut-vrrp-out"])
def test_1_members_that_do_not_hear_each_other_have_the_session_timeout_to_find_out(cut: str) -> None:
    event = fault(FAULT_AT, cut, A)
    assert invariants(overlap(TIE_S - 0.1, event)) == []
    assert invariants(overlap(TIE_S + 0.2, event)) == [1]


def test_1_nobody_can_tell_without_heartbeats_and_without_zookeeper() -> None:
    """It is the price of the mode `fast`, and ends when either of the two is back."""
    cut = [fault(FAULT_AT, "cut-vrrp", A), fault(FAULT_AT, "cut-zookeeper", B)]
    assert invariants(overlap(40.0, *cut)) == []
    healed = fault(FAULT_AT + 5.0, "heal-underlay", A)
    assert invariants(overlap(5.0 + bounds.TWO_GATES_S - 0.1, *cut, healed)) == []
    assert invariants(overlap(5.0 + bounds.TWO_GATES_S + 0.2, *cut, healed)) == [1]


def test_1_quorum_counts() -> None:
    events = fault(FAULT_AT, "cut-vrrp", A), fault(FAULT_AT, "pause", "zk1")
    assert invariants(overlap(TIE_S + bounds.RECONNECT_S + 1.0, *events)) == [1]
    assert invariants(overlap(40.0, *events, fault(FAULT_AT, "power-off", "zk2"))) == []


def test_1_a_gate_that_no_packet_reaches_does_not_count() -> None:
    assert invariants(overlap(40.0, fault(FAULT_AT - 1.0, "cut-underlay-in", A))) == []
    assert invariants(overlap(40.0, fault(FAULT_AT - 1.0, "cut-vrrp-in", A))) == [1]


def test_1_a_gate_of_a_machine_that_is_off_is_none() -> None:
    assert invariants(overlap(40.0, fault(FAULT_AT - 0.1, "power-off", A))) == []


def test_1_a_member_without_keepalived_is_fenced_by_its_daemon_if_that_lives() -> None:
    stopped = fault(FAULT_AT, "stop-keepalived", A)
    assert invariants(overlap(10.0, stopped)) == [1]
    assert invariants(overlap(10.0, stopped, fault(FAULT_AT, "kill-daemon", A))) == []
    assert invariants(overlap(10.0, fault(FAULT_AT, "pause", A))) == []


# ---- 2 ---------------------------------------------------------------------------------------------------------------


def silence(length_s: float, *faults: FaultEvent, own_stall_s: float = 0.0) -> History:
    """No answer for so long from the fault on."""
    return replace(CALM, probes=(probes((FAULT_AT, FAULT_AT + length_s), own_stall_s=own_stall_s),), faults=faults)


@pytest.mark.parametrize("kind", ["power-off", "kill-keepalived", "stop-keepalived", "cut-underlay", "delete-eni"])
def test_2_traffic_is_back_within_the_bound_of_the_fault(kind: str) -> None:
    limit = bounds.OUTAGES_S.get(Fault(kind), bounds.OUTAGE_S)
    event = fault(FAULT_AT, kind, A)
    assert invariants(silence(limit - 0.1, event)) == []
    (violation,) = check(silence(limit + 0.5, event))
    assert violation.invariant == 2


def test_2_a_gap_without_any_reason() -> None:
    assert invariants(silence(bounds.SHORT_GAP_S - 0.05)) == []
    assert invariants(silence(bounds.SHORT_GAP_S + 0.1)) == [2]


def test_2_where_two_were_master_hosts_wait_for_an_announcement() -> None:
    """The one that is not elected stands aside at any moment; but a gap has to end."""
    split = fault(FAULT_AT - 5.0, "cut-vrrp", A)
    assert invariants(silence(bounds.ANNOUNCEMENT_S - 0.1, split)) == []
    assert invariants(silence(bounds.ANNOUNCEMENT_S + 0.2, split)) == [2]


def test_2_while_packets_are_lost_a_false_alarm_may_come_at_any_moment() -> None:
    lossy = fault(FAULT_AT - 20.0, "lose-vrrp", A)
    assert invariants(silence(bounds.LOSSY_GAP_S - 0.1, lossy)) == []
    assert invariants(silence(bounds.LOSSY_GAP_S + 0.2, lossy)) == [2]


def test_2_who_returns_disturbs_nobody() -> None:
    """Traffic flows through the other one: that is not to be interrupted, but by a planned change."""
    events = fault(FAULT_AT - 30.0, "power-off", B), fault(FAULT_AT, "power-on", B)
    assert invariants(silence(0.8, *events)) == [2]
    assert invariants(silence(0.2, *events)) == []
    nobody = replace(silence(0.8, *events), holders=())
    assert invariants(nobody) == []


def test_2_a_prober_that_was_itself_kept_from_running_saw_no_gap() -> None:
    assert invariants(silence(2.0, own_stall_s=2.0)) == []


def test_2_nobody_can_serve_without_a_healthy_member() -> None:
    both = fault(FAULT_AT, "power-off", A), fault(FAULT_AT, "power-off", B)
    assert invariants(silence(30.0, *both)) == []


def test_2_what_else_is_down_is_no_excuse() -> None:
    """ZooKeeper, all of it, and the survivor's daemon."""
    others = [fault(FAULT_AT - 20.0, "power-off", name) for name in CALM.zookeepers]
    events = *others, fault(FAULT_AT - 20.0, "kill-daemon", B), fault(FAULT_AT, "power-off", A)
    assert invariants(silence(0.9, *events)) == []
    assert invariants(silence(2.0, *events)) == [2]


def test_2_a_member_that_returns_needs_time_to_become_healthy() -> None:
    both = fault(FAULT_AT, "power-off", A), fault(FAULT_AT, "power-off", B), fault(FAULT_AT + 5.0, "power-on", B)
    ready_s = 5.0 + bounds.READY_AFTER_POWER_ON_S + bounds.OUTAGE_S
    assert invariants(silence(ready_s - 0.1, *both)) == []
    # The bound of a table that was full is the longest there is.
    assert invariants(silence(ready_s + 1.0, *both)) == [2]


def test_2_a_gap_that_begins_with_an_excuse_and_goes_on_without() -> None:
    events = fault(FAULT_AT, "lose-underlay", B), fault(FAULT_AT + 4.0, "heal-underlay", B)
    (violation,) = check(silence(10.0, *events))
    assert violation.invariant == 2
    assert violation.start > FAULT_AT


# ---- 3 ---------------------------------------------------------------------------------------------------------------


def connection(state: str = "reset", source: str | None = "172.16.101.11") -> History:
    return replace(CALM, connections=(Connection("pod1", source, FAULT_AT - 5.0, FAULT_AT + 0.5, state),))


@pytest.mark.parametrize("state", ["reset", "hanging", "timeout"])
def test_3_a_connection_ends_although_nothing_happened_to_its_pair(state: str) -> None:
    assert invariants(connection(state)) == [3]
    assert invariants(replace(connection(state), faults=(fault(FAULT_AT, "power-off", "zk1"),))) == [3]
    assert invariants(replace(connection(state), faults=(fault(FAULT_AT, "power-off", A),))) == []


def test_3_servers_know_a_connection_by_the_egress_address() -> None:
    history = connection(source="172.16.101.100")
    assert "which is no member's" in check(history)[0].text
    history = replace(history, pairs=(replace(PAIR, egress="172.16.101.100"),))
    assert "its pair was undisturbed" in check(history)[0].text
    assert invariants(replace(history, faults=(fault(FAULT_AT, "power-off", A),))) == []


@pytest.mark.parametrize("state", ["alive", "ended"])
def test_3_a_connection_that_lives_or_was_ended_is_well(state: str) -> None:
    assert invariants(connection(state)) == []


def test_3_a_failover_without_a_fault_breaks_connections_but_that_is_told_by_others() -> None:
    spans = Span(PAIR.havip, MAC[A], 0.0, FAULT_AT), Span(PAIR.havip, MAC[B], FAULT_AT, END)
    assert invariants(replace(connection(), holders=spans)) == []


def test_3_a_source_that_no_member_has() -> None:
    assert invariants(connection(source="172.16.101.99")) == [3]


# ---- 4 to 8, and the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "invariant"),
    [("strangers", 4), ("crossed", 5), ("foreign_lost", 6), ("restless", 7), ("unhealed", 0)],
)
def test_what_observers_found_is_a_violation(field: str, invariant: int) -> None:
    (violation,) = check(replace(CALM, **{field: ("something",)}))  # type: ignore[arg-type]
    assert violation.invariant == invariant
    assert "something" in str(violation)


def test_4_flushed_rules_are_no_excuse() -> None:
    """There is a filter on the ENI that a flush does not reach."""
    assert invariants(replace(CALM, strangers=("a frame",), faults=(fault(FAULT_AT, "flush-iptables", A),))) == [4]


def words(role: str, *, has_havip: bool, is_open: bool, seconds: float) -> tuple[Said, ...]:
    count = int(seconds / 0.5) + 1
    return tuple(Said(FAULT_AT + 0.5 * n, A, "s1", role, has_havip, is_open) for n in range(count))


@pytest.mark.parametrize(
    ("role", "has_havip", "is_open"), [("master", False, False), ("master", True, False), ("backup", True, True)]
)
def test_8_a_daemon_says_what_is_not_so(role: str, has_havip: bool, is_open: bool) -> None:  # noqa: FBT001
    said = words(role, has_havip=has_havip, is_open=is_open, seconds=bounds.SAID_WRONG_S + 1.0)
    assert invariants(replace(CALM, said=said)) == [8]
    assert invariants(replace(CALM, said=said[:4])) == []
    assert invariants(replace(CALM, said=said, faults=(fault(FAULT_AT, "stop-daemon", A),))) == []


@pytest.mark.parametrize(("role", "is_here"), [("master", True), ("backup", False), ("fault", False)])
def test_8_a_daemon_says_what_is_so(role: str, is_here: bool) -> None:  # noqa: FBT001
    said = words(role, has_havip=is_here, is_open=is_here, seconds=20.0)
    assert invariants(replace(CALM, said=said)) == []


# ---- the report --------------------------------------------------------------------------------------------------------


def test_the_timeline_shows_what_went_on_around_it() -> None:
    events = (
        fault(FAULT_AT - 30.0, "stop-daemon", B),
        fault(FAULT_AT, "power-off", A),
        fault(FAULT_AT + 30.0, "power-on", A),
    )
    history = replace(silence(5.0, *events), holders=(Span(PAIR.havip, MAC[B], FAULT_AT + 0.2, END),))
    (violation,) = check(history)
    text = "\n".join(timeline(history, violation))
    assert "lasting before: stop-daemon node-b" in text
    assert "fault   power-off node-a" in text
    assert "wire    node-b answers for 192.168.4.100" in text
    assert "silence" in text
    assert "power-on" not in text


def test_a_history_survives_a_file(tmp_path: Path) -> None:
    said = words("master", has_havip=True, is_open=True, seconds=1.0)
    history = replace(
        silence(5.0, fault(FAULT_AT, "cut-eni", A, "s1")), said=said, connections=connection().connections
    )
    file = tmp_path / "history.json"
    history.write(file)
    again = History.read(file)
    assert asdict(again) == asdict(history)
    assert check(again) == check(history) != []


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    file.write_text('{"seed": "1"}')
    with pytest.raises(ValueError, match="is no history"):
        History.read(file)
