"""Why a master changed, what is known of how long it took, and the names of records."""

from __future__ import annotations

import json
import logging

import pytest

from proxypool.cli.history import parse_span, record_table, scale_record_table
from proxypool.core.documents import decode, encode
from proxypool.core.errors import InvalidInput
from proxypool.core.history import (
    Heard,
    Kind,
    Name,
    Phase,
    Reason,
    Record,
    kind_of,
    last_of_each,
    name_of,
    newest,
    parse_name,
    pausing_record,
    phases,
    surplus,
    why,
)
from proxypool.core.role import Elected, Role, RoleChanged
from proxypool.core.units import brief
from proxypool.daemons.recorder import sentence
from proxypool.telemetry.failovers import AMENDED_S, FailoverClock
from proxypool.telemetry.logs import JsonFormatter
from tests.unit.builders import pair

CLAIM = 100.0


def heard(age_s: float | None, priority: int = 240, interval_s: float = 0.05) -> Heard:
    """The last advertisement came so long before the claim."""
    return Heard(None if age_s is None else CLAIM - age_s, None, priority, interval_s)


@pytest.mark.parametrize(
    ("last", "left_at", "was_elected", "reason"),
    [
        (heard(0.16), None, False, Reason.SILENT),
        (heard(0.16), None, True, Reason.SILENT),
        (heard(0.16), 50.0, False, Reason.SILENT),
        (heard(0.011, interval_s=0.01), None, True, Reason.ELECTION),
        (heard(0.021, interval_s=0.01), None, True, Reason.SILENT),
        (heard(0.003, priority=0), None, False, Reason.GAVE_UP),
        (heard(3600, priority=0), None, True, Reason.GAVE_UP),
        (heard(0.01, priority=200), None, True, Reason.ELECTION),
        (heard(0.01, priority=100), None, True, Reason.UNFIT),
        (heard(0.01, priority=1), None, False, Reason.UNFIT),
        (heard(0.01, priority=240), None, False, Reason.UNKNOWN),
        (heard(None), None, True, Reason.COLD_START),
        (heard(None), 99.0, True, Reason.RETURNED),
        (heard(10), 99.0, False, Reason.RETURNED),
        (None, None, True, Reason.ELECTION),
        (None, 99.0, False, Reason.UNKNOWN),
    ],
)
def test_why(last: Heard | None, left_at: float | None, was_elected: bool, reason: Reason) -> None:  # noqa: FBT001
    """From what was heard of the old master, and whether we were elected before."""
    assert why(last, CLAIM, left_at, was_elected=was_elected) is reason


def test_an_advertisement_that_comes_after_the_claim_does_not_count() -> None:
    """A master that lives and was not heard for a while: it was silent at the claim, whatever it says a moment later."""
    late = Heard(CLAIM + 0.002, CLAIM - 0.17, 240, 0.05)
    assert why(late, CLAIM, None, was_elected=False) is Reason.SILENT
    assert phases(Reason.SILENT, late, CLAIM, CLAIM + 0.003, None)[Phase.DETECTION] == pytest.approx(0.17)


@pytest.mark.parametrize(
    ("reason", "last", "left_at", "expected"),
    [
        (Reason.SILENT, heard(0.16), None, {"detection": 0.16, "gate": 0.002, "blackout": 0.162}),
        (Reason.GAVE_UP, heard(0.003, 0), None, {"detection": 0.003, "gate": 0.002, "blackout": 0.005}),
        (Reason.ELECTION, heard(0.01, 200), None, {"gate": 0.002, "blackout": 0.002}),
        (Reason.UNFIT, heard(0.01, 100), None, {"gate": 0.002, "blackout": 0.002}),
        (Reason.RETURNED, heard(None), 99.0, {"gate": 0.002, "blackout": 1.002}),
        (Reason.COLD_START, heard(None), None, {"gate": 0.002}),
        (Reason.UNKNOWN, None, None, {"gate": 0.002}),
    ],
)
def test_phases(reason: Reason, last: Heard | None, left_at: float | None, expected: dict[str, float]) -> None:
    """What cannot be known is left out, not guessed."""
    assert phases(reason, last, CLAIM, CLAIM + 0.002, left_at) == pytest.approx(expected)
    without_gate = {name: value for name, value in expected.items() if name == "detection"}
    assert phases(reason, last, CLAIM, None, left_at) == pytest.approx(without_gate)


def test_every_reason_has_a_kind() -> None:
    """A planned change and a start are no failovers."""
    assert {reason for reason in Reason if kind_of(reason) is Kind.SWITCHOVER} == {Reason.SWITCHOVER, Reason.ELECTION}
    assert {reason for reason in Reason if kind_of(reason) is Kind.START} == {Reason.COLD_START}


# ---- names -----------------------------------------------------------------------------------------------------------


def record(at: float = 1000.5, to: str = "n2", name: str = "p1", **more: object) -> Record:
    """A failover of s1/p1."""
    given: dict[str, object] = {"kind": "failover", "reason": "silent", "from_node": "n1", **more}
    return Record(subnet="s1", pair=name, to_node=to, at=at, **given)  # type: ignore[arg-type]


def test_a_name_survives_what_becomes_known_later() -> None:
    """So that writing a record again is no second one; names sort by time."""
    name = name_of(record())
    assert name == Name(1000500, "s1", "p1", "n2") == parse_name(name.text)
    assert name == name_of(record(epoch=7, phases={"election": 3.0}))
    assert name.text < name_of(record(at=1_700_000_000.0)).text


@pytest.mark.parametrize("text", ["", "x", "1_s1_p1", "x_s1_p1_n1", "1_s1_p1_n1_more"])
def test_other_names_are_nobodys(text: str) -> None:
    """Somebody may have put anything there."""
    assert parse_name(text) is None


def test_the_newest_of_what_is_asked_for() -> None:
    """Of the pool, a subnet, a pair; since a time; strange names are left out."""
    names = [name_of(record(at=float(at), name=f"p{at % 2}")).text for at in (4, 2, 1, 3)] + ["strange"]
    assert newest(names, 2) == [name_of(record(at=3.0, name="p1")).text, name_of(record(at=4.0, name="p0")).text]
    assert newest(names, 9, subnet="s1", pair="p1") == [name_of(record(at=float(at))).text for at in (1, 3)]
    assert newest(names, 9, subnet="s2") == []
    assert newest(names, 9, since=3.5) == [name_of(record(at=4.0, name="p0")).text]


def test_a_pause_is_no_change_of_master_and_none_of_size() -> None:
    """Its name says so, so that nobody takes an operator's order for a master."""
    spec = pair("p1")
    texts = [
        name_of(pausing_record(kind, spec, at, "ann@ops", "x")).text
        for kind, at in ((Kind.PAUSE, 1.0), (Kind.RESUME, 2.0))
    ]
    assert texts == ["0000000001000_s1_p1_-pause", "0000000002000_s1_p1_-resume"]
    assert last_of_each(texts) == {}
    assert newest(texts, 10, subnet="s1") == texts
    assert newest(texts, 10, is_scaling=True) == []


def test_the_last_of_each_pair() -> None:
    """Of a thousand names in one pass."""
    names = [name_of(record(at=float(at), name=f"p{at % 2}")).text for at in (4, 2, 1, 3)] + ["strange"]
    assert last_of_each(names) == {
        "s1/p0": name_of(record(at=4.0, name="p0")).text,
        "s1/p1": name_of(record(at=3.0)).text,
    }


@pytest.mark.parametrize("kind", ["scale-out", "scale-in", "replace"])
def test_a_change_of_size_is_no_change_of_master(kind: str) -> None:
    """A daemon that starts asks for the last change of its pair's master; `scale history` for the other ones."""
    master, size = record(at=1.0), record(at=2.0, kind=kind)
    names = [name_of(master).text, name_of(size).text]
    assert last_of_each(names) == {"s1/p1": names[0]}
    assert newest(names, 9) == names
    assert newest(names, 9, is_scaling=True) == names[1:]
    assert parse_name(names[1]) == Name(2000, "s1", "p1", "")


def test_the_oldest_go_first_and_strange_ones_before_them() -> None:
    """Nothing is removed while there is room."""
    names = [name_of(record(at=float(at))).text for at in range(5)]
    assert surplus([*names, "strange"], 4) == ["strange", names[0]]
    assert surplus(names, 5) == []


def test_a_document_keeps_what_a_later_version_added() -> None:
    """Fields that are not known, and kinds that are not."""
    data = b'{"v":1,"kind":"scaling","reason":"load","at":1.0,"pairs":3}'
    found = decode(data, Record, what="record")
    assert (found.kind, found.subnet, found.to_node) == ("scaling", "", "")
    assert json.loads(encode(found, data))["pairs"] == 3
    assert json.loads(encode(record()))["from"] == "n1"


# ---- the clock -------------------------------------------------------------------------------------------------------


class Watched:
    """A clock of node n2 with a time of its own."""

    def __init__(self, last: Heard | None) -> None:
        self.now, self.last = CLAIM, last
        self.told: list[Record] = []
        self.clock = FailoverClock(
            "n2", self.told.append, lambda: self.now, lambda: self.now + 1e6, lambda _pair: self.last
        )

    def master(self, old: Role = Role.BACKUP, *, opens: bool = True, was_elected: bool = False) -> None:
        """keepalived claims; 1 ms later the gate is open, another later the role is told."""
        self.clock.claimed(PAIR, self.now)
        self.now += 0.001
        if opens:
            self.clock.gate_opened(PAIR)
        self.now += 0.001
        self.changed(old, Role.MASTER, was_elected=was_elected)

    def changed(self, old: Role, new: Role, *, was_elected: bool = False, is_aside: bool = False) -> None:
        """The machine says so."""
        self.clock.role_changed(
            PAIR,
            RoleChanged(old, new, "", 7, was_elected),
            is_aside=is_aside,
            elected="n1",
            carried_over=12,
        )


PAIR = pair()


def test_a_failover_is_told_at_once_and_again_when_it_is_confirmed() -> None:
    """One name; the election's epoch in the end."""
    watched = Watched(heard(0.16))
    watched.master()
    (first,) = watched.told
    assert (first.kind, first.reason, first.from_node, first.to_node) == ("failover", "silent", "n1", "n2")
    assert (first.epoch, first.by, first.carried_over) == (7, "n2", 0)
    assert first.at == pytest.approx(1e6 + CLAIM)
    assert first.phases == pytest.approx({"detection": 0.16, "gate": 0.001, "blackout": 0.161})
    watched.now += 3.0
    watched.clock.elected(PAIR, Elected("n2", 9))
    watched.clock.elected(PAIR, Elected("n2", 9))
    _, second = watched.told
    assert second.epoch == 9
    assert second.phases["election"] == pytest.approx(3.002)
    assert name_of(first) == name_of(second)


def test_connections_are_carried_over_by_a_pair_with_an_egress_address_only() -> None:
    """Entries of another member's time are worth nothing without it."""
    watched = Watched(heard(0.16))
    clock, with_egress = watched.clock, pair(egress="172.16.101.20")
    clock.role_changed(
        with_egress,
        RoleChanged(Role.BACKUP, Role.MASTER, "", 7, was_elected=False),
        is_aside=False,
        elected=None,
        carried_over=12,
    )
    assert [found.carried_over for found in watched.told] == [12]


def test_a_gate_that_opens_late_ends_the_blackout_late() -> None:
    """The namespace was not ready, or a lease was waited for."""
    watched = Watched(heard(0.16))
    watched.master(opens=False)
    watched.now = CLAIM + 2.0
    watched.clock.gate_opened(PAIR)
    watched.clock.gate_opened(PAIR)
    first, second = watched.told
    assert first.phases == pytest.approx({"detection": 0.16})
    assert second.phases == pytest.approx({"detection": 0.16, "gate": 2.0, "blackout": 2.16})


def test_a_gate_of_before_is_not_taken_for_this_ones() -> None:
    """It was opened, closed, and is not open yet."""
    watched = Watched(heard(0.16))
    watched.clock.gate_opened(PAIR)
    watched.now = watched.now + 5
    watched.last = Heard(watched.now - 0.16, None, 240, 0.05)
    watched.master(opens=False)
    assert watched.told[0].phases == pytest.approx({"detection": 0.16})


def test_what_comes_much_later_is_another_story() -> None:
    """An election or a repaired gate minutes after."""
    watched = Watched(heard(0.16))
    watched.master(opens=False)
    watched.now += AMENDED_S
    watched.clock.gate_opened(PAIR)
    watched.clock.elected(PAIR, Elected("n2", 9))
    assert len(watched.told) == 1


def test_a_planned_change_is_confirmed_before_it_happens() -> None:
    """No election phase."""
    watched = Watched(heard(0.01, 200))
    watched.master(was_elected=True)
    watched.clock.elected(PAIR, Elected("n2", 9))
    (only,) = watched.told
    assert (only.kind, only.reason, only.from_node) == ("switchover", "election", "n1")


def test_a_master_that_stands_aside_tells_it_as_nobody_else_can() -> None:
    """The other one was master all the time."""
    watched = Watched(heard(0.16))
    watched.master()
    watched.changed(Role.MASTER, Role.FAULT, is_aside=True)
    assert [(found.reason, found.from_node, found.to_node) for found in watched.told[1:]] == [("tie-break", "n2", "n1")]


def test_a_master_that_returns_without_anybody_in_between() -> None:
    """keepalived was restarted while the other member was dead."""
    watched = Watched(heard(500.0))
    watched.now += 1.0
    watched.changed(Role.MASTER, Role.FAULT)
    watched.now += 2.0
    watched.master(Role.FAULT)
    (only,) = watched.told
    assert (only.reason, only.from_node, only.to_node) == ("returned", "n2", "n2")
    assert only.phases["blackout"] == pytest.approx(2.001)


def test_a_daemon_that_finds_itself_master_has_not_seen_why() -> None:
    """Whether it is news the recorder finds out."""
    watched = Watched(heard(0.01))
    watched.changed(Role.INIT, Role.MASTER, was_elected=True)
    (only,) = watched.told
    assert (only.reason, only.phases, only.carried_over) == ("unseen", {}, None)


@pytest.mark.parametrize(
    ("old", "new"), [(Role.INIT, Role.BACKUP), (Role.MASTER, Role.BACKUP), (Role.BACKUP, Role.FAULT)]
)
def test_other_changes_of_role_are_no_records(old: Role, new: Role) -> None:
    """The new master tells it."""
    watched = Watched(heard(0.01))
    watched.changed(old, new)
    assert watched.told == []


def test_without_an_ear_the_claim_to_gate_is_known_all_the_same() -> None:
    """Detection is not."""
    watched = Watched(None)
    watched.master()
    (only,) = watched.told
    assert (only.reason, only.from_node) == ("unknown", "n1")
    assert only.phases == pytest.approx({"gate": 0.001})


# ---- how it is told --------------------------------------------------------------------------------------------------

FAILOVER = record(
    at=1_795_545_121.117,
    epoch=38,
    phases={"detection": 0.1618, "gate": 0.0017, "blackout": 0.1635, "election": 3.15},
    carried_over=0,
)
SWITCHOVER = record(at=1_795_545_131.150, kind="switchover", reason="switchover", who="ann@ops", note="new kernel")


def test_the_table_fits_80_columns() -> None:
    """With names of a usual length; what is not known is a dash."""
    lines = record_table((FAILOVER, SWITCHOVER), wide=False).splitlines()
    assert [line.split()[2:] for line in lines[1:]] == [
        ["s1/p1", "failover", "n1", "n2", "silent", "162", "ms", "164", "ms"],
        ["s1/p1", "switchover", "n1", "n2", "switchover", "-", "-"],
    ]
    assert max(map(len, lines)) <= 80


def test_a_terminal_shows_more_if_there_is_room() -> None:
    """Who and why first; a pipe, which has no width, keeps its columns for scripts."""
    usual = record_table((FAILOVER, SWITCHOVER), wide=False)
    assert record_table((FAILOVER, SWITCHOVER), wide=False, width=80) == usual
    roomy = record_table((FAILOVER, SWITCHOVER), wide=False, width=110).splitlines()
    assert roomy[0].split()[-2:] == ["WHO", "NOTE"]
    assert roomy[2].endswith("ann@ops  new kernel")
    widest = record_table((FAILOVER, SWITCHOVER), wide=False, width=200).splitlines()
    assert widest[0].split()[-6:] == ["GATE", "ELECTION", "CARRIED", "EPOCH", "WHO", "NOTE"]


GREW = record(
    kind="scale-out",
    reason="load",
    from_node="",
    to="",
    name="p2",
    signals={"bytes": 0.2, "conntrack": 1.62},
    pairs_before=2,
    pairs_after=3,
    took_s=9.4,
    by="ctl-1:771",
)
FAILED = record(
    kind="scale-out", reason="panic", to="", name="p3", pairs_before=3, pairs_after=3, error="no node with room"
)


def test_changes_of_size_stand_among_changes_of_master() -> None:
    """From so many pairs to so many."""
    lines = record_table((FAILOVER, GREW), wide=False).splitlines()
    assert lines[2].split()[2:] == ["s1/p2", "scale-out", "2", "pairs", "3", "pairs", "load", "-", "-"]
    assert max(map(len, lines)) <= 80
    assert record_table((FAILED,), wide=True).endswith("  no node with room")


def test_changes_of_size_in_a_table_of_their_own() -> None:
    """With the busiest signal, wide with all, and how it ended."""
    lines = scale_record_table((GREW, FAILED), wide=False).splitlines()
    assert [line.split()[2:] for line in lines[1:]] == [
        ["s1/p2", "scale-out", "2", "->", "3", "load", "conntrack", "1.62", "9.4", "s", "done"],
        ["s1/p3", "scale-out", "3", "->", "3", "panic", "-", "-", "no", "node", "with", "room"],
    ]
    assert max(map(len, lines[:2])) <= 80
    wide = scale_record_table((GREW,), wide=True)
    assert "conntrack 1.62,bytes 0.20" in wide
    assert "ctl-1:771" in wide


def test_the_wide_table_fits_200_columns() -> None:
    """With everything."""
    lines = record_table((FAILOVER, SWITCHOVER), wide=True).splitlines()
    assert lines[0].split()[-6:] == ["GATE", "ELECTION", "CARRIED", "EPOCH", "WHO", "NOTE"]
    assert lines[1].split()[-8:] == ["1.7", "ms", "3.15", "s", "0", "38", "-", "-"]
    assert lines[2].endswith("ann@ops  new kernel")
    assert max(map(len, lines)) <= 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "0.0 ms"),
        (0.00994, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (12.34, "12.3 s"),
    ],
)
def test_a_short_time(seconds: float | None, text: str) -> None:
    """Two digits or three."""
    assert brief(seconds) == text


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("15m", 900.0), ("1h", 3600.0), ("7d", 604800.0)])
def test_a_span(text: str, seconds: float) -> None:
    """As people say it."""
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1.5h", "1w"])
def test_no_span(text: str) -> None:
    """It says what would do."""
    with pytest.raises(InvalidInput, match="15m"):
        parse_span(text)


def test_one_line_says_everything() -> None:
    """As text, and as fields of a JSON line."""
    assert sentence(FAILOVER) == (
        "failover s1/p1: n1 -> n2: silent; detection 0.1618 s, gate 0.0017 s, blackout 0.1635 s, election 3.1500 s; "
        "0 connections carried over; epoch 38"
    )
    assert sentence(SWITCHOVER) == "switchover s1/p1: n1 -> n2: switchover by ann@ops (new kernel); epoch 0"
    line = logging.LogRecord("x", logging.INFO, "", 0, "message", (), None)
    line.fields = {"event": "change-of-master", "reason": "silent"}
    found = json.loads(JsonFormatter().format(line))
    assert (found["message"], found["event"], found["reason"]) == ("message", "change-of-master", "silent")


def test_a_change_that_was_prepared_is_no_failover_however_late_the_last_advertisement_is() -> None:
    """A busy old master is late, not dead."""
    watched = Watched(heard(0.16))
    watched.clock.role_changed(
        PAIR,
        RoleChanged(Role.BACKUP, Role.MASTER, "", 7, was_elected=True),
        is_aside=False,
        elected="n2",
        carried_over=None,
        is_prepared=True,
    )
    assert [found.reason for found in watched.told] == ["election"]
