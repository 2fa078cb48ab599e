"""Draining: what is refused, what is left, how fast it goes."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from proxypool.core.draining import (
    FRESH_S,
    SETTLE_S,
    Left,
    Pace,
    Reason,
    Refusal,
    Risk,
    RiskNotAccepted,
    Unknown,
    connections_left,
    drain_refusals,
    drained,
    egress_refusals,
    pair_left,
    removal_refusals,
    require_accepted,
    undrained,
)
from proxypool.core.model import MemberStatus, PairSpec, PairState, Snapshot
from tests.unit.builders import host, pair, snapshot

NOW = 10_000.0
DRAINING = PairState.DRAINING
EMPTY, BUSY, UNSURE = Left(0), Left(3), Left(None, Unknown.NO_MASTER)


def status(node: str, role: str = "master", connections: int | None = 0, at: float = NOW) -> MemberStatus:
    is_master = role == "master"
    return MemberStatus(
        node=node, role=role, vrrp=role, gate=is_master, has_havip=is_master, at=at, connections=connections
    )


def pool(*pairs: PairSpec, in_use: bool = True) -> Snapshot:
    return snapshot(pairs=pairs, hosts=[host()] if in_use else [])


def what(refusals: tuple[Refusal, ...]) -> list[tuple[str, str]]:
    return [(refusal.risk.value, refusal.reason.value) for refusal in refusals]


# ---- what is refused ----


def test_the_last_active_pair_is_not_drained() -> None:
    """New connections would have nowhere to go."""
    alone, other = pair("p1"), pair("p2", state=DRAINING)
    (refusal,) = drain_refusals(alone, {"p1": alone, "p2": other})
    assert (refusal.risk, refusal.reason) == (Risk.STOP_NEW_CONNECTIONS, Reason.LAST_ACTIVE)
    assert refusal.sentence.startswith("pair s1/p1 is the last active pair of subnet s1")


@pytest.mark.parametrize("new", [None, IPv4Address("172.16.101.30")])
def test_another_egress_address_breaks_what_left_with_the_old_one(new: IPv4Address | None) -> None:
    """Nothing, if hosts do not use the subnet, or the pair is drained and empty; a first one breaks nothing either."""
    had = pair("p1", egress="172.16.101.20")
    (refusal,) = egress_refusals(had, new, UNSURE, is_in_use=True)
    assert (refusal.risk, refusal.reason) == (Risk.DROP_CONNECTIONS, Reason.EGRESS_MOVES)
    assert str(RiskNotAccepted([refusal])) == (
        "pair s1/p1 has another egress address then: the connections that left with this one break: "
        "drain it first with `proxypool pair drain s1 p1 --wait`; to do it anyway give --accept-risk=drop-connections"
    )
    drained_pair = pair("p1", egress="172.16.101.20", state=DRAINING)
    assert egress_refusals(drained_pair, new, BUSY, is_in_use=True)
    assert egress_refusals(drained_pair, new, UNSURE, is_in_use=True)
    assert egress_refusals(drained_pair, new, EMPTY, is_in_use=True) == ()
    assert egress_refusals(had, new, UNSURE, is_in_use=False) == ()
    assert egress_refusals(had, had.egress_address, BUSY, is_in_use=True) == ()
    assert egress_refusals(pair("p1"), new, BUSY, is_in_use=True) == ()


def test_one_of_several_is_drained_and_what_drains_is_no_risk() -> None:
    """Doing it again must not ask for more than doing it once."""
    first, second = pair("p1"), pair("p2")
    assert drain_refusals(first, {"p1": first, "p2": second}) == ()
    assert drain_refusals(pair("p1", state=DRAINING), {"p1": pair("p1", state=DRAINING)}) == ()


@pytest.mark.parametrize(
    ("which", "seen", "left", "refused"),
    [
        ("active, one of two", pool(pair(), pair("p2")), UNSURE, [("drop-connections", "not-draining")]),
        ("draining and empty, one of two", pool(pair(state=DRAINING), pair("p2")), EMPTY, []),
        ("draining, busy", pool(pair(state=DRAINING), pair("p2")), BUSY, [("drop-connections", "not-empty")]),
        ("draining, unsure", pool(pair(state=DRAINING), pair("p2")), UNSURE, [("drop-connections", "not-known")]),
        ("drained, the last one", pool(pair(state=DRAINING)), EMPTY, [("stop-new-connections", "last-pair")]),
        (
            "the only pair",
            pool(pair()),
            UNSURE,
            [("stop-new-connections", "last-pair"), ("drop-connections", "not-draining")],
        ),
        (
            "the last active one",
            pool(pair(), pair("p2", state=DRAINING)),
            UNSURE,
            [("stop-new-connections", "last-active"), ("drop-connections", "not-draining")],
        ),
        ("nobody uses the subnet", pool(pair(), in_use=False), UNSURE, []),
        ("nobody uses it, but it is busy", pool(pair(), in_use=False), BUSY, [("drop-connections", "not-draining")]),
        ("cannot be read", pool(pair("p2")), Left(None), [("drop-connections", "not-draining")]),
    ],
)
def test_what_keeps_a_pair_from_being_removed(
    which: str, seen: Snapshot, left: Left, refused: list[tuple[str, str]]
) -> None:
    """Where nobody depends on it, it goes at once."""
    assert what(removal_refusals("s1", "p1", seen, left)) == refused, which


def test_a_removal_that_drains_first_breaks_nothing() -> None:
    """What is left is waited for; that the subnet has no other pair stays a risk."""
    assert removal_refusals("s1", "p1", pool(pair(), pair("p2")), UNSURE, will_drain=True) == ()
    assert what(removal_refusals("s1", "p1", pool(pair()), UNSURE, will_drain=True)) == [
        ("stop-new-connections", "last-pair")
    ]


def test_a_risk_is_accepted_by_its_name_only() -> None:
    """The error names every one that is open, and the way that has none."""
    refusals = removal_refusals("s1", "p1", pool(pair()), UNSURE)
    require_accepted(refusals, tuple(Risk))
    with pytest.raises(RiskNotAccepted) as caught:
        require_accepted(refusals, (Risk.STOP_NEW_CONNECTIONS,))
    assert "--accept-risk=drop-connections" in str(caught.value)
    assert "--accept-risk=stop-new-connections" not in str(caught.value)
    assert "proxypool pair remove s1 p1 --drain" in str(caught.value)
    with pytest.raises(RiskNotAccepted, match="--accept-risk=stop-new-connections --accept-risk=drop-connections"):
        require_accepted(refusals, ())


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_one_sentence_about_the_pair(reason: Reason) -> None:
    """Fits into a line of an error."""
    sentence = Refusal(Risk.DROP_CONNECTIONS, reason, "s1", "p1", Left(1)).sentence
    assert "pair s1/p1" in sentence
    assert "\n" not in sentence
    assert not sentence.endswith(".")


# ---- what is left ----


def test_what_the_masters_counted_is_left() -> None:
    """Both of them while two are; a backup has no say."""
    spec = pair(state=DRAINING, since=NOW - 60)
    both = [status("n1", connections=2), status("n2", connections=3)]
    assert connections_left(spec, both, NOW) == Left(5)
    assert connections_left(spec, [status("n1"), status("n2", "backup", None)], NOW) == Left(0)


@pytest.mark.parametrize(
    ("statuses", "why"),
    [
        ([], Unknown.NO_MASTER),
        ([status("n1", "backup"), status("n2", "fault")], Unknown.NO_MASTER),
        ([status("n1", connections=None)], Unknown.NOT_COUNTED),
        ([status("n1"), status("n2", connections=None)], Unknown.NOT_COUNTED),
        ([status("n1", at=NOW - FRESH_S - 0.1)], Unknown.STALE),
        ([status("n1", at=NOW + FRESH_S + 0.1)], Unknown.STALE),
    ],
)
def test_not_known_is_not_zero(statuses: list[MemberStatus], why: Unknown) -> None:
    """Nobody to ask, not counted yet, or too long ago."""
    assert connections_left(pair(state=DRAINING, since=NOW - 60), statuses, NOW) == Left(None, why)


def test_a_number_is_fresh_until_it_is_not() -> None:
    """At the threshold."""
    spec = pair(state=DRAINING, since=NOW - 60)
    assert connections_left(spec, [status("n1", at=NOW - FRESH_S)], NOW) == Left(0)


def test_zero_counts_only_when_hosts_have_had_the_time_to_stop() -> None:
    """One may still be about to choose the pair. What is there is there."""
    spec = pair(state=DRAINING, since=NOW)
    assert connections_left(spec, [status("n1", at=NOW + 1)], NOW + 1) == Left(None, Unknown.JUST_BEGUN)
    assert connections_left(spec, [status("n1", connections=4)], NOW) == Left(4)
    assert connections_left(spec, [status("n1", at=NOW + SETTLE_S)], NOW + SETTLE_S) == Left(0)


def test_what_is_left_of_a_pair_that_cannot_be_read_is_not_known() -> None:
    """Its document is not there."""
    seen = pool(pair(state=DRAINING, since=1.0))
    statuses = {"s1/p1": {"n1": status("n1", connections=7)}}
    assert pair_left(seen, statuses, "s1", "p1", NOW) == Left(7)
    assert pair_left(seen, statuses, "s1", "p9", NOW).count is None


# ---- the edit ----


def test_draining_twice_keeps_the_first_moment() -> None:
    """And undoing it leaves nothing behind."""
    once = drained(pair(weight=3), 5.0)
    assert (once.state, once.draining_since, once.weight) == (DRAINING, 5.0, 3)
    assert drained(once, 9.0) == once
    assert undrained(once) == undrained(pair(weight=3)) == pair(weight=3)
    assert drained(undrained(once), 9.0).draining_since == 9.0


def test_a_moment_that_was_forgotten_is_set() -> None:
    """Somebody wrote the state by hand."""
    assert drained(pair(state=DRAINING), 5.0).draining_since == 5.0


# ---- the pace ----


def test_the_pace_is_that_of_the_last_seconds() -> None:
    """From it follows how long it will take."""
    pace = Pace()
    assert pace.per_s() is None
    pace.observe(0.0, 100)
    assert pace.per_s() is None, "nothing to compare with"
    pace.observe(10.0, 80)
    assert pace.per_s() == pytest.approx(2.0)
    assert pace.remaining_s(80) == pytest.approx(40.0)
    for at in range(11, 40):
        pace.observe(float(at), 80)
    assert pace.per_s() == 0.0, "long ago does not count"
    assert pace.remaining_s(80) is None


def test_a_pair_that_grows_has_no_end() -> None:
    """Connections that were being opened when it began."""
    pace = Pace()
    pace.observe(0.0, 10)
    pace.observe(2.0, 14)
    assert pace.per_s() == pytest.approx(-2.0)
    assert pace.remaining_s(14) is None
